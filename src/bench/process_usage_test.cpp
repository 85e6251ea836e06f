#include "bench/process_usage.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace hearth::bench {
namespace {

TEST(ProcessUsage, SeesThisProcessAndItsMemory) {
    auto const tree = sample_tree(::getpid());
    ASSERT_TRUE(tree) << tree.error().message;
    EXPECT_EQ(tree->processes.front().pid, ::getpid());
    EXPECT_GT(tree->rss_kib(), 1000U);
    EXPECT_GE(tree->rss_kib(), tree->pss_kib());
    EXPECT_GT(tree->processes.front().threads, 0U);
    EXPECT_EQ(tree->processes.front().name, "hearth_bench_te");
}

TEST(ProcessUsage, CountsADescendantWhileItLivesAndItsTimeAfterwards) {
    auto const before = sample_tree(::getpid());
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    auto const child = ::fork();
    if (child == 0) {
        // Burns CPU until the kernel has charged it for more than a few ticks.
        while (own_cpu_s() < 0.1) {}
        [[maybe_unused]] auto const n = ::write(ready[1], "x", 1);
        ::pause();
        ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    auto const during = sample_tree(::getpid());
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    auto const after = sample_tree(::getpid());
    ::close(ready[0]);
    ::close(ready[1]);
    ASSERT_TRUE(before && during && after);
    ASSERT_EQ(during->processes.size(), before->processes.size() + 1);
    EXPECT_EQ(during->processes.back().pid, child);
    EXPECT_EQ(during->processes.back().parent, ::getpid());
    EXPECT_GE(during->cpu_s() - before->cpu_s(), 0.07);
    EXPECT_EQ(after->processes.size(), before->processes.size());
    EXPECT_GE(after->cpu_s(), during->cpu_s() - 0.02) << "what a child used stays with its parent";
}

TEST(ProcessUsage, AMissingProcessIsAnError) {
    auto const tree = sample_tree(0x3FFFFFFF);
    ASSERT_FALSE(tree);
    EXPECT_EQ(tree.error().param, "server-pid");
}

}  // namespace
}  // namespace hearth::bench
