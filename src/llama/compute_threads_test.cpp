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

}  // namespace
}  // namespace hearth::llama
