#include "base/utf8.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

// Splits `text` at every byte and returns what came out in all.
std::string byte_by_byte(std::string_view text) {
    Utf8Carry carry;
    std::string out;
    for (char const c : text) {
        carry.push({&c, 1}, out);
        EXPECT_TRUE(is_valid_utf8(out));
    }
    carry.finish(out);
    return out;
}

TEST(Utf8, ACodePointSplitAnywhereArrivesWhole) {
    for (std::string_view text : {"plain", "f\u00fcr", "\u20ac 5", "\U0001F600!", "\u4f60\u597d"})
        EXPECT_EQ(byte_by_byte(text), text);
}

TEST(Utf8, WhatCanNeverBeValidBecomesOneReplacementPerSubpart) {
    EXPECT_EQ(byte_by_byte("a\xC0\xAF z"), "a\uFFFD\uFFFD z");
    EXPECT_EQ(byte_by_byte("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
    EXPECT_EQ(byte_by_byte("\xF0\x9F\x98x"), "\uFFFDx");
}

TEST(Utf8, AnIncompleteTailIsReplacedAtTheEnd) { EXPECT_EQ(byte_by_byte("ok\xE2\x82"), "ok\uFFFD"); }

TEST(Utf8, ValidationRefusesOverlongSurrogateAndTooLarge) {
    EXPECT_TRUE(is_valid_utf8("\U0010FFFF"));
    for (std::string_view bad : {"\xC1\x81", "\xED\xBF\xBF", "\xF4\x90\x80\x80", "\x80", "\xE2\x82"})
        EXPECT_FALSE(is_valid_utf8(bad));
}

}  // namespace
}  // namespace hearth
