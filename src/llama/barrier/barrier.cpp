// ggml_barrier() of every CPU variant: see ggml_cpu_threads.c.
#include <ggml-cpu-impl.h>

#include "llama/barrier/sleeping_barrier.h"

extern "C" {
extern std::size_t const kHearthPoolGraph;
extern std::size_t const kHearthPoolArrived;
extern std::size_t const kHearthPoolPhase;
extern unsigned const kHearthPoolThreadsMask;
}

extern "C" void ggml_barrier(ggml_threadpool* tp) {
    auto* const base = reinterpret_cast<char*>(tp);
    auto const word = [base](std::size_t offset) -> std::uint32_t& {
        return *reinterpret_cast<std::uint32_t*>(base + offset);
    };
    auto const graph = std::atomic_ref(word(kHearthPoolGraph)).load(std::memory_order_relaxed);
    hearth::llama::SleepingBarrier(word(kHearthPoolArrived), word(kHearthPoolPhase))
        .wait(graph & kHearthPoolThreadsMask);
}
