// CellLedger: which sequence owns which cells of the KV cache.
//
// A mirror of upstream's bookkeeping, kept so that a batch is refused before
// upstream fails half-way: how long each sequence is, and how many distinct
// cells are in use when sequences share the cells of a common prefix.
//
// Invariants: 1. a cell is free if and only if no sequence lists it;
//             2. the i-th cell of a sequence holds its position i;
//             3. used() + free() == cells.
//
// Threads: one. No I/O, no upstream types.
#pragma once

#include <cstdint>
#include <vector>

namespace hearth::llama {

class CellLedger {
public:
    CellLedger(std::uint32_t sequences, std::uint32_t cells);

    [[nodiscard]] std::uint32_t sequences() const { return static_cast<std::uint32_t>(owned_.size()); }
    [[nodiscard]] std::uint32_t cells() const { return static_cast<std::uint32_t>(owners_.size()); }
    [[nodiscard]] std::uint32_t free() const { return static_cast<std::uint32_t>(free_.size()); }
    [[nodiscard]] std::uint32_t used() const { return cells() - free(); }

    // Positions in the sequence, so also its next position.
    [[nodiscard]] std::uint32_t length(std::uint32_t sequence) const;

    // Gives `sequence` `count` new cells. REQUIRES: count <= free()
    void append(std::uint32_t sequence, std::uint32_t count);

    // `to` shares the first `count` cells of `from`.
    // REQUIRES: `to` is empty, count <= length(from)
    void share(std::uint32_t from, std::uint32_t to, std::uint32_t count);

    // Keeps the first `count` cells; no effect when there are fewer.
    void truncate(std::uint32_t sequence, std::uint32_t count);

private:
    std::vector<std::vector<std::uint32_t>> owned_;  // per sequence, by position
    std::vector<std::uint16_t> owners_;              // per cell
    std::vector<std::uint32_t> free_;
};

}  // namespace hearth::llama
