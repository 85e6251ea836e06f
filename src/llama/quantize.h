// quantize(): upstream's quantiser, one GGUF file in, one out.
//
// Which tensors get which type is upstream's choice by the file's type: norms and
// other small tensors stay as they are, some matrices get more bits than the
// rest. Weights that are quantised already are taken over where they have the
// type wanted, and refused elsewhere: twice rounded is worse than it looks.
//
// Meant for a process of its own (module formats): what upstream asserts on a
// thread it starts ends the process, and nothing can stop it half way.
// Threads: the caller's, and `threads` in all while it runs; `progress` is called
// on the caller's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::llama {

struct QuantizedType {
    std::string_view name;        // upstream's, in capitals: "Q4_K_M"
    std::uint32_t file_type = 0;  // general.file_type
    double bits = 0;              // a weight's, about
};

// Those that need no importance matrix, those without quantisation among them, widest first.
[[nodiscard]] std::span<QuantizedType const> quantized_types() noexcept;

struct QuantizeProgress {
    std::uint64_t tensors_done = 0;
    std::uint64_t tensors = 0;
    std::string_view tensor;  // the one that is done
};

struct QuantizeOptions {
    std::string input;   // a GGUF file, or the first of several splits, already validated by models::
    std::string output;  // opened anew and written from its beginning; whoever calls sees to names and disks
    std::uint32_t file_type = 0;  // of quantized_types()
    std::uint32_t threads = 1;
    std::string cpu_variant;  // empty: the best this machine runs
    std::function<void(QuantizeProgress const&)> progress;  // only of the process's first use of upstream (runtime.h)
};

// `unsupported` with upstream's reason.
[[nodiscard]] Status quantize(QuantizeOptions const& options);

}  // namespace hearth::llama
