// Interruption: whether the step that is being computed is given up for a
// request that has just come and goes before everybody in it.
//
// What was computed of the step is lost and computed again later. So it is given
// up only where what is left of it is worth that, and what is lost is paid from a
// purse that a part of the time goes into: whatever comes in, others lose no more
// than that part, and always get on.
//
// Threads: one at a time. Deterministic: times are given to it.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace hearth::sched {

class Interruption {
public:
    // Of the time that goes by, into the purse: crowded steps are interrupted some four times a second for that.
    static constexpr double kShare = 0.2;
    static constexpr double kPurseMaxMs = 500;   // it begins with
    static constexpr double kWorthMs = 3;        // less than that of a step is waited for,
    static constexpr double kWorthShare = 0.05;  // or than this part of it

    // A step of these begins; `level`: the best class in it, 0 the best of all.
    void begin(Instant now, double predicted_ms, std::uint32_t level);

    // Whether to give it up for a request of this class. False when no step runs:
    // then the next one is not to begin without it. `done`: how much of the step is computed, from 0 to 1,
    // where that is known; without it, one that takes longer than was predicted is thought to end any moment.
    [[nodiscard]] bool is_worth(Instant now, std::uint32_t level, std::optional<double> done = std::nullopt) const;
    [[nodiscard]] bool is_running() const { return running_.has_value(); }

    // It has ended. What it took is lost if it was given up.
    void end(Instant now, bool given_up);

    [[nodiscard]] double purse_ms() const { return purse_ms_; }

private:
    struct Step {
        double predicted_ms;
        std::uint32_t level;
    };

    std::optional<Step> running_;
    Instant since_{};  // of the running step, or the end of the last one
    bool began_ = false;
    double purse_ms_ = kPurseMaxMs;
};

}  // namespace hearth::sched
