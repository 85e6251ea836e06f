#include "engine/sampling_math.h"

#include <cmath>
#include <limits>

namespace hearth::engine {
namespace {

constexpr double kLn2High = 0x1.62e42fee00000p-1;  // the low bits are zero: n * kLn2High is exact
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kSqrtHalf = 0.70710678118654752440;

}  // namespace

double log_of(double x) {
    if (x <= 0) return -std::numeric_limits<double>::infinity();
    int exponent = 0;
    double mantissa = std::frexp(x, &exponent);  // exact
    if (mantissa < kSqrtHalf) {
        mantissa *= 2;
        --exponent;
    }
    // log m = 2 atanh((m - 1) / (m + 1)); |s| <= 0.1716, so s^25 ends below 2^-53.
    double const s = (mantissa - 1) / (mantissa + 1);
    double const square = s * s;
    double series = 0;
    for (int k = 25; k >= 3; k -= 2) series = (series + 1.0 / k) * square;
    double const n = exponent;
    return n * kLn2High + (2 * s + (2 * s * series + n * kLn2Low));
}

double exp_of(double x) {
    if (x > 709.0) return std::numeric_limits<double>::infinity();
    if (x < -745.0) return 0;
    double const n = std::floor(x * 1.4426950408889634 + 0.5);
    double const r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= 0.347
    double sum = 1;
    for (int k = 17; k >= 1; --k) sum = 1 + sum * r / k;
    return std::ldexp(sum, static_cast<int>(n));
}

double power_of(double base, std::int64_t exponent) {
    double result = 1;
    for (double square = base; exponent > 0; exponent >>= 1) {
        if ((exponent & 1) != 0) result *= square;
        square *= square;
    }
    return result;
}

}  // namespace hearth::engine
