#include "llama/cpu_features.h"

#if defined(__x86_64__)
  #include <cpuid.h>
#endif

namespace hearth::llama {

namespace {

constexpr bool bit(std::uint64_t value, unsigned index) { return ((value >> index) & 1U) != 0; }

// State components of XCR0.
constexpr std::uint64_t kXcr0Avx = 0x6;        // SSE, AVX
constexpr std::uint64_t kXcr0Avx512 = 0xE6;    // and opmask, upper halves, upper registers
constexpr std::uint64_t kXcr0Amx = 0x60000;    // tile configuration and data

}  // namespace

std::uint32_t decode_features(CpuidRegisters const& r) {
    std::uint32_t features = 0;
    if (bit(r.leaf1_ecx, 20)) features |= kSse42;

    bool const saves_avx = bit(r.leaf1_ecx, 27) && (r.xcr0 & kXcr0Avx) == kXcr0Avx;
    bool const avx2 = bit(r.leaf1_ecx, 28) && bit(r.leaf1_ecx, 12) && bit(r.leaf1_ecx, 29)  // AVX, FMA, F16C
                      && bit(r.leaf7_ebx, 5) && bit(r.leaf7_ebx, 8);                        // AVX2, BMI2
    if (!saves_avx || !avx2) return features;
    features |= kAvx2;
    if (bit(r.leaf7_1_eax, 4)) features |= kAvxVnni;

    bool const saves_avx512 = (r.xcr0 & kXcr0Avx512) == kXcr0Avx512;
    bool const avx512 = bit(r.leaf7_ebx, 16) && bit(r.leaf7_ebx, 17) && bit(r.leaf7_ebx, 28)  // F, DQ, CD
                        && bit(r.leaf7_ebx, 30) && bit(r.leaf7_ebx, 31);                      // BW, VL
    if (!saves_avx512 || !avx512) return features;
    features |= kAvx512;
    if (bit(r.leaf7_ecx, 11)) features |= kAvx512Vnni;
    if (bit(r.leaf7_1_eax, 5)) features |= kAvx512Bf16;

    bool const saves_amx = (r.xcr0 & kXcr0Amx) == kXcr0Amx;
    if (saves_amx && bit(r.leaf7_edx, 24) && bit(r.leaf7_edx, 25)) features |= kAmxInt8;
    return features;
}

std::uint32_t machine_features() {
#if defined(__x86_64__)
    CpuidRegisters r;
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return 0;
    r.leaf1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
        unsigned const subleaf_max = eax;
        r.leaf7_ebx = ebx;
        r.leaf7_ecx = ecx;
        r.leaf7_edx = edx;
        if (subleaf_max >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) r.leaf7_1_eax = eax;
    }
    if (bit(r.leaf1_ecx, 27)) {  // OSXSAVE: XGETBV may be executed
        std::uint32_t low = 0, high = 0;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        r.xcr0 = (static_cast<std::uint64_t>(high) << 32) | low;
    }
    return decode_features(r);
#else
    return 0;
#endif
}

}  // namespace hearth::llama
