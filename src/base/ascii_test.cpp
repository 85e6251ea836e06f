#include "base/ascii.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(ascii, hex_digits_are_those_and_no_others) {
    std::string_view const digits = "0123456789abcdef";
    for (int code = 0; code < 256; ++code) {
        auto const c = static_cast<char>(code);
        auto const at = digits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
        EXPECT_EQ(hex_digit(c), at == std::string_view::npos ? -1 : static_cast<int>(at)) << code;
    }
}

TEST(ascii, lower_changes_letters_alone) {
    EXPECT_EQ(ascii_lower("AZaz@[`{09 \xC3\x84"), "azaz@[`{09 \xC3\x84");
    EXPECT_EQ(ascii_lower(""), "");
}

}  // namespace
}  // namespace hearth
