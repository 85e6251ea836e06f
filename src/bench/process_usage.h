// CPU time and memory of a server under test: the process given and all of its
// descendants, from /proc.
//
// CPU includes children that have ended and were waited for, so two samples of
// one tree differ by what the whole tree used in between (resolution: one clock
// tick, 10 ms on most systems).
//
// Any thread. Limit: kProcessesMax descendants; the rest is refused, not ignored.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::bench {

inline constexpr std::size_t kProcessesMax = 1024;

struct ProcessUsage {
    int pid = 0;
    int parent = 0;
    std::string name;
    double cpu_s = 0;  // user and system, children waited for included
    std::uint64_t threads = 0;
    std::uint64_t rss_kib = 0;
    std::uint64_t pss_kib = 0;      // shared pages divided among those that map them
    std::uint64_t private_kib = 0;  // what ending the process would free
};

struct TreeUsage {
    std::vector<ProcessUsage> processes;  // the root first

    [[nodiscard]] double cpu_s() const;
    [[nodiscard]] std::uint64_t rss_kib() const;
    [[nodiscard]] std::uint64_t pss_kib() const;
    [[nodiscard]] std::uint64_t private_kib() const;
};

// Fails with not_found when there is no process `pid`. Memory stays 0 for a
// process whose smaps the caller may not read.
[[nodiscard]] Result<TreeUsage> sample_tree(int pid);

// CPU seconds this process has used.
[[nodiscard]] double own_cpu_s();

}  // namespace hearth::bench
