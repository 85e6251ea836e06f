// CompletionRate: how soon a place in a queue gets free.
//
// What counts is how fast requests end while others wait for their places: the
// newest such intervals, as many as span two seconds and no fewer than a full
// batch of requests, so that a fall is followed within about two seconds where
// requests end that fast. Requests that were begun together end together: what
// spans less than two seconds counts by how much of them it spans. The rest of
// the estimate is the time one request was computed, divided by how many were
// computed or ended meanwhile: too small rather than too large, so that nobody is
// turned away on a guess.
//
// Threads: one.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace hearth::serving {

class CompletionRate {
public:
    static constexpr std::uint32_t kRetryMax = 60;       // seconds, for a full queue
    static constexpr std::uint32_t kRetryUnknown = 5;    // seconds, before anything ended
    static constexpr std::uint32_t kPredictedMax = 3600; // seconds

    // A request ended after `computed`, with `beside` computed at that moment,
    // itself included. `queued_since`: when the oldest that waits came, if one does.
    void completed(Instant now, Duration computed, std::uint32_t beside, std::optional<Instant> queued_since) {
        // Only an interval in which somebody waited from its beginning tells what the engine can do.
        if (queued_since && count_ > 0 && *queued_since <= last_) {
            intervals_[known_ % kRemembered] = now - last_;
            ++known_;
        }
        ends_[count_ % kRemembered] = now;
        ++count_;
        double const each = to_ms(computed) / 1000 / std::max(beside, ended_since(now - computed));
        share_s_ = count_ == 1 ? each : share_s_ + (each - share_s_) * kWeight;
        last_ = now;
        refused_ = 0;
    }
    void refused() { ++refused_; }

    // Seconds between two places getting free; nothing before a request ended.
    // A queue that stands still gets longer estimates.
    [[nodiscard]] std::optional<double> seconds_each(Instant now, std::optional<Instant> queued_since) const {
        if (count_ == 0) return std::nullopt;
        double const each = expected_s();
        if (!queued_since) return each;
        return std::max(each, to_ms(now - std::max(last_, *queued_since)) / 1000);
    }

    // Seconds until the callers refused since the last completion, and one more,
    // could have been taken in; 1 to kRetryMax.
    [[nodiscard]] std::uint32_t retry_s(Instant now, std::optional<Instant> queued_since) const {
        auto const each = seconds_each(now, queued_since);
        return each ? whole(*each * (refused_ + 1.0), 1, kRetryMax) : kRetryUnknown;
    }

    // Seconds until a request with `ahead` others in front of it begins; nothing if unknown.
    [[nodiscard]] std::optional<double> wait_s(std::uint32_t ahead, Instant now,
                                               std::optional<Instant> queued_since) const {
        auto const each = seconds_each(now, queued_since);
        if (!each) return std::nullopt;
        return *each * (ahead + 1.0);
    }

    // As whole seconds, rounded up.
    [[nodiscard]] static std::uint32_t whole(double seconds, std::uint32_t low, std::uint32_t high) {
        return static_cast<std::uint32_t>(
            std::clamp(std::ceil(seconds), static_cast<double>(low), static_cast<double>(high)));
    }

private:
    static constexpr std::size_t kRemembered = 64;
    static constexpr std::size_t kBatch = 16;  // intervals: the ends of one batch tell little
    static constexpr std::size_t kIntervalsMin = 4;
    static constexpr double kSpan = 2;      // seconds
    static constexpr double kWeight = 0.2;  // of the newest request in the average

    // Of the last kRemembered ends.
    [[nodiscard]] std::uint32_t ended_since(Instant begin) const {
        auto const held = ends_.begin() + static_cast<std::ptrdiff_t>(std::min(count_, kRemembered));
        return static_cast<std::uint32_t>(std::count_if(ends_.begin(), held, [&](Instant end) { return end > begin; }));
    }

    [[nodiscard]] double expected_s() const {
        std::size_t const held = std::min(known_, kRemembered);
        std::size_t count = 0;
        double span = 0;
        for (; count < held && (count < kBatch || span < kSpan); ++count)
            span += to_ms(intervals_[(known_ - 1 - count) % kRemembered]) / 1000;
        if (count == 0) return share_s_;
        double const trust =
            std::min({1.0, span / kSpan, static_cast<double>(count) / static_cast<double>(kIntervalsMin)});
        return share_s_ + (span / static_cast<double>(count) - share_s_) * trust;
    }

    std::array<Duration, kRemembered> intervals_{};
    std::array<Instant, kRemembered> ends_{};
    std::size_t known_ = 0;
    std::size_t count_ = 0;
    Instant last_{};
    double share_s_ = 0;
    std::uint32_t refused_ = 0;
};

}  // namespace hearth::serving
