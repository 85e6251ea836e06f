#include "llama/cell_ledger.h"

#include <numeric>

#include "base/assert.h"

namespace hearth::llama {

CellLedger::CellLedger(std::uint32_t sequences, std::uint32_t cells)
    : owned_(sequences), owners_(cells, 0), free_(cells) {
    std::iota(free_.rbegin(), free_.rend(), 0U);  // the lowest first
}

std::uint32_t CellLedger::length(std::uint32_t sequence) const {
    return static_cast<std::uint32_t>(owned_[sequence].size());
}

void CellLedger::append(std::uint32_t sequence, std::uint32_t count) {
    HEARTH_ASSERT(count <= free(), "the caller checked that the cells are there");
    auto& cells = owned_[sequence];
    for (std::uint32_t i = 0; i < count; ++i) {
        std::uint32_t const cell = free_.back();
        free_.pop_back();
        owners_[cell] = 1;
        cells.push_back(cell);
    }
}

void CellLedger::share(std::uint32_t from, std::uint32_t to, std::uint32_t count) {
    HEARTH_ASSERT(owned_[to].empty() && count <= length(from), "the caller checked both sequences");
    auto const& source = owned_[from];
    owned_[to].assign(source.begin(), source.begin() + count);
    for (std::uint32_t const cell : owned_[to]) ++owners_[cell];
}

void CellLedger::truncate(std::uint32_t sequence, std::uint32_t count) {
    auto& cells = owned_[sequence];
    while (cells.size() > count) {
        std::uint32_t const cell = cells.back();
        cells.pop_back();
        if (--owners_[cell] == 0) free_.push_back(cell);
    }
}

}  // namespace hearth::llama
