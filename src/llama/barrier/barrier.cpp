// ggml_barrier() of every CPU variant: see ggml_cpu_threads.c.
#include <ggml-cpu-impl.h>

#include "llama/barrier/sleeping_barrier.h"

extern "C" {
extern std::size_t const hearth_pool_graph;
extern std::size_t const hearth_pool_arrived;
extern std::size_t const hearth_pool_phase;
extern unsigned const hearth_pool_threads_mask;
}

extern "C" void ggml_barrier(ggml_threadpool* pool) {
    auto* const base = reinterpret_cast<char*>(pool);
    auto const word = [base](std::size_t offset) -> std::uint32_t& {
        return *reinterpret_cast<std::uint32_t*>(base + offset);
    };
    auto const graph = std::atomic_ref(word(hearth_pool_graph)).load(std::memory_order_relaxed);
    hearth::llama::SleepingBarrier(word(hearth_pool_arrived), word(hearth_pool_phase))
        .wait(graph & hearth_pool_threads_mask);
}
