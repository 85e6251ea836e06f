// CompletionRate: how soon a place in a queue gets free.
//
// What counts is how fast requests end while others wait for their places; the
// last kRemembered such intervals are kept. Until there are kIntervalsMin, the
// time one request was computed, divided by how many were computed beside it,
// stands in: too small rather than too large, so that nobody is turned away on
// a guess.
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
        double const each = to_ms(computed) / 1000 / std::max(1U, beside);
        share_s_ = count_ == 0 ? each : share_s_ + (each - share_s_) * kWeight;
        ++count_;
        last_ = now;
        refused_ = 0;
    }
    void refused() { ++refused_; }

    // Seconds between two places getting free; nothing before a request ended.
    // A queue that stands still gets longer estimates.
    [[nodiscard]] std::optional<double> seconds_each(Instant now, std::optional<Instant> queued_since) const {
        if (count_ == 0) return std::nullopt;
        double each = share_s_;
        if (known_ >= kIntervalsMin) {
            std::size_t const held = std::min(known_, kRemembered);
            Duration sum{};
            for (std::size_t i = 0; i < held; ++i) sum += intervals_[i];
            each = to_ms(sum) / 1000 / static_cast<double>(held);
        }
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
    static constexpr std::size_t kRemembered = 32;
    static constexpr std::size_t kIntervalsMin = 4;
    static constexpr double kWeight = 0.2;  // of the newest request in the average
    std::array<Duration, kRemembered> intervals_{};
    std::size_t known_ = 0;
    std::size_t count_ = 0;
    Instant last_{};
    double share_s_ = 0;
    std::uint32_t refused_ = 0;
};

}  // namespace hearth::serving
