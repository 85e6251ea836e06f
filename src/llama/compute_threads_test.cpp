#include "llama/compute_threads.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace hearth::llama {
namespace {

TEST(ComputeThreads, AQuotaIsRoundedUpToWholeCores) {
    EXPECT_EQ(parse_cpu_max("200000 100000"), 2U);
    EXPECT_EQ(parse_cpu_max("150000 100000"), 2U);
    EXPECT_EQ(parse_cpu_max("5000 100000"), 1U);
}

TEST(ComputeThreads, NoQuotaDoesNotLimit) {
    EXPECT_EQ(parse_cpu_max("max 100000"), 0U);
    EXPECT_EQ(parse_cpu_max(""), 0U);
    EXPECT_EQ(parse_cpu_max("100000"), 0U);
    EXPECT_EQ(parse_cpu_max("100000 0"), 0U);
    EXPECT_EQ(parse_cpu_max("garbage here"), 0U);
}

TEST(ComputeThreads, NeverMoreThanTheAffinityMaskAllows) {
    cpu_set_t set;
    CPU_ZERO(&set);
    ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    EXPECT_GE(usable_cores(), 1U);
    EXPECT_LE(usable_cores(), static_cast<std::uint32_t>(CPU_COUNT(&set)));
}

TEST(ComputeThreads, ATinyModelGetsOneThread) {
    EXPECT_EQ(threads_for(1U << 20, 5, 8), 1U);        // stories260K
    EXPECT_EQ(threads_for(98U << 20, 30, 2), 2U);      // SmolLM2-135M
    EXPECT_EQ(threads_for(98U << 20, 30, 0), 1U);
    EXPECT_EQ(threads_for(0, 0, 4), 1U);
}

TEST(ComputeThreads, ThreadsGetCpusOfTheirOwnOnlyIfThereIsOneForEachCpu) {
    cpu_set_t set;
    ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    auto const all = static_cast<std::uint32_t>(CPU_COUNT(&set));
    auto const cpus = cpu_per_thread(all);
    if (all > 1) EXPECT_EQ(cpus.size(), all);
    for (auto const cpu : cpus) EXPECT_TRUE(CPU_ISSET(cpu, &set));
    EXPECT_TRUE(cpu_per_thread(all + 1).empty());
    EXPECT_TRUE(cpu_per_thread(1).empty());
}

TEST(ComputeThreads, AThreadGoesBackToTheCpusItMightUseBefore) {
    cpu_set_t before, within, after;
    ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    std::uint32_t last = 0;
    for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &before)) last = cpu;
    {
        OnCpu const here(last);
        ASSERT_EQ(sched_getaffinity(0, sizeof(within), &within), 0);
        EXPECT_EQ(CPU_COUNT(&within), 1);
        EXPECT_TRUE(CPU_ISSET(last, &within));
    }
    ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
    { OnCpu const anywhere(std::nullopt); }
    ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

}  // namespace
}  // namespace hearth::llama
