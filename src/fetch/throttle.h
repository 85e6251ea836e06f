// Throttle: how long to wait so that bytes do not pass faster than a rate. Pace: the same through two of them.
//
// Time is a parameter.
//
// Threads: a Throttle takes any, so that those who share one share its rate; a Pace is its client's.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>

#include "base/clock.h"

namespace hearth::fetch {

class Throttle {
public:
    // 0: no limit.
    explicit Throttle(std::uint64_t bytes_per_second) : rate_(bytes_per_second) {}

    // What to move at most at once, so that waits stay short.
    [[nodiscard]] std::size_t piece_max() const {
        if (rate_ == 0) return std::numeric_limits<std::size_t>::max();
        return static_cast<std::size_t>(std::max<std::uint64_t>(rate_ / 20, 1024));
    }

    // `bytes` have passed at `now`; the next may after the returned time. 0 of them change nothing.
    [[nodiscard]] Duration pass(std::uint64_t bytes, Instant now) {
        if (rate_ == 0) return Duration::zero();
        auto const takes = std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate_));
        std::lock_guard const lock(mutex_);
        auto const free_at = std::max(free_at_, now) + std::chrono::duration_cast<Duration>(takes);
        if (bytes > 0) free_at_ = free_at;
        return free_at - now;
    }

private:
    std::uint64_t const rate_;
    std::mutex mutex_;
    Instant free_at_{};  // guarded by mutex_
};

// One's own rate, and one that is shared with others: the slower one counts.
class Pace {
public:
    // `shared` may be null.
    Pace(std::uint64_t own_bytes_per_second, std::shared_ptr<Throttle> shared)
        : own_(own_bytes_per_second), shared_(std::move(shared)) {}

    [[nodiscard]] std::size_t piece_max() const {
        return shared_ ? std::min(own_.piece_max(), shared_->piece_max()) : own_.piece_max();
    }

    [[nodiscard]] Duration pass(std::uint64_t bytes, Instant now) {
        auto const wait = own_.pass(bytes, now);
        return shared_ ? std::max(wait, shared_->pass(bytes, now)) : wait;
    }

private:
    Throttle own_;
    std::shared_ptr<Throttle> const shared_;
};

}  // namespace hearth::fetch
