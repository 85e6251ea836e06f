// WriteBudget: how much may be written now, so that in the long run no more
// than a rate is, and a burst passes at once. A bucket that one write may overdraw.
//
// Threads: one. Private to kvstore.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace hearth::kvstore {

class WriteBudget {
public:
    // REQUIRES: bytes_per_s > 0
    WriteBudget(std::uint64_t bytes_per_s, std::uint64_t burst_bytes)
        : bytes_per_s_(static_cast<double>(bytes_per_s)), burst_(static_cast<double>(burst_bytes)), left_(burst_) {}

    [[nodiscard]] bool allows(Instant now) const { return left(now) >= 0; }
    // When it allows again, if nothing is spent until then.
    [[nodiscard]] Instant when(Instant now) const {
        double const lack_s = std::max(0.0, -left(now)) / bytes_per_s_;
        return now + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(lack_s)) +
               std::chrono::milliseconds(1);
    }
    void spend(Instant now, std::uint64_t bytes) {
        left_ = left(now) - static_cast<double>(bytes);
        at_ = now;
    }

private:
    [[nodiscard]] double left(Instant now) const {
        double const gained = std::chrono::duration<double>(now - at_).count() * bytes_per_s_;
        return std::min(burst_, left_ + gained);
    }

    double bytes_per_s_;
    double burst_;
    double left_;
    Instant at_{};
};

}  // namespace hearth::kvstore
