// StepBudget: how many tokens a step may hold so that it takes about its target
// time.
//
// Steps cost a + b * tokens with a and b unknown and slowly changing (longer
// contexts, other load). Scaling the budget by target / measured converges on
// the right number whatever a and b are, without a model of the hardware.
// Deterministic: a clock that stands still never changes it.
//
// Threads: one.
#pragma once

#include <cstdint>

namespace hearth::engine {

class StepBudget {
public:
    struct Limits {
        std::uint32_t min;
        std::uint32_t start;
        std::uint32_t max;
        double target_ms;
    };

    // REQUIRES: 0 < min <= start <= max, target_ms > 0
    explicit StepBudget(Limits limits);

    [[nodiscard]] std::uint32_t tokens() const { return static_cast<std::uint32_t>(tokens_); }

    // A step under this budget held `tokens` and took `ms`. It shrinks at once
    // when the step was too slow; it grows, at most twofold, only when it was
    // what bounded the step.
    void observe(std::uint32_t tokens, double ms);

    // What a step of another kind says about the cost per token: the starting
    // point, as long as nothing better was observed.
    void hint(std::uint32_t tokens, double ms);

private:
    void set(double tokens);

    Limits limits_;
    double tokens_;
    bool observed_ = false;
};

}  // namespace hearth::engine
