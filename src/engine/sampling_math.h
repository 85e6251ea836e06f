// Random, exp and log for sampling: the same bits on every machine.
//
// libm's exp and log differ in the last bit between versions and CPUs, and the
// standard's distributions between libraries; a seed would then name different
// texts. These are plain IEEE arithmetic (the module is compiled with
// -ffp-contract=off), so that a seed and equal logits give equal tokens anywhere.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace hearth::engine {

// xoshiro256** (Blackman, Vigna), seeded by splitmix64.
class Random {
public:
    explicit Random(std::uint64_t seed) {
        for (auto& word : state_) word = next_splitmix(seed);
    }

    std::uint64_t next() {
        std::uint64_t const result = std::rotl(state_[1] * 5, 7) * 9;
        std::uint64_t const shifted = state_[1] << 17U;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    // In [0, 1), 53 random bits.
    double uniform() { return static_cast<double>(next() >> 11U) * 0x1p-53; }

    static std::uint64_t next_splitmix(std::uint64_t& state) {
        std::uint64_t z = state += 0x9E3779B97F4A7C15U;
        z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
        z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
        return z ^ (z >> 31U);
    }

private:
    std::array<std::uint64_t, 4> state_{};
};

// e^x for x <= 0, relative error below 2e-7; 0 below -87. Branch-free, so that
// loops over it vectorise. Polynomial: Cephes expf.
[[nodiscard]] inline float exp_nonpositive(float x) {
    constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low mantissa bits
    float const clamped = x > -87.0F ? x : -87.0F;
    float const shifted = clamped * 1.44269504F + kRound;
    float const n = shifted - kRound;
    float const r = clamped - n * 0.693359375F - n * -2.12194440e-4F;
    float poly = 1.9875691500e-4F;
    poly = poly * r + 1.3981999507e-3F;
    poly = poly * r + 8.3334519073e-3F;
    poly = poly * r + 4.1665795894e-2F;
    poly = poly * r + 1.6666665459e-1F;
    poly = poly * r + 5.0000001201e-1F;
    float const mantissa = poly * r * r + r + 1.0F;
    auto const exponent = (std::bit_cast<std::uint32_t>(shifted) + 127U) << 23U;
    float const result = mantissa * std::bit_cast<float>(exponent);
    return x > -87.0F ? result : 0.0F;
}

// Natural logarithm and exponential of doubles, relative error below 1e-14.
// log_of(0) is -infinity.
// REQUIRES: x >= 0 and finite
[[nodiscard]] double log_of(double x);
// Saturates to 0 and to infinity.
[[nodiscard]] double exp_of(double x);

// base^exponent by squaring. REQUIRES: exponent >= 0
[[nodiscard]] double power_of(double base, std::int64_t exponent);

}  // namespace hearth::engine
