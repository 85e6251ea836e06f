#include "base/prompt_thread.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <thread>

#include <gtest/gtest.h>

namespace hearth {
namespace {

// The kernel's sched_attr in words of 64 bits: the fourth is the slice.
std::uint64_t slice_ns() {
    std::array<std::uint64_t, 6> words{};
    EXPECT_EQ(::syscall(SYS_sched_getattr, 0, words.data(), sizeof(words), 0U), 0);
    return words[3];
}

TEST(PromptThread, asks_for_itself_alone) {
    std::thread([] {
        auto const before = slice_ns();
        ASSERT_TRUE(ask_for_short_slices());
        auto const after = slice_ns();
        if (after == before) GTEST_SKIP() << "this kernel has no slices of a thread's own";
        EXPECT_EQ(after, 100'000U);
        std::uint64_t of_another = 0;
        std::thread([&of_another] { of_another = slice_ns(); }).join();
        EXPECT_EQ(of_another, before);
    }).join();
    EXPECT_NE(slice_ns(), 100'000U);
}

TEST(PromptThread, keeps_the_nice_value) {
    std::thread([] {
        ASSERT_EQ(::setpriority(PRIO_PROCESS, 0, 3), 0);
        ASSERT_TRUE(ask_for_short_slices());
        EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), 3);
    }).join();
}

TEST(PromptThread, leaves_another_policy_as_it_is) {
    std::thread([] {
        sched_param const none{};
        ASSERT_EQ(::sched_setscheduler(0, SCHED_BATCH, &none), 0);
        EXPECT_FALSE(ask_for_short_slices());
        EXPECT_EQ(::sched_getscheduler(0), SCHED_BATCH);
    }).join();
}

}  // namespace
}  // namespace hearth
