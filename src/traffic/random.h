// Random: a small generator whose sequence is the same everywhere, so that a
// seed names a workload. (The standard library leaves its distributions to
// each implementation.)
//
// Threads: one.
#pragma once

#include <cmath>
#include <cstdint>

namespace hearth::traffic {

class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    // splitmix64 (Steele, Lea, Flood 2014).
    std::uint64_t next() {
        state_ += 0x9E3779B97F4A7C15ULL;
        auto z = state_;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        return z ^ (z >> 31);
    }

    // 0..bound-1. REQUIRES: bound > 0
    std::uint64_t below(std::uint64_t bound) { return next() % bound; }

    // [0, 1)
    double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

    // The wait for the next event of a Poisson process. REQUIRES: rate > 0
    double exponential(double rate) { return -std::log1p(-unit()) / rate; }

private:
    std::uint64_t state_;
};

}  // namespace hearth::traffic
