// Estimate: what a model will take in memory, from its header alone.
//
// Weights are those of the file. The cache is exact for attention; what recurrent
// layers add is small beside it and left out. Scratch is the largest batch with the
// scores of the whole vocabulary, and some rows as wide as the layers: upstream plans
// it by its graph (llama_get_memory_breakdown), which only a loaded model tells.
//
// Threads: none; pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "models/gguf.h"

namespace hearth::models {

struct MemoryNeed {  // bytes
    std::uint64_t weights = 0;
    std::uint64_t kv = 0;
    std::uint64_t scratch = 0;
    [[nodiscard]] std::uint64_t total() const { return weights + kv + scratch; }
    bool operator==(MemoryNeed const&) const = default;
};

// Of `cells` tokens in a cache of 16-bit numbers, and batches of `batch` tokens.
// REQUIRES: files is what read_gguf_model() gave
[[nodiscard]] MemoryNeed estimate_memory(std::vector<GgufFile> const& files, std::uint64_t cells, std::uint64_t batch);

// Cells of a cache when nobody says how many: of a whole context, and at least 32,768 of
// them shared by all requests (the engine's default, where memory is not short).
[[nodiscard]] std::uint64_t default_cells(GgufFile const& model, std::uint64_t context_request);

}  // namespace hearth::models
