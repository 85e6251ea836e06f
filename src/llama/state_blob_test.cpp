#include "llama/state_blob.h"

#include <gtest/gtest.h>

#include <vector>

namespace hearth::llama {
namespace {

std::vector<std::byte> sealed(std::size_t payload) {
    std::vector<std::byte> blob(kStateHeaderBytes + payload);
    for (std::size_t i = 0; i < payload; ++i) blob[kStateHeaderBytes + i] = static_cast<std::byte>(i * 7);
    seal_state(blob, {.fingerprint = 42, .positions = 17});
    return blob;
}

TEST(StateBlob, WhatIsSealedOpens) {
    for (std::size_t payload : {0U, 1U, 31U, 32U, 33U, 1000U}) {
        auto const header = open_state(sealed(payload), 42);
        ASSERT_TRUE(header) << payload;
        EXPECT_EQ(header->positions, 17U);
    }
}

TEST(StateBlob, EveryFlippedBitIsNoticed) {
    auto blob = sealed(75);
    for (std::size_t bit = 0; bit < blob.size() * 8; ++bit) {
        auto const mask = static_cast<std::byte>(1U << (bit % 8));
        blob[bit / 8] ^= mask;
        auto const header = open_state(blob, 42);
        ASSERT_FALSE(header) << "bit " << bit;
        EXPECT_EQ(header.error().code, Code::corrupt);
        blob[bit / 8] ^= mask;
    }
    EXPECT_TRUE(open_state(blob, 42));
}

TEST(StateBlob, EveryTruncationIsNoticed) {
    auto const blob = sealed(75);
    for (std::size_t size = 0; size < blob.size(); ++size)
        EXPECT_FALSE(open_state(std::span(blob).first(size), 42)) << size;
}

TEST(StateBlob, AnotherModelsBlobIsRefused) {
    auto const header = open_state(sealed(8), 43);
    ASSERT_FALSE(header);
    EXPECT_NE(header.error().message.find("another model"), std::string::npos);
    EXPECT_NE(state_fingerprint("a"), state_fingerprint("b"));
}

}  // namespace
}  // namespace hearth::llama
