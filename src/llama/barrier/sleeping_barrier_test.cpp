#include "llama/barrier/sleeping_barrier.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace hearth::llama {
namespace {

// Threads that write, meet, and read what all have written. The counts are no
// atomics: under ThreadSanitizer a barrier that does not order them is a race.
struct Crew {
    std::uint32_t arrived = 0;
    std::uint32_t phase = 0;
    std::vector<std::uint64_t> counts;
    std::vector<std::uint64_t> wrong;

    void run(std::uint32_t threads, int rounds, std::int64_t spin_ns) {
        counts.assign(threads, 0);
        wrong.assign(threads, 0);
        std::vector<std::thread> crew;
        for (std::uint32_t i = 0; i < threads; ++i)
            crew.emplace_back([this, i, threads, rounds, spin_ns] {
                SleepingBarrier barrier(arrived, phase);
                for (int round = 1; round <= rounds; ++round) {
                    ++counts[i];
                    barrier.wait(threads, spin_ns);
                    for (auto const count : counts) wrong[i] += count == static_cast<std::uint64_t>(round) ? 0 : 1;
                    barrier.wait(threads, spin_ns);
                }
            });
        for (auto& thread : crew) thread.join();
    }

    [[nodiscard]] std::uint64_t all_wrong() const {
        std::uint64_t sum = 0;
        for (auto const count : wrong) sum += count;
        return sum;
    }
};

TEST(SleepingBarrier, AllSeeWhatAllWroteWhetherTheySpinOrSleep) {
    for (std::int64_t const spin_ns : {std::int64_t{0}, kBarrierSpinNs}) {
        for (std::uint32_t const threads : {2U, 3U, 16U}) {  // more than this machine has cores, maybe
            Crew crew;
            crew.run(threads, 200, spin_ns);
            EXPECT_EQ(crew.all_wrong(), 0U) << threads << " threads, spinning " << spin_ns << " ns";
            EXPECT_EQ(crew.arrived, 0U);
            EXPECT_EQ(crew.phase & ~1U, 800U);
        }
    }
}

TEST(SleepingBarrier, TheLastToArriveWakesWhoSleeps) {
    std::uint32_t arrived = 0, phase = 0;
    std::vector<std::thread> sleepers;
    for (int i = 0; i < 3; ++i) sleepers.emplace_back([&] { SleepingBarrier(arrived, phase).wait(4, 0); });
    // They sleep, or are about to: the bit says that the last one has to wake them.
    while ((std::atomic_ref(phase).load() & 1U) == 0 || std::atomic_ref(arrived).load() != 3) std::this_thread::yield();
    SleepingBarrier(arrived, phase).wait(4);
    for (auto& sleeper : sleepers) sleeper.join();
    EXPECT_EQ(phase, 2U);
    EXPECT_EQ(arrived, 0U);
}

TEST(SleepingBarrier, CountsPastTheEndOfItsWord) {
    Crew crew;
    crew.phase = 0U - 10U;
    crew.run(4, 50, 0);
    EXPECT_EQ(crew.all_wrong(), 0U);
    EXPECT_EQ(crew.phase & ~1U, 190U);
}

TEST(SleepingBarrier, OneThreadMeetsNobody) {
    std::uint32_t arrived = 0, phase = 0;
    SleepingBarrier(arrived, phase).wait(1);
    EXPECT_EQ(arrived, 0U);
    EXPECT_EQ(phase, 0U);
}

}  // namespace
}  // namespace hearth::llama
