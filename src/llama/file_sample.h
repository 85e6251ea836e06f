// A digest of a model file that tells it from other models without reading it
// all: its size, its first mebibytes (metadata, tensor table), and blocks spread
// over the rest. A model trained further differs nearly everywhere, so in some of
// them; two files that differ in one small tensor alone may look the same.
//
// Private to llama.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace hearth::llama {

inline constexpr std::uint64_t kSampleHeadBytes = 4U << 20;
inline constexpr std::uint64_t kSampleBlockBytes = 4096;
inline constexpr std::uint64_t kSampleBlocksMax = 4096;   // 16 MiB of the largest file
inline constexpr std::uint64_t kSampleStrideMin = 64U << 10;

// Reads at most some 20 MiB. Fails with `io`.
[[nodiscard]] Result<std::uint64_t> sample_file(std::string const& path);

}  // namespace hearth::llama
