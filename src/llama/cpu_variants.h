// CPU variants: the kernels compiled once per instruction set level, and the
// choice among them.
//
// All of them are in the binary (cmake/HearthLlama.cmake); which ones this
// machine can run is read from CPUID and XGETBV, so that a feature that the
// operating system does not save counts as absent.
//
// Threads: any; the answers do not change while the process lives.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::llama {

struct CpuVariant {
    std::string name;      // e.g. "avx512-bf16"; what LoadOptions::cpu_variant takes
    bool runnable = false;  // on this machine
};

// Those compiled in, worst first.
[[nodiscard]] std::vector<CpuVariant> cpu_variants();

// The variant called `name`, or the best runnable one for an empty name.
// Fails with `invalid_argument` for a name that is not compiled in,
// `unsupported` for one this machine cannot run; both list those it can.
[[nodiscard]] Result<std::string> choose_cpu_variant(std::string_view name);

// Whether weights of that type ("Q4_0") may be copied into another layout for kernels of the variant
// called so: each process then has them for itself, where else they are pages of the file. True
// for a variant that is not compiled in.
[[nodiscard]] bool may_pack(std::string_view variant, std::string_view type);

}  // namespace hearth::llama
