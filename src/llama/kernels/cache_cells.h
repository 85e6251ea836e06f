// CacheCells: what the attention kernel must know of a KV cache beyond its tensors.
//
// The kernel adds up in order of position, so that its sums do not depend on
// which cells a sequence was given; the mask alone does not tell positions. Whoever owns a
// cache hangs one of these on the `extra` of its key tensors (cache_positions.h).
// An operation whose keys have none counts cells in order of their index.
//
// Threads: `plan` belongs to the compute threads while a graph is computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hearth::llama {

// Neighbouring rows of a batch whose cells are the same but for the latest ones,
// and the first ones under a sliding window, as rows of one prompt: slot i of
// a run is the cell of position base + i, or -1.
struct AttentionRun {
    int row = 0;
    int rows = 0;
    int base = 0;           // a multiple of the kernel's block
    int slots = 0;
    bool holes = false;     // some slot between the first and the last has no cell
    std::size_t first = 0;  // of its slots in AttentionPlan::cells
};

// Which cells each row of a batch sees, in order of position. The same for all
// layers of a cache, so made once per graph.
struct AttentionPlan {
    std::vector<AttentionRun> runs;
    std::vector<int> cells;  // of all runs
    std::vector<int> begin;  // per row: the slots [begin, end) of its run
    std::vector<int> end;
    bool plain = true;       // the mask only shows and hides

    // Of which operations: the plan is made anew when a layer comes again.
    void const* mask = nullptr;
    int mask_rows = 0;
    int mask_cells = 0;
    std::vector<void const*> served;  // keys of the layers

    // Memory of the maker.
    std::vector<std::uint64_t> seen;
    std::vector<int> scratch;
};

struct CacheCells {
    static constexpr std::uint64_t kMagic = 0x4845'4152'5448'4B56;  // "HEARTHKV"

    std::uint64_t magic = kMagic;
    void const* cells = nullptr;
    // Positions of `count` used cells. Any compute thread, during a graph.
    void (*positions)(void const* cells, int const* indices, int count, int* out) = nullptr;
    AttentionPlan plan;
};

}  // namespace hearth::llama
