// Throttle: how long to wait so that bytes do not pass faster than a rate.
//
// Threads: none of its own; time is a parameter.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace hearth::fetch {

class Throttle {
public:
    // 0: no limit.
    explicit Throttle(std::uint64_t bytes_per_second) : rate_(bytes_per_second) {}

    [[nodiscard]] bool active() const { return rate_ > 0; }

    // What to read at most at once, so that waits stay short.
    [[nodiscard]] std::uint64_t piece_max() const { return std::max<std::uint64_t>(rate_ / 20, 1024); }

    // `bytes` have passed at `now`; the next may after the returned time.
    [[nodiscard]] Duration pass(std::uint64_t bytes, Instant now) {
        if (!active()) return Duration::zero();
        auto const takes = std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate_));
        free_at_ = std::max(free_at_, now) + std::chrono::duration_cast<Duration>(takes);
        return free_at_ - now;
    }

private:
    std::uint64_t rate_;
    Instant free_at_{};
};

}  // namespace hearth::fetch
