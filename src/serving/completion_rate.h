// CompletionRate: how soon a place in a full queue gets free.
//
// Remembers when the last kRemembered requests ended. Threads: one.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace hearth::serving {

class CompletionRate {
public:
    static constexpr std::uint32_t kWaitMax = 60;      // seconds
    static constexpr std::uint32_t kWaitUnknown = 5;   // seconds, before two requests ended

    void completed(Instant now) {
        ended_[count_ % kRemembered] = now;
        ++count_;
        refused_ = 0;
    }
    void refused() { ++refused_; }

    // Seconds until the callers refused since the last completion, and one more,
    // could have been taken in; 1 to kWaitMax.
    [[nodiscard]] std::uint32_t wait_s(Instant now) const {
        std::size_t const known = std::min(count_, kRemembered);
        if (known < 2) return kWaitUnknown;
        Instant const oldest = ended_[known < kRemembered ? 0 : count_ % kRemembered];
        // Counted up to now: a queue that stands still gets longer estimates.
        double const seconds_each = to_ms(now - oldest) / 1000 / static_cast<double>(known);
        double const wait = std::ceil(seconds_each * (refused_ + 1.0));
        return static_cast<std::uint32_t>(std::clamp(wait, 1.0, static_cast<double>(kWaitMax)));
    }

private:
    static constexpr std::size_t kRemembered = 32;
    std::array<Instant, kRemembered> ended_{};
    std::size_t count_ = 0;
    std::uint32_t refused_ = 0;
};

}  // namespace hearth::serving
