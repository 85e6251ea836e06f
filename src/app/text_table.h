// What commands print of models: text that is fit for a terminal, and rows as aligned
// columns, the last one as it is. The first row is the heading, if there is one.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "models/report.h"

namespace hearth::app {

using models::printable;

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
