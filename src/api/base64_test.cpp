#include "api/base64.h"

#include <string_view>

#include <gtest/gtest.h>

namespace hearth::api {
namespace {

std::string of(std::string_view text) { return base64(std::as_bytes(std::span(text))); }

// RFC 4648, section 10.
TEST(Base64, WritesTheVectorsOfTheRfc) {
    EXPECT_EQ(of(""), "");
    EXPECT_EQ(of("f"), "Zg==");
    EXPECT_EQ(of("fo"), "Zm8=");
    EXPECT_EQ(of("foo"), "Zm9v");
    EXPECT_EQ(of("foob"), "Zm9vYg==");
    EXPECT_EQ(of("fooba"), "Zm9vYmE=");
    EXPECT_EQ(of("foobar"), "Zm9vYmFy");
}

TEST(Base64, WritesEveryByte) {
    EXPECT_EQ(of(std::string_view("\xfb\xff\x00", 3)), "+/8A");
    EXPECT_EQ(of("\xff\xff\xff"), "////");
}

}  // namespace
}  // namespace hearth::api
