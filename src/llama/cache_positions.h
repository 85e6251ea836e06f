// CachePositions: tells the attention kernel the positions of a context's cells.
//
// Upstream gives the kernel cells, and a mask that says who sees which. In which order
// the positions follow is known to the KV cache alone, whose key tensors carry
// a pointer for such purposes, unused on a CPU (kernels/cache_cells.h).
//
// Ownership: must outlive every computation of the context; private to the module.
#pragma once

#include <memory>
#include <vector>

#include "llama/upstream.h"

namespace hearth::llama {

struct CacheCells;

class CachePositions {
public:
    CachePositions();
    ~CachePositions();
    CachePositions(CachePositions&&) noexcept;
    CachePositions& operator=(CachePositions&&) noexcept;

    // For caches of attention, also those with a window and those beside recurrent
    // state. False if the context has a cache of another kind: its cells are then
    // taken in order of their index.
    [[nodiscard]] bool attach(llama_context& context);

private:
    std::vector<std::unique_ptr<CacheCells>> caches_;
};

}  // namespace hearth::llama
