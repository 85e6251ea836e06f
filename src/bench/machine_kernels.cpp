// Peak loops. Twelve independent accumulators hide the latency of the
// multiply-add (4 to 6 cycles, two per cycle); an empty asm statement that
// claims to change them keeps the compiler from folding rounds together.
#include "bench/machine_kernels.h"

#include <string>

#if defined(__x86_64__)
  #include <immintrin.h>
#endif

namespace hearth::bench {

namespace {

constexpr int kChains = 12;

// Without special instructions: what the compiler makes of plain vectors.
using Floats = float __attribute__((vector_size(16)));
using Words = std::uint64_t __attribute__((vector_size(16)));

std::uint64_t fp32_plain(std::uint64_t rounds) {
    Floats x[kChains];
    for (auto& v : x) v = Floats{1, 1, 1, 1};
    Floats const a{1.0000001F, 1, 1, 1}, b{1e-9F, 0, 0, 0};
    for (std::uint64_t i = 0; i < rounds; ++i) {
        for (auto& v : x) v = v * a + b;
        for (auto& v : x) asm volatile("" : "+m"(v));
    }
    float sum = 0;
    for (auto const& v : x) sum += v[0];
    return static_cast<std::uint64_t>(sum);
}

std::uint64_t read_plain(std::byte const* data, std::size_t bytes) {
    Words x[8] = {};
    auto const* p = reinterpret_cast<Words const*>(data);
    for (std::size_t i = 0; i < bytes / sizeof(Words); i += 8) {
        for (std::size_t k = 0; k < 8; ++k) x[k] ^= p[i + k];
    }
    std::uint64_t sum = 0;
    for (auto const& v : x) sum ^= v[0] ^ v[1];
    return sum;
}

#if defined(__x86_64__)

  #define HEARTH_UNROLL _Pragma("clang loop unroll(full)")

__attribute__((target("avx2,fma"))) std::uint64_t fp32_fma(std::uint64_t rounds) {
    __m256 x[kChains];
    for (auto& v : x) v = _mm256_set1_ps(1.0F);
    auto const a = _mm256_set1_ps(1.0000001F), b = _mm256_set1_ps(1e-9F);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) x[k] = _mm256_fmadd_ps(x[k], a, b);
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) asm volatile("" : "+x"(x[k]));
    }
    float sum = 0;
    for (auto const& v : x) sum += _mm256_cvtss_f32(v);
    return static_cast<std::uint64_t>(sum);
}

__attribute__((target("avx512f"))) std::uint64_t fp32_fma512(std::uint64_t rounds) {
    __m512 x[kChains];
    for (auto& v : x) v = _mm512_set1_ps(1.0F);
    auto const a = _mm512_set1_ps(1.0000001F), b = _mm512_set1_ps(1e-9F);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) x[k] = _mm512_fmadd_ps(x[k], a, b);
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) asm volatile("" : "+v"(x[k]));
    }
    float sum = 0;
    for (auto const& v : x) sum += _mm512_reduce_add_ps(v);
    return static_cast<std::uint64_t>(sum);
}

// AVX2 has no dot product of bytes: three instructions stand in for it, as in
// every library's fall-back.
__attribute__((target("avx2"))) std::uint64_t int8_avx2(std::uint64_t rounds) {
    constexpr int kFewer = 8;  // the stand-in needs registers of its own
    __m256i x[kFewer];
    for (auto& v : x) v = _mm256_set1_epi32(1);
    auto a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2);
    auto const ones = _mm256_set1_epi16(1);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        HEARTH_UNROLL for (int k = 0; k < kFewer; ++k) {
            asm volatile("" : "+x"(a));  // the product is not a constant
            x[k] = _mm256_add_epi32(x[k], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
        }
        HEARTH_UNROLL for (int k = 0; k < kFewer; ++k) asm volatile("" : "+x"(x[k]));
    }
    auto sum = x[0];
    for (int k = 1; k < kFewer; ++k) sum = _mm256_add_epi32(sum, x[k]);
    return static_cast<std::uint64_t>(_mm256_extract_epi32(sum, 0));
}

__attribute__((target("avxvnni"))) std::uint64_t int8_vnni256(std::uint64_t rounds) {
    __m256i x[kChains];
    for (auto& v : x) v = _mm256_set1_epi32(1);
    auto const a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(2);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) x[k] = _mm256_dpbusd_avx_epi32(x[k], a, b);
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) asm volatile("" : "+x"(x[k]));
    }
    auto sum = x[0];
    for (int k = 1; k < kChains; ++k) sum = _mm256_add_epi32(sum, x[k]);
    return static_cast<std::uint64_t>(_mm256_extract_epi32(sum, 0));
}

__attribute__((target("avx512f,avx512vnni"))) std::uint64_t int8_vnni512(std::uint64_t rounds) {
    __m512i x[kChains];
    for (auto& v : x) v = _mm512_set1_epi32(1);
    auto const a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(2);
    for (std::uint64_t i = 0; i < rounds; ++i) {
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) x[k] = _mm512_dpbusd_epi32(x[k], a, b);
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) asm volatile("" : "+v"(x[k]));
    }
    auto sum = x[0];
    for (int k = 1; k < kChains; ++k) sum = _mm512_add_epi32(sum, x[k]);
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi32(sum));
}

__attribute__((target("avx512f,avx512bf16"))) std::uint64_t bf16_dot512(std::uint64_t rounds) {
    __m512 x[kChains];
    for (auto& v : x) v = _mm512_set1_ps(1.0F);
    auto const a = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3F80));  // 1.0
    auto const b = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3080));  // about 1e-9
    for (std::uint64_t i = 0; i < rounds; ++i) {
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) x[k] = _mm512_dpbf16_ps(x[k], a, b);
        HEARTH_UNROLL for (int k = 0; k < kChains; ++k) asm volatile("" : "+v"(x[k]));
    }
    float sum = 0;
    for (auto const& v : x) sum += _mm512_reduce_add_ps(v);
    return static_cast<std::uint64_t>(sum);
}

__attribute__((target("avx2"))) std::uint64_t read_avx2(std::byte const* data, std::size_t bytes) {
    __m256i x[8];
    for (auto& v : x) v = _mm256_setzero_si256();
    for (std::size_t i = 0; i < bytes; i += 256) {
        HEARTH_UNROLL for (std::size_t k = 0; k < 8; ++k) {
            x[k] = _mm256_xor_si256(x[k], _mm256_load_si256(reinterpret_cast<__m256i const*>(data + i + 32 * k)));
        }
    }
    auto sum = x[0];
    for (int k = 1; k < 8; ++k) sum = _mm256_xor_si256(sum, x[k]);
    return static_cast<std::uint64_t>(_mm256_extract_epi64(sum, 0));
}

__attribute__((target("avx512f"))) std::uint64_t read_avx512(std::byte const* data, std::size_t bytes) {
    __m512i x[8];
    for (auto& v : x) v = _mm512_setzero_si512();
    for (std::size_t i = 0; i < bytes; i += 512) {
        HEARTH_UNROLL for (std::size_t k = 0; k < 8; ++k) {
            x[k] = _mm512_xor_si512(x[k], _mm512_load_si512(data + i + 64 * k));
        }
    }
    auto sum = x[0];
    for (int k = 1; k < 8; ++k) sum = _mm512_xor_si512(sum, x[k]);
    return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sum));
}

  #undef HEARTH_UNROLL

struct Cpu {
    bool fma, avx2, avx512f, avx512_vnni, avx512_bf16, avx_vnni;
};

// The compiler's table knows whether the system saves the wide registers too.
Cpu cpu() {
    __builtin_cpu_init();
    return {__builtin_cpu_supports("fma") != 0,        __builtin_cpu_supports("avx2") != 0,
            __builtin_cpu_supports("avx512f") != 0,    __builtin_cpu_supports("avx512vnni") != 0,
            __builtin_cpu_supports("avx512bf16") != 0, __builtin_cpu_supports("avxvnni") != 0};
}

#endif

}  // namespace

#if defined(__x86_64__)

std::vector<ArithmeticKernel> arithmetic_kernels() {
    auto const has = cpu();
    std::vector<ArithmeticKernel> kernels;
    if (has.avx512f && has.avx512_vnni) {
        kernels.push_back({"int8", "VPDPBUSD zmm", 2.0 * 64 * kChains, int8_vnni512});
    } else if (has.avx_vnni) {
        kernels.push_back({"int8", "VPDPBUSD ymm", 2.0 * 32 * kChains, int8_vnni256});
    } else if (has.avx2) {
        kernels.push_back({"int8", "VPMADDUBSW + VPMADDWD + VPADDD ymm", 2.0 * 32 * 8, int8_avx2});
    }
    if (has.avx512f && has.avx512_bf16) kernels.push_back({"bf16", "VDPBF16PS zmm", 2.0 * 32 * kChains, bf16_dot512});
    if (has.avx512f) {
        kernels.push_back({"fp32", "VFMADD zmm", 2.0 * 16 * kChains, fp32_fma512});
    } else if (has.avx2 && has.fma) {
        kernels.push_back({"fp32", "VFMADD ymm", 2.0 * 8 * kChains, fp32_fma});
    } else {
        kernels.push_back({"fp32", "multiply and add, 128 bits", 2.0 * 4 * kChains, fp32_plain});
    }
    return kernels;
}

ReadLoop read_loop() {
    auto const has = cpu();
    return has.avx512f ? read_avx512 : has.avx2 ? read_avx2 : read_plain;
}

std::string_view instruction_sets() {
    static std::string const text = [] {
        auto const has = cpu();
        std::string all = "sse2";
        if (has.avx2) all += " avx2";
        if (has.fma) all += " fma";
        if (has.avx_vnni) all += " avx-vnni";
        if (has.avx512f) all += " avx512f";
        if (has.avx512_vnni) all += " avx512-vnni";
        if (has.avx512_bf16) all += " avx512-bf16";
        return all;
    }();
    return text;
}

#else

std::vector<ArithmeticKernel> arithmetic_kernels() {
    return {{"fp32", "multiply and add, 128 bits", 2.0 * 4 * kChains, fp32_plain}};
}
ReadLoop read_loop() { return read_plain; }
std::string_view instruction_sets() { return "generic"; }

#endif

}  // namespace hearth::bench
