#include "json_pattern.h"

#include <stdexcept>

#include <gtest/gtest.h>

namespace hearth::conformance {
namespace {

bool matches(std::string_view pattern, std::string_view json) {
    return JsonPattern::parse(pattern).mismatch(json).empty();
}

TEST(JsonPattern, MatchesEqualValuesInAnyMemberOrder) {
    EXPECT_TRUE(matches(R"({"a": 1, "b": [true, null, "x"], "c": {}})", R"({"c":{},"b":[true,null,"x"],"a":1})"));
    EXPECT_TRUE(matches("1", "1.0"));
    EXPECT_TRUE(matches("[]", "[]"));
}

TEST(JsonPattern, RefusesWhatDiffersAndSaysWhere) {
    EXPECT_EQ(JsonPattern::parse(R"({"a": [1, {"b": 2}]})").mismatch(R"({"a":[1,{"b":3}]})"),
              "$.a[1].b: expected 2, got 3");
    EXPECT_EQ(JsonPattern::parse(R"({"a": 1})").mismatch(R"({"a":1,"b":2})"), "$: unexpected member \"b\": 2");
    EXPECT_EQ(JsonPattern::parse(R"({"a": 1, "b": 2})").mismatch(R"({"a":1})"), "$: no member \"b\" in {\"a\":1}");
    EXPECT_FALSE(matches("[1]", "[1,2]"));
    EXPECT_FALSE(matches("[1,2]", "[1]"));
    EXPECT_FALSE(matches("null", "false"));
    EXPECT_FALSE(matches("\"1\"", "1"));
    EXPECT_FALSE(matches("{}", "not json"));
}

TEST(JsonPattern, LetsHolesStandForAnything) {
    EXPECT_TRUE(matches(R"({"a": ..., "b": 2})", R"({"a":{"x":[1]},"b":2})"));
    EXPECT_FALSE(matches(R"({"a": ...})", R"({"b":1})")) << "it must be there";
    EXPECT_TRUE(matches(R"({"a": 1, ...})", R"({"a":1,"b":2})"));
    EXPECT_TRUE(matches("{...}", "{}"));
    EXPECT_FALSE(matches("{...}", "[]"));
    EXPECT_TRUE(matches("[1, ...]", "[1,2,3]"));
    EXPECT_TRUE(matches("[1, ...]", "[1]"));
    EXPECT_FALSE(matches("[1, ...]", "[2]"));
    EXPECT_TRUE(matches("[..., 2]", "[1,2]"));
    EXPECT_FALSE(matches("[..., 2]", "[1,1,2]")) << "one element";
    EXPECT_TRUE(matches(R"({"id": "chatcmpl-..."})", R"({"id":"chatcmpl-77"})"));
    EXPECT_FALSE(matches(R"({"id": "chatcmpl-..."})", R"({"id":"cmpl-77"})"));
}

TEST(JsonPattern, RefusesBadPatterns) {
    for (std::string_view const pattern :
         {"", "{", "[1", "{\"a\"}", "{a: 1}", "1 2", "\"x", "{\"a\": 1, ... , \"b\": 2}", "nul"})
        EXPECT_THROW((void)JsonPattern::parse(pattern), std::runtime_error) << pattern;
}

TEST(MatchesText, LetsHolesStandForAnyText) {
    EXPECT_TRUE(matches_text("abc", "abc"));
    EXPECT_FALSE(matches_text("abc", "abcd"));
    EXPECT_TRUE(matches_text("a...d", "abcd"));
    EXPECT_TRUE(matches_text("...", ""));
    EXPECT_TRUE(matches_text("a...c...e", "abcde"));
    EXPECT_FALSE(matches_text("a...c...e", "abde"));
    EXPECT_FALSE(matches_text("a...", "ba"));
    EXPECT_FALSE(matches_text("ab...bc", "abc"));
}

TEST(StablePattern, LeavesOutWhatDiffersAndMatchesItsSource) {
    constexpr std::string_view kJson = R"({"id":"x1","object":"o","choices":[{"index":0,"created":5}],"usage":null})";
    EXPECT_EQ(stable_pattern(kJson), R"({"object": "o", "choices": [{"index": 0, ...}], "usage": null, ...})");
    EXPECT_TRUE(matches(stable_pattern(kJson), kJson));
    EXPECT_EQ(stable_pattern(R"({"id":1})"), "{...}");
}

}  // namespace
}  // namespace hearth::conformance
