#include "digest/sha256.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>

#include <fmt/format.h>
#include <unistd.h>

namespace hearth::digest {
namespace {

TEST(Sha256, AgreesWithTheStandardsExamples) {
    EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// 55 and 56 bytes: the length just fits into the last block, or needs another.
TEST(Sha256, PadsAtEveryLengthOfABlock) {
    EXPECT_EQ(sha256_hex(std::string(55, 'a')), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    EXPECT_EQ(sha256_hex(std::string(56, 'a')), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
    EXPECT_EQ(sha256_hex(std::string(64, 'a')), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

TEST(Sha256, DoesNotDependOnPortions) {
    std::string text;
    for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7);
    for (std::size_t const portion : {1U, 3U, 63U, 64U, 65U, 127U, 128U, 999U}) {
        Sha256 hash;
        for (std::size_t at = 0; at < text.size(); at += portion)
            hash.add(std::as_bytes(std::span(text).subspan(at, std::min(portion, text.size() - at))));
        EXPECT_EQ(hash.finish(), sha256_hex(text)) << portion;
    }
}

class Sha256File : public ::testing::Test {
protected:
    std::filesystem::path const path_ =
        std::filesystem::path(::testing::TempDir()) / fmt::format("sha256-{}", ::getpid());
    ~Sha256File() override { std::filesystem::remove(path_); }
};

TEST_F(Sha256File, IsReadInPieces) {
    std::string const text(3'000'001, 'x');
    std::ofstream(path_, std::ios::binary) << text;
    int pieces = 0;
    auto const hash = sha256_of_file(path_, [&] { return ++pieces > 100; });
    ASSERT_TRUE(hash) << hash.error().message;
    EXPECT_EQ(*hash, sha256_hex(text));
    EXPECT_EQ(pieces, 4) << "of 1 MiB, and the end";
}

TEST_F(Sha256File, CanBeStopped) {
    std::ofstream(path_, std::ios::binary) << std::string(3'000'001, 'x');
    int pieces = 0;
    auto const hash = sha256_of_file(path_, [&] { return ++pieces == 2; });
    ASSERT_FALSE(hash);
    EXPECT_EQ(hash.error().code, Code::cancelled);
}

TEST_F(Sha256File, SaysWhatIsNotThere) {
    auto const hash = sha256_of_file(path_);
    ASSERT_FALSE(hash);
    EXPECT_EQ(hash.error().code, Code::not_found);
    EXPECT_EQ(sha256_of_file(::testing::TempDir()).error().code, Code::io) << "a folder";
}

TEST(Sha256, KnowsItsOwnForm) {
    EXPECT_TRUE(is_sha256(std::string(64, 'a')));
    EXPECT_FALSE(is_sha256(std::string(63, 'a')));
    EXPECT_FALSE(is_sha256(std::string(64, 'A')));
    EXPECT_FALSE(is_sha256(std::string(63, 'a') + "/"));
}

}  // namespace
}  // namespace hearth::digest
