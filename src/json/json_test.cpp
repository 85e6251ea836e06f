#include "json/json.h"

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::json {
namespace {

Document parse(std::string text) {
    auto document = Document::parse(std::move(text), {}, "test.json");
    EXPECT_TRUE(document) << document.error().message;
    return std::move(document).value();
}

Error refusal(std::string text, Limits const& limits = {}) {
    auto const document = Document::parse(text, limits, "test.json");
    EXPECT_FALSE(document) << text;
    return document ? Error() : document.error();
}

TEST(Json, ReadsEveryKindOfValueInTheOrderOfTheText) {
    auto const document = parse(R"( {"b": [1, -2, 2.5, true, false, null], "a": {"text": "x"}} )");
    std::vector<std::string_view> names;
    for (auto const member : document.root().members()) names.push_back(member.name);
    EXPECT_EQ(names, (std::vector<std::string_view>{"b", "a"}));

    std::vector<Kind> kinds;
    for (auto const element : document.root().find("b")->elements()) kinds.push_back(element.kind());
    EXPECT_EQ(kinds,
              (std::vector{Kind::integer, Kind::integer, Kind::number, Kind::boolean, Kind::boolean, Kind::null}));
    EXPECT_EQ(document.root().find("a")->find("text")->text(), "x");
}

TEST(Json, TellsWholeNumbersFromOthers) {
    auto const document = parse("[9223372036854775807, 9223372036854775808, 1.0, -0, 1e3]");
    std::vector<View> values;
    for (auto const value : document.root().elements()) values.push_back(value);
    EXPECT_EQ(values[0].integer(), INT64_MAX);
    EXPECT_EQ(values[1].integer(), std::nullopt);
    EXPECT_EQ(values[1].number(), 9223372036854775808.0);
    EXPECT_EQ(values[2].integer(), std::nullopt);
    EXPECT_EQ(values[3].integer(), 0);
    EXPECT_EQ(values[4].number(), 1000.0);
}

TEST(Json, DecodesEscapesInPlace) {
    auto const document = parse(R"(["\"\\\/\b\f\n\r\t", "\u00e9\u20ac\ud83d\ude80", "Ġ"])");
    std::vector<std::string_view> texts;
    for (auto const value : document.root().elements()) texts.push_back(value.text().value());
    EXPECT_EQ(texts, (std::vector<std::string_view>{"\"\\/\b\f\n\r\t", "é€🚀", "Ġ"}));
}

TEST(Json, AskingForAnotherKindGivesNothing) {
    auto const document = parse(R"({"n": null, "t": "1"})");
    EXPECT_EQ(document.root().find("n"), std::nullopt);
    EXPECT_TRUE(document.root().find_any("n")->is(Kind::null));
    EXPECT_EQ(document.root().find("t")->integer(), std::nullopt);
    EXPECT_EQ(document.root().find("t")->find("x"), std::nullopt);
    EXPECT_EQ(document.root().text(), std::nullopt);
    EXPECT_EQ(document.root().find("t")->size(), 0U);
}

TEST(Json, RefusesWhatIsNotJsonAndSaysWhere) {
    for (auto const* text : {"",
                             " ",
                             "{",
                             "[1,]",
                             "{\"a\":1,}",
                             "[1 2]",
                             "{a:1}",
                             "{\"a\" 1}",
                             "01",
                             "1.",
                             ".5",
                             "1e",
                             "-",
                             "tru",
                             "nul",
                             "+1",
                             "\"",
                             "\"\\x\"",
                             "\"\\u12\"",
                             "\"\\ud83d\"",
                             "\"\\ud83dx\"",
                             "\"\\ude80\"",
                             "\"\n\"",
                             "[] []",
                             "{} x",
                             "\"\xff\"",
                             "[1]]",
                             "NaN",
                             "1e999",
                             "'a'",
                             "[",
                             "\"\\"})
        EXPECT_EQ(refusal(text).code, Code::corrupt) << text;
    EXPECT_EQ(refusal("[1, x]").message, "test.json: byte 4: no JSON value");
}

TEST(Json, RefusesANameThatOccursTwice) {
    EXPECT_EQ(refusal(R"({"a": 1, "b": {"c": 1, "\u0063": 2}})").message,
              "test.json: byte 35: an object has the name \"c\" twice");
    std::string many = "{";
    for (int i = 0; i < 100; ++i) many += "\"" + std::to_string(i) + "\":0,";
    EXPECT_EQ(refusal(many + "\"7\":0}").code, Code::corrupt);
    EXPECT_EQ(parse(many + "\"x\":0}").root().size(), 101U);
}

TEST(Json, HoldsItsLimits) {
    Limits const small{.bytes = 20, .values = 4, .depth = 2};
    EXPECT_TRUE(Document::parse("[[1, 2]]", small, "t"));
    EXPECT_EQ(refusal("[[[]]]", small).message, "test.json: byte 2: too many levels; at most 2 are read");
    EXPECT_EQ(refusal("[1,2,3,4]", small).message, "test.json: byte 8: too many values; at most 4 are read");
    EXPECT_EQ(refusal("[                     ]", small).message, "test.json: 23 bytes of JSON; at most 20 are read");
    EXPECT_EQ(refusal(std::string(100000, '[')).code, Code::too_large);
}

}  // namespace
}  // namespace hearth::json
