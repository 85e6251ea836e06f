// CpuFeatures: what the processor and the operating system offer together.
//
// Split from the instructions that read them, so that every combination can be
// tested anywhere.
#pragma once

#include <cstdint>

namespace hearth::llama {

// One bit per feature the kernels are compiled for.
inline constexpr std::uint32_t kSse42 = 1U << 0;
inline constexpr std::uint32_t kAvx2 = 1U << 1;  // with AVX, FMA, F16C and BMI2, as every such processor has them
inline constexpr std::uint32_t kAvxVnni = 1U << 2;
inline constexpr std::uint32_t kAvx512 = 1U << 3;  // F, CD, VL, DQ, BW
inline constexpr std::uint32_t kAvx512Vnni = 1U << 4;
inline constexpr std::uint32_t kAvx512Bf16 = 1U << 5;
inline constexpr std::uint32_t kAmxInt8 = 1U << 6;  // with AMX-TILE

// The registers as CPUID and XGETBV give them.
struct CpuidRegisters {
    std::uint32_t leaf1_ecx = 0;
    std::uint32_t leaf7_ebx = 0, leaf7_ecx = 0, leaf7_edx = 0;
    std::uint32_t leaf7_1_eax = 0;
    std::uint64_t xcr0 = 0;  // state the operating system saves
};

// A set of CpuFeature bits.
[[nodiscard]] std::uint32_t decode_features(CpuidRegisters const& registers);

// This machine's; 0 where there is no CPUID.
[[nodiscard]] std::uint32_t machine_features();

}  // namespace hearth::llama
