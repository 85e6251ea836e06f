// Sixteen floats at a time, in whatever registers the CPU variant has.
//
// The order in which a sum is added up is part of a kernel's contract: it may not
// depend on how many rows or columns are computed together. So sums are kept as
// 16 partial sums, and sum_lanes() and sum_rows() add those up in one order.
//
// Private to the kernels; each variant has its own copy.
#pragma once

#include <simd-mappings.h>

#include <bit>
#include <cstdint>
#include <cstring>

#define HEARTH_INLINE [[gnu::always_inline]] inline

namespace hearth::llama {

inline constexpr int kLanes = 16;
using F32x16 = float __attribute__((vector_size(64)));
using I32x16 = std::int32_t __attribute__((vector_size(64)));

HEARTH_INLINE F32x16 load(float const* from) {
    F32x16 value;
    std::memcpy(&value, from, sizeof(value));
    return value;
}
HEARTH_INLINE void store(float* to, F32x16 value) { std::memcpy(to, &value, sizeof(value)); }
// Not a sum with zero: that is an instruction of its own.
HEARTH_INLINE F32x16 all(float v) { return F32x16{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }

HEARTH_INLINE F32x16 load(ggml_fp16_t const* from) {
#if defined(__F16C__) || defined(__AVX512F__) || defined(__aarch64__)
    using F16x16 = _Float16 __attribute__((vector_size(32)));
    F16x16 value;
    std::memcpy(&value, from, sizeof(value));
    return __builtin_convertvector(value, F32x16);
#else
    F32x16 value;
    for (int i = 0; i < kLanes; ++i) value[i] = GGML_CPU_FP16_TO_FP32(from[i]);
    return value;
#endif
}

// Fused where the processor can, so that compilers have no choice.
HEARTH_INLINE F32x16 multiply_add(F32x16 a, F32x16 b, F32x16 sum) {
#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
    return __builtin_elementwise_fma(a, b, sum);
#else
    F32x16 const product = a * b;
    return product + sum;
#endif
}

// The order: lanes 8 apart, then 4, 2, 1.
HEARTH_INLINE float sum_lanes(F32x16 v) {
    float eight[8], four[4];
    for (int i = 0; i < 8; ++i) eight[i] = v[i] + v[i + 8];
    for (int i = 0; i < 4; ++i) four[i] = eight[i] + eight[i + 4];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

// Lane i is sum_lanes(rows[i]).
HEARTH_INLINE F32x16 sum_rows(F32x16 const* rows) {
    F32x16 eight[8], four[4], two[2];
    for (int i = 0; i < 8; ++i) {
        F32x16 const x = rows[i], y = rows[i + 8];
        eight[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                   __builtin_shufflevector(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    for (int i = 0; i < 4; ++i) {
        F32x16 const x = eight[i], y = eight[i + 4];
        four[i] = __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
                  __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    }
    for (int i = 0; i < 2; ++i) {
        F32x16 const x = four[i], y = four[i + 2];
        two[i] = __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                 __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    F32x16 const x = two[0], y = two[1];
    F32x16 const one = __builtin_shufflevector(x, y, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
                       __builtin_shufflevector(x, y, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
    return __builtin_shufflevector(one, one, 0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
}

// e^x for x <= 0, within two units in the last place; 1 for 0, 0 below -87, NaN for NaN.
// Cody and Waite's reduction, the polynomial of Cephes' expf.
HEARTH_INLINE F32x16 exp_negative(F32x16 x) {
    constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    F32x16 const lowest = all(-87.0F);
    F32x16 const clamped = x < lowest ? lowest : x;
    F32x16 const shifted = multiply_add(clamped, all(1.44269504F), all(kRound));
    F32x16 const whole = shifted - kRound;
    F32x16 r = multiply_add(whole, all(-0.693359375F), clamped);
    r = multiply_add(whole, all(2.12194440e-4F), r);
    F32x16 p = all(1.9875691500e-4F);
    for (float const c : {1.3981999507e-3F, 8.3334519073e-3F, 4.1665795894e-2F, 1.6666665459e-1F, 5.0000001201e-1F})
        p = multiply_add(p, r, all(c));
    p = multiply_add(p, r * r, r) + 1.0F;
    auto const bits = std::bit_cast<I32x16>(shifted) - std::bit_cast<std::int32_t>(kRound);
    F32x16 const result = p * std::bit_cast<F32x16>((bits + 127) << 23);
    return x < lowest ? F32x16{} : result;
}

}  // namespace hearth::llama
