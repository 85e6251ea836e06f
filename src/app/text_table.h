// What commands print of models: text that is fit for a terminal, and rows as aligned
// columns, the last one as it is. The first row is the heading, if there is one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/utf8.h"

namespace hearth::app {

// One line without control characters: what a file says must not drive a terminal.
[[nodiscard]] inline std::string printable(std::string_view text) {
    std::string valid;
    Utf8Carry carry;
    carry.push(text, valid);
    carry.finish(valid);
    for (std::size_t i = 0; i < valid.size(); ++i) {
        auto const byte = static_cast<unsigned char>(valid[i]);
        bool const high = byte == 0xc2 && i + 1 < valid.size() && static_cast<unsigned char>(valid[i + 1]) < 0xa0;
        if (high) valid[i + 1] = ' ';
        if (high || byte < 0x20 || byte == 0x7f) valid[i] = ' ';
    }
    return valid;
}

template <std::size_t Columns>
[[nodiscard]] std::string text_table(std::vector<std::array<std::string, Columns>> const& rows) {
    std::array<std::size_t, Columns> widths{};
    for (auto const& row : rows) {
        for (std::size_t i = 0; i < Columns; ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string out;
    for (auto const& row : rows) {
        for (std::size_t i = 0; i + 1 < Columns; ++i) out += fmt::format("{:<{}}  ", row[i], widths[i]);
        out += row.back() + '\n';
    }
    return out;
}

}  // namespace hearth::app
