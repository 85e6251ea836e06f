#include "api/json_document.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::api {
namespace {

std::string refusal(std::string_view text) {
    auto const document = JsonDocument::parse(text);
    return document ? "" : document.error().message;
}

TEST(JsonDocument, ReadsEveryKind) {
    auto const document = JsonDocument::parse(
        R"({"n":null,"b":true,"i":-7,"u":18446744073709551615,"f":1.5,"s":"é","a":[1,2],"o":{"x":1}})");
    ASSERT_TRUE(document);
    auto const root = document->root();
    ASSERT_EQ(root.kind(), JsonKind::object);
    EXPECT_EQ(root.size(), 8U);
    EXPECT_FALSE(root.find("n")) << "null means absent";
    EXPECT_FALSE(root.find("absent"));
    EXPECT_TRUE(root.find("b")->as_boolean());
    EXPECT_EQ(root.find("i")->as_integer(), -7);
    EXPECT_EQ(root.find("u")->kind(), JsonKind::integer);
    EXPECT_EQ(root.find("u")->as_integer(), std::nullopt) << "does not fit";
    EXPECT_EQ(root.find("f")->as_number(), 1.5);
    EXPECT_EQ(root.find("f")->as_integer(), std::nullopt);
    EXPECT_EQ(root.find("s")->as_string(), "é");
    EXPECT_EQ(root.find("a")->at(1).as_integer(), 2);
    EXPECT_EQ(root.find("o")->find("x")->as_integer(), 1);
}

TEST(JsonDocument, TakesWholeNumbersWrittenWithAPoint) {
    auto const document = JsonDocument::parse("[3.0, -0.0, 1e3, 1e300, 9007199254740993.0]");
    ASSERT_TRUE(document);
    auto const root = document->root();
    EXPECT_EQ(root.at(0).as_integer(), 3);
    EXPECT_EQ(root.at(1).as_integer(), 0);
    EXPECT_EQ(root.at(2).as_integer(), 1000);
    EXPECT_EQ(root.at(3).as_integer(), std::nullopt);
}

TEST(JsonDocument, LetsTheLastOfDuplicateNamesWin) {
    auto const document = JsonDocument::parse(R"({"a":1,"a":2})");
    ASSERT_TRUE(document);
    EXPECT_EQ(document->root().find("a")->as_integer(), 2);
}

TEST(JsonDocument, VisitsMembers) {
    auto const document = JsonDocument::parse(R"({"a":1,"b":null})");
    ASSERT_TRUE(document);
    std::vector<std::string> names;
    document->root().for_each_member([&](std::string const& name, JsonView) { names.push_back(name); });
    EXPECT_EQ(names, (std::vector<std::string>{"a", "b"}));
}

TEST(JsonDocument, NamesThePlaceOfASyntaxError) {
    EXPECT_EQ(refusal("{\"a\": 1,\n  \"b\": }"),
              "The body is not valid JSON: line 2, column 8: unexpected '}'; expected '[', '{', or a literal.");
    EXPECT_NE(refusal("{\"a\": NaN}").find("line 1, column 7"), std::string::npos) << refusal("{\"a\": NaN}");
    EXPECT_NE(refusal("{} {}").find("not valid JSON"), std::string::npos);
    EXPECT_NE(refusal("").find("not valid JSON"), std::string::npos);
    EXPECT_NE(refusal("{\"a\": \"b").find("not valid JSON"), std::string::npos);
    EXPECT_NE(refusal("\"\\").find("not valid JSON"), std::string::npos);
}

TEST(JsonDocument, RefusesWhatIsNotUtf8AndLoneSurrogates) {
    EXPECT_EQ(refusal("{\"a\": \"\xFF\"}"), "The JSON body is not valid UTF-8.");
    EXPECT_NE(refusal("{\"a\": \"\\ud800\"}"), "");
}

TEST(JsonDocument, RefusesNumbersOutOfRange) {
    EXPECT_EQ(refusal("{\"a\": 1e999}"), "The JSON body holds a number out of range.");
    EXPECT_EQ(refusal("{\"a\": 123456789012345678901234567890}"), "") << "a large number is still a number";
}

TEST(JsonDocument, BoundsTheDepthWhateverTheInput) {
    auto const nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    EXPECT_EQ(refusal(nested(kJsonDepthMax)), "");
    EXPECT_EQ(refusal(nested(kJsonDepthMax + 1)), "The JSON body is nested deeper than 64 levels.");
    EXPECT_EQ(refusal(std::string(100'000, '[')), "The JSON body is nested deeper than 64 levels.");
    EXPECT_EQ(refusal("[\"" + std::string(1000, '[') + "\"]"), "") << "brackets inside a string nest nothing";
    EXPECT_EQ(refusal("[\"\\\"" + std::string(1000, '{') + "\"]"), "");
}

TEST(JsonDocument, BoundsTheNumberOfValues) {
    std::string many = "[0";
    for (std::size_t i = 0; i < kJsonValuesMax; ++i) many += ",0";
    EXPECT_EQ(refusal(many + "]"), "The JSON body holds more than 1048576 values.");
}

}  // namespace
}  // namespace hearth::api
