#include "convert/pattern.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "convert/probe_text.h"

namespace hearth::convert {
namespace {

// Every match, one behind the other, with "|" between.
std::string matches(std::string_view pattern, std::string_view text) {
    auto const parsed = Pattern::parse(pattern);
    if (!parsed) return parsed.error().message;
    auto const points = code_points(text);
    std::size_t steps = kPatternStepsMax;
    std::string out;
    for (std::size_t at = 0; at < points.size();) {
        auto const found = parsed->find(points, at, steps);
        if (!found) return found.error().message;
        if (!*found) break;
        out += (out.empty() ? "" : "|") + utf8_of(points.substr((*found)->first, (*found)->second - (*found)->first));
        at = (*found)->second;
    }
    return out;
}

constexpr auto kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr auto kLlama3 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
                         R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

TEST(Pattern, SplitsAsPublishedTokenizersDo) {
    EXPECT_EQ(matches(kGpt2, "I've  3333 нещо!!"), "I|'ve| | 3333| нещо|!!");
    EXPECT_EQ(matches(kLlama3, "'RE you 3333?\n\n  x"), "'RE| you| |333|3|?\n\n| | x");
}

TEST(Pattern, KnowsTheQuantifiers) {
    EXPECT_EQ(matches("a{2}", "aaaaa"), "aa|aa");
    EXPECT_EQ(matches("a{2,}", "aaaaa"), "aaaaa");
    EXPECT_EQ(matches("a{1,2}?", "aaa"), "a|a|a");
    EXPECT_EQ(matches("a*?b", "aab"), "aab");
    EXPECT_EQ(matches("a++ab|b", "aaab"), "b");
    EXPECT_EQ(matches("a?+a", "a"), "");
}

TEST(Pattern, KnowsClassesAndCategories) {
    EXPECT_EQ(matches("[a-c-]+", "ab-dc"), "ab-|c");
    EXPECT_EQ(matches("[^a]+", "abba"), "bb");
    EXPECT_EQ(matches(R"([\p{L}&&[^a]]+)", "abc"), "bc");
    EXPECT_EQ(matches(R"(\P{L}+)", "a1 b"), "1 ");
    EXPECT_EQ(matches(R"(\p{Lu}\p{Ll}+)", "Български"), "Български");
    EXPECT_EQ(matches(R"([]x]+)", "x]y"), "x]");
    EXPECT_EQ(matches(R"(\p{Han}+)", "我想在apple"), "我想在");
    EXPECT_EQ(matches(R"(\d+|\w+)", "ab_1"), "ab_1");
}

TEST(Pattern, LooksAhead) {
    EXPECT_EQ(matches("a(?=b)", "acab"), "a");
    EXPECT_EQ(matches("a(?!b).", "abac"), "ac");
}

TEST(Pattern, RefusesWhatItDoesNotKnow) {
    for (auto const* pattern : {"(", ")", "(?<=a)b", "a**", "*", "^a", "a$", "[a", R"(\1)", R"(\p{Xx})", R"(\p)",
                                "a{3,2}", "a{1001}", R"(\)", "(?x)", "[b-a]"})
        EXPECT_FALSE(Pattern::parse(pattern)) << pattern;
    EXPECT_FALSE(Pattern::parse(std::string(100, '(') + std::string(100, ')')));
    EXPECT_FALSE(Pattern::parse(std::string(kPatternBytesMax + 1, 'a')));
}

// The class of CVE-2025-48944: an expression that takes exponential time.
TEST(Pattern, CountsItsSteps) {
    EXPECT_NE(matches("(?:a+)+b", std::string(40, 'a')).find("more than 1000000 steps"), std::string::npos);
    EXPECT_NE(matches("(?:a|aa|a*)*c", std::string(200, 'a')).find("steps"), std::string::npos);
}

}  // namespace
}  // namespace hearth::convert
