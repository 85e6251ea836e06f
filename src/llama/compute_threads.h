// How many threads computing may use.
//
// Two threads on the two hyperthreads of one core, or two pools on the same
// cores, are slower than one: ggml's threads spin at every barrier.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hearth::llama {

// CPUs this process may run on, counted once per physical core, and no more than
// its cgroup's CPU quota. What cannot be read (a sandbox hides /sys and /proc)
// does not limit. Never 0.
[[nodiscard]] std::uint32_t usable_cores();

// Threads for a model whose weights are `weight_bytes` in `layers` layers, when
// `cores` are free: 1 when the work between two barriers is too small to share.
[[nodiscard]] std::uint32_t threads_for(std::uint64_t weight_bytes, std::uint32_t layers, std::uint32_t cores);

// Parts of usable_cores(), for tests. A quota of 0 means none.
[[nodiscard]] std::uint32_t parse_cpu_max(std::string_view text);  // "150000 100000" is 2, "max 100000" is 0

}  // namespace hearth::llama
