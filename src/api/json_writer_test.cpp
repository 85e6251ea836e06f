#include "api/json_writer.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace hearth::api {
namespace {

std::string escaped(std::string_view text) {
    std::string out;
    append_escaped(out, text);
    return out;
}

TEST(AppendEscaped, LeavesPlainTextAlone) {
    EXPECT_EQ(escaped("Hello, world! ~/\x7f"), "Hello, world! ~/\x7f");
    EXPECT_EQ(escaped(""), "");
    EXPECT_EQ(escaped("h\xC3\xA9llo \xE2\x82\xAC \xF0\x9F\x98\x80"), "h\xC3\xA9llo \xE2\x82\xAC \xF0\x9F\x98\x80");
}

TEST(AppendEscaped, EscapesWhatJsonCannotHold) {
    EXPECT_EQ(escaped("a\"b\\c\nd\re\tf\bg\fh"), "a\\\"b\\\\c\\nd\\re\\tf\\bg\\fh");
    EXPECT_EQ(escaped(std::string_view("\0\x01\x1f", 3)), "\\u0000\\u0001\\u001f");
}

TEST(AppendEscaped, ReplacesBytesThatAreNotUtf8OncePerMaximalSubpart) {
    EXPECT_EQ(escaped("a\xFF"
                      "b"),
              "a\xEF\xBF\xBD"
              "b");
    EXPECT_EQ(escaped("\xE2\x82"), "\xEF\xBF\xBD");                                  // cut off at the end
    EXPECT_EQ(escaped("\xE2\x82x"), "\xEF\xBF\xBDx");                                // cut off in the middle
    EXPECT_EQ(escaped("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");                      // overlong
    EXPECT_EQ(escaped("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");      // surrogate
    EXPECT_EQ(escaped("\xF4\x90\x80\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // above U+10FFFF
}

TEST(AppendEscaped, YieldsValidJsonForEveryPairOfBytesAndReadsBackWhenTheyAreText) {
    for (unsigned a = 0; a < 256; ++a) {
        for (unsigned b = 0; b < 256; ++b) {
            std::string const text{static_cast<char>(a), static_cast<char>(b)};
            auto const parsed = nlohmann::json::parse('"' + escaped(text) + '"', nullptr, false);
            ASSERT_TRUE(parsed.is_string()) << a << ' ' << b;
            if (is_valid_utf8(text)) ASSERT_EQ(parsed.get<std::string>(), text) << a << ' ' << b;
        }
    }
}

TEST(JsonWriter, WritesNestedValuesWithCommasWhereTheyBelong) {
    std::string out;
    JsonWriter json(out);
    json.begin_object()
        .key("a")
        .number(1)
        .key("b")
        .begin_array()
        .null()
        .boolean(true)
        .begin_object()
        .end_object()
        .end_array();
    json.key("c").string("x\"y").key("d").begin_array().end_array().key("e").raw("[1]").end_object();
    EXPECT_EQ(out, R"({"a":1,"b":[null,true,{}],"c":"x\"y","d":[],"e":[1]})");
}

TEST(JsonWriter, WritesNumbersThatReadBackAsTheyWere) {
    std::string out;
    JsonWriter json(out);
    json.begin_array()
        .number(std::numeric_limits<std::int64_t>::min())
        .number(std::numeric_limits<std::uint64_t>::max());
    json.number(0.1).number(-1.5F).number(1e300).end_array();
    auto const parsed = nlohmann::json::parse(out);
    EXPECT_EQ(parsed[0].get<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
    EXPECT_EQ(parsed[1].get<std::uint64_t>(), std::numeric_limits<std::uint64_t>::max());
    EXPECT_EQ(parsed[2].get<double>(), 0.1);
    EXPECT_EQ(parsed[3].get<float>(), -1.5F);
    EXPECT_EQ(parsed[4].get<double>(), 1e300);
}

TEST(JsonWriter, WritesNullForWhatIsNoJsonNumber) {
    std::string out;
    JsonWriter json(out);
    json.begin_array()
        .number(std::nan(""))
        .number(std::numeric_limits<double>::infinity())
        .number(-std::numeric_limits<float>::infinity());
    json.end_array();
    EXPECT_EQ(out, "[null,null,null]");
}

}  // namespace
}  // namespace hearth::api
