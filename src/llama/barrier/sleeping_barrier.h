// A barrier that spins for a moment and then sleeps.
//
// Its state is two words that start at 0, so that it fits into the thread pool
// of ggml, whose own barrier spins for ever: beside a busy process a waiting
// thread then burns the time slice in which the thread it waits for could run.
//
//   arrived   threads that wait in this phase; the last to arrive clears it
//   phase     counts phases by 2; bit 0: somebody sleeps until it changes
//
// Everything written before the barrier by any thread is seen behind it by all.
// Compiled into every CPU variant: nothing here may depend on other modules.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <ctime>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

namespace hearth::llama {

inline void relax_cpu() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

inline std::int64_t barrier_clock_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Threads that are all running meet within microseconds, or some ten of them
// where an operation divides badly: that is shorter than going to sleep and being
// woken. One that lost its core is away for milliseconds. In between the length
// hardly matters (ADR 0009).
inline constexpr std::int64_t kBarrierSpinNs = 100'000;

class SleepingBarrier {
public:
    // REQUIRES: every thread names the same two words, which outlive the last
    // return from wait(), and the same number of `threads`
    SleepingBarrier(std::uint32_t& arrived, std::uint32_t& phase)
        : arrived_(arrived), phase_(phase), phase_word_(&phase) {}

    void wait(std::uint32_t threads, std::int64_t spin_ns = kBarrierSpinNs) {
        if (threads <= 1) return;
        std::uint32_t const before = phase_.load(std::memory_order_relaxed) & ~kSleepers;
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads - 1) {
            arrived_.store(0, std::memory_order_relaxed);  // seen by whoever sees the new phase
            if ((phase_.exchange(before + kPhase, std::memory_order_acq_rel) & kSleepers) != 0) wake();
            return;
        }
        if (looks_suffice(before)) return;
        if (!spin(before, barrier_clock_ns() + spin_ns)) sleep(before);
    }

private:
    static constexpr std::uint32_t kSleepers = 1;
    static constexpr std::uint32_t kPhase = 2;
    static constexpr int kLooksPerClock = 32;  // reading the clock costs as much as some looks

    [[nodiscard]] bool passed(std::uint32_t before) const {
        return (phase_.load(std::memory_order_acquire) & ~kSleepers) != before;
    }

    [[nodiscard]] bool looks_suffice(std::uint32_t before) const {
        for (int i = 0; i < kLooksPerClock; ++i) {
            if (passed(before)) return true;
            relax_cpu();
        }
        return false;
    }

    [[nodiscard]] bool spin(std::uint32_t before, std::int64_t until_ns) const {
        while (barrier_clock_ns() < until_ns)
            if (looks_suffice(before)) return true;
        return false;
    }

    void sleep(std::uint32_t before) {
        std::uint32_t seen = phase_.load(std::memory_order_acquire);
        while ((seen & ~kSleepers) == before) {
            if (seen == before && !phase_.compare_exchange_weak(seen, before | kSleepers, std::memory_order_acquire))
                continue;
            syscall(SYS_futex, phase_word_, FUTEX_WAIT_PRIVATE, before | kSleepers, nullptr, nullptr, 0);
            seen = phase_.load(std::memory_order_acquire);
        }
    }

    void wake() { syscall(SYS_futex, phase_word_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0); }

    std::atomic_ref<std::uint32_t> arrived_;
    std::atomic_ref<std::uint32_t> phase_;
    std::uint32_t* phase_word_;
};

}  // namespace hearth::llama
