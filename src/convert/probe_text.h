// The probe text: what upstream's converter encodes to tell pre-tokenisers
// apart, and what is known of its characters.
//
// Only the characters of this text have categories here; a table for all of
// Unicode is not needed, since nothing else is ever split by conversion.
//
// Source: get_vocab_base_pre() in upstream's conversion/base.py; categories from
// Unicode 14.
#pragma once

#include <string>
#include <string_view>

namespace hearth::convert {

[[nodiscard]] std::string_view probe_text();  // UTF-8

// REQUIRES: valid UTF-8
[[nodiscard]] std::u32string code_points(std::string_view text);
[[nodiscard]] std::string utf8_of(std::u32string_view text);

// "L", "N", "P" ..., or with two letters; "s" space, "d" digit, "w" word, "Han".
[[nodiscard]] bool is_category(std::string_view name);
[[nodiscard]] bool in_category(char32_t c, std::string_view name);

}  // namespace hearth::convert
