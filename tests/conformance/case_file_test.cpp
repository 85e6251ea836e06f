#include "case_file.h"

#include <stdexcept>

#include <gtest/gtest.h>

namespace hearth::conformance {
namespace {

constexpr std::string_view kText = R"(# A rule.
script  "a" "b\n\xFF"
set     context 64

header X-Test: 1
POST    /v1/completions  {"prompt":
  "x"}
----
200     application/json
header  x-test: ...
{"a": 1,
 ...}
====
hold
await inside=0
====
GET /health
----
200
...
)";

TEST(CaseFile, ReadsSettingsStepsAndExpectations) {
    auto const file = CaseFile::parse("x.case", kText);
    ASSERT_EQ(file.settings.size(), 2U);
    EXPECT_EQ(file.settings[0].rest, R"("a" "b\n\xFF")");
    ASSERT_EQ(file.exchanges.size(), 3U);
    auto const& first = file.exchanges[0];
    ASSERT_EQ(first.steps.size(), 2U);
    EXPECT_EQ(first.steps[0].word, "header");
    EXPECT_EQ(first.steps[1].rest, "/v1/completions");
    EXPECT_EQ(first.body, "{\"prompt\":\n  \"x\"}");
    EXPECT_EQ(first.expected.status, 200U);
    EXPECT_EQ(first.expected.content_type, "application/json");
    EXPECT_EQ(first.expected.headers.size(), 1U);
    EXPECT_EQ(first.expected.body, "{\"a\": 1,\n ...}\n");
    EXPECT_FALSE(file.exchanges[1].has_expected);
    EXPECT_EQ(file.exchanges[2].expected.content_type, "");
}

TEST(CaseFile, RewritesOnlyTheExpectationsGiven) {
    auto const file = CaseFile::parse("x.case", kText);
    EXPECT_EQ(file.rewritten({}), kText);
    auto const text = file.rewritten({{2, "404 text/plain\nnone\n"}});
    EXPECT_TRUE(text.ends_with("GET /health\n----\n404 text/plain\nnone\n"));
    EXPECT_NE(text.find("{\"a\": 1,"), std::string::npos);
}

TEST(CaseFile, NamesTheLineOfAMistake) {
    for (std::string_view const text :
         {"", "# only a comment\n", "GET /\n", "hold\n----\n200\n", "GET /\n----\n", "GET /\n----\nok\n"})
        EXPECT_THROW((void)CaseFile::parse("x.case", text), std::runtime_error) << text;
}

TEST(TakeQuoted, ReadsEscapes) {
    std::string_view text = R"("a\"\\\n\x41\xe2" rest)";
    EXPECT_EQ(take_quoted(text), "a\"\\\nA\xe2");
    EXPECT_EQ(text, "rest");
    std::string_view open = "\"abc";
    EXPECT_THROW((void)take_quoted(open), std::runtime_error);
}

TEST(TakeWord, KeepsAMacroWhole) {
    std::string_view text = "/a@{3 x \"b\"}c  {\"d\": 1}";
    EXPECT_EQ(take_word(text), "/a@{3 x \"b\"}c");
    EXPECT_EQ(text, "{\"d\": 1}");
    text = "@{3";
    EXPECT_EQ(take_word(text), "@{3");
    EXPECT_EQ(text, "");
}

TEST(Expand, RepeatsTexts) {
    EXPECT_EQ(expand("a@{3 x \"[]\"}b"), "a[][][]b");
    EXPECT_EQ(expand("no macro @ {3}"), "no macro @ {3}");
    EXPECT_THROW((void)expand("@{x}"), std::runtime_error);
}

}  // namespace
}  // namespace hearth::conformance
