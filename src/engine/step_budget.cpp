#include "engine/step_budget.h"

#include <algorithm>

#include "base/assert.h"

namespace hearth::engine {

StepBudget::StepBudget(Limits limits) : limits_(limits), tokens_(limits.start) {
    HEARTH_ASSERT(0 < limits.min && limits.min <= limits.start && limits.start <= limits.max && limits.target_ms > 0,
                  "limits are in order");
}

void StepBudget::observe(std::uint32_t tokens, double ms) {
    if (!(ms > 0) || tokens == 0) return;
    observed_ = true;
    double const ideal = tokens * limits_.target_ms / ms;
    if (ms > limits_.target_ms) {
        set(std::min(tokens_, ideal));
    } else if (tokens >= 0.9 * tokens_) {
        set(std::clamp(ideal, tokens_, 2 * tokens_));
    }
}

void StepBudget::hint(std::uint32_t tokens, double ms) {
    if (observed_ || !(ms > 0) || tokens == 0) return;
    set(tokens * limits_.target_ms / ms);
}

void StepBudget::set(double tokens) {
    tokens_ = std::clamp(tokens, static_cast<double>(limits_.min), static_cast<double>(limits_.max));
}

}  // namespace hearth::engine
