// How many threads computing may use.
//
// Two threads on the two hyperthreads of one core, or two pools on the same
// cores, are slower than one: ggml's threads spin at every barrier, for a while.
#pragma once

#include <sched.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hearth::llama {

// CPUs this process may run on, counted once per physical core, and no more than
// its cgroup's CPU quota. What cannot be read (a sandbox hides /sys and /proc)
// does not limit. Never 0.
[[nodiscard]] std::uint32_t usable_cores();

// Threads for a model whose weights are `weight_bytes` in `layers` layers, when
// `cores` are free: 1 when the work between two barriers is too small to share.
[[nodiscard]] std::uint32_t threads_for(std::uint64_t weight_bytes, std::uint32_t layers, std::uint32_t cores);

// The CPU of each thread of a pool of `threads`, the caller's last, when there is
// one for each CPU this process may use; else empty: the system places them.
// Beside busy processes it may leave two threads of a pool on one CPU for good.
[[nodiscard]] std::vector<std::uint32_t> cpu_per_thread(std::uint32_t threads);

// Keeps the calling thread on one CPU for as long as this lives, then lets it go
// where it might before. Without a CPU, or where the system refuses: nothing.
class OnCpu {
public:
    explicit OnCpu(std::optional<std::uint32_t> cpu);
    ~OnCpu();
    OnCpu(OnCpu const&) = delete;
    OnCpu& operator=(OnCpu const&) = delete;

private:
    std::optional<cpu_set_t> before_;
};

// Parts of usable_cores(), for tests. A quota of 0 means none.
[[nodiscard]] std::uint32_t parse_cpu_max(std::string_view text);  // "150000 100000" is 2, "max 100000" is 0

}  // namespace hearth::llama
