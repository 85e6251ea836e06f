// Estimate: what a model will take in memory, from its header alone.
//
// Weights are those of the file. The cache is exact for attention; what recurrent
// layers add is small beside it and left out. Scratch is what computing a batch
// touches: rows as wide as the layers, the mask of the batch over all cells, a few rows
// of scores. Upstream reserves more (scores of every token of a batch), which is never
// touched. The process is the program, and the vocabulary with its indexes. The factors
// were fitted to workers' resident memory and hold within 5 % for a cache that is full
// (tests/integration/test_memory.py).
//
// Threads: none; pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "models/gguf.h"

namespace hearth::models {

// What the engine takes in one step at most (llama::LoadOptions::batch_max).
inline constexpr std::uint64_t kBatchDefault = 512;

// How much more or less a worker takes in the end.
inline constexpr std::uint64_t kEstimateErrorPercent = 5;

struct MemoryNeed {  // bytes
    std::uint64_t weights = 0;
    std::uint64_t kv = 0;
    std::uint64_t scratch = 0;
    std::uint64_t process = 0;
    [[nodiscard]] std::uint64_t total() const { return weights + kv + scratch + process; }
    bool operator==(MemoryNeed const&) const = default;
};

// Of `cells` tokens in a cache of 16-bit numbers, and batches of `batch` tokens.
// REQUIRES: files is what read_gguf_model() gave
[[nodiscard]] MemoryNeed estimate_memory(std::vector<GgufFile> const& files, std::uint64_t cells, std::uint64_t batch);

// Cells of a cache when nobody says how many: of a whole context, and at least 32,768 of
// them shared by all requests (the engine's default, where memory is not short).
[[nodiscard]] std::uint64_t default_cells(GgufFile const& model, std::uint64_t context_request);

// The same where all that the model takes is to stay within `budget` bytes: as many as fit, but
// those of one context, whether they do or not. REQUIRES: as of estimate_memory()
[[nodiscard]] std::uint64_t cells_within(std::vector<GgufFile> const& files, std::uint64_t context_request,
                                         std::uint64_t batch, std::uint64_t budget);

}  // namespace hearth::models
