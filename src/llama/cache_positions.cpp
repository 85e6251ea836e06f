#include "llama/cache_positions.h"

#include <ggml.h>
#include <llama-kv-cache-iswa.h>
#include <llama-kv-cache.h>
#include <llama-memory-hybrid-iswa.h>
#include <llama-memory-hybrid.h>
#include <llama.h>

#include "llama/kernels/cache_cells.h"

namespace hearth::llama {

namespace {

void read_positions(void const* cells, int const* indices, int count, int* out) {
    auto const& all = *static_cast<llama_kv_cells const*>(cells);
    for (int i = 0; i < count; ++i) out[i] = all.pos_get(static_cast<std::uint32_t>(indices[i]));
}

// Null for kinds that keep something else than keys of positions.
std::vector<llama_kv_cache*> caches_of(llama_memory_i* memory) {
    if (auto* const cache = dynamic_cast<llama_kv_cache*>(memory)) return {cache};
    if (auto* const window = dynamic_cast<llama_kv_cache_iswa*>(memory)) return {window->get_base(), window->get_swa()};
    if (auto* const hybrid = dynamic_cast<llama_memory_hybrid*>(memory)) return {hybrid->get_mem_attn()};
    if (auto* const hybrid = dynamic_cast<llama_memory_hybrid_iswa*>(memory))
        return {hybrid->get_mem_attn()->get_base(), hybrid->get_mem_attn()->get_swa()};
    return {};
}

}  // namespace

CachePositions::CachePositions() = default;
CachePositions::~CachePositions() = default;
CachePositions::CachePositions(CachePositions&&) noexcept = default;
CachePositions& CachePositions::operator=(CachePositions&&) noexcept = default;

bool CachePositions::attach(llama_context& context) {
    auto const caches = caches_of(llama_get_memory(&context));
    for (llama_kv_cache* const cache : caches) {
        if (cache->get_n_stream() != 1) return false;
        auto& cells = *caches_.emplace_back(std::make_unique<CacheCells>());
        cells.cells = &cache->get_cells(0);
        cells.positions = read_positions;
        for (auto const layer : cache->get_layer_ids())
            cache->get_k_storage(static_cast<std::int32_t>(layer))->extra = &cells;
    }
    return !caches.empty();
}

}  // namespace hearth::llama
