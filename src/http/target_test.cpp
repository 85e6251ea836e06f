#include "http/target.h"

#include <gtest/gtest.h>

namespace hearth::http {
namespace {

TEST(Target, IsDecodedSegmentBySegment) {
    auto const target = parse_target("/v1/models/org%2Fname%3A7b/?a=%20&b");
    ASSERT_TRUE(target.has_value());
    EXPECT_EQ(target->segments, (std::vector<std::string>{"v1", "models", "org/name:7b"}));
    EXPECT_EQ(target->path, "/v1/models/org/name:7b");
    EXPECT_EQ(target->query, "a=%20&b");
    EXPECT_FALSE(target->authority.has_value());
}

TEST(Target, EmptySegmentsAndTheRootAreTolerated) {
    EXPECT_EQ(parse_target("/")->path, "/");
    EXPECT_EQ(parse_target("//v1///models//")->path, "/v1/models");
    EXPECT_EQ(parse_target("/?")->path, "/");
    EXPECT_EQ(parse_target("/a?b?c")->query, "b?c");
}

TEST(Target, TheAbsoluteFormNamesItsHost) {
    auto target = parse_target("http://example.org:81/a?b");
    ASSERT_TRUE(target.has_value());
    EXPECT_EQ(target->authority, "example.org:81");
    EXPECT_EQ(target->path, "/a");
    EXPECT_EQ(target->query, "b");
    target = parse_target("https://example.org?x");
    ASSERT_TRUE(target.has_value());
    EXPECT_EQ(target->authority, "example.org");
    EXPECT_EQ(target->path, "/");
    EXPECT_EQ(target->query, "x");
}

TEST(Target, TheAsteriskStandsAlone) {
    EXPECT_TRUE(parse_target("*")->asterisk);
    EXPECT_FALSE(parse_target("/*")->asterisk);
    EXPECT_FALSE(parse_target("**").has_value());
}

TEST(Target, WhatTwoParsersCouldReadDifferentlyIsRefused) {
    for (std::string_view const bad : {"",
                                       "a",
                                       "v1/models",
                                       "/%",
                                       "/%2",
                                       "/%zz",
                                       "/%-1",
                                       "/%+1",
                                       "/a%00b",
                                       "/%0d%0a",
                                       "/%7f",
                                       "/%1f",
                                       "/a#b",
                                       "/a b",
                                       "/a\x01",
                                       "/\xC3\xBC",
                                       "/%ff",
                                       "/%C3",
                                       "/%ED%A0%80",
                                       "/%c0%af",
                                       "/.",
                                       "/..",
                                       "/a/../b",
                                       "/%2e%2e/etc",
                                       "/.%2E",
                                       "/..%2fx",
                                       "/a%2F..%2Fb",
                                       "/a%2f.",
                                       "example.org:443",
                                       "ftp://h/x",
                                       "HTTP://h/x",
                                       "http:///x",
                                       "http://",
                                       "http://user@h/x",
                                       "://h/x"}) {
        auto const target = parse_target(bad);
        ASSERT_FALSE(target.has_value()) << bad;
        EXPECT_EQ(target.error().code, Code::invalid_argument) << bad;
    }
}

TEST(Target, DotsInsideASegmentAreOrdinary) {
    EXPECT_EQ(parse_target("/...")->path, "/...");
    EXPECT_EQ(parse_target("/.hidden/a..b")->path, "/.hidden/a..b");
}

}  // namespace
}  // namespace hearth::http
