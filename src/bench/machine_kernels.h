// The loops behind run_machine(), one per instruction set, chosen at run time.
//
// Private to the module.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace hearth::bench {

// Repeats its multiply-adds `rounds` times. What it returns depends on all of
// them, so that none can be left out.
using ArithmeticLoop = std::uint64_t (*)(std::uint64_t rounds);

struct ArithmeticKernel {
    std::string_view name;    // int8, bf16, fp32
    std::string_view method;  // the instruction
    double operations;        // per round
    ArithmeticLoop loop;
};

// The best this CPU has, at most one of each name. A type that the CPU cannot
// compute in hardware is missing.
[[nodiscard]] std::vector<ArithmeticKernel> arithmetic_kernels();

// Reads `bytes` at `data` once. REQUIRES: data 64-byte aligned, bytes a multiple of kReadBlock
inline constexpr std::size_t kReadBlock = 512;
using ReadLoop = std::uint64_t (*)(std::byte const* data, std::size_t bytes);
[[nodiscard]] ReadLoop read_loop();

// Instruction sets of interest that this CPU has, space between.
[[nodiscard]] std::string_view instruction_sets();

}  // namespace hearth::bench
