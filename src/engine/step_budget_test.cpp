#include "engine/step_budget.h"

#include <gtest/gtest.h>

namespace hearth::engine {
namespace {

constexpr StepBudget::Limits kLimits{.min = 32, .start = 64, .max = 256, .target_ms = 60};

// A machine on which a step of n tokens takes a + b * n milliseconds.
std::uint32_t settle(StepBudget& budget, double a, double b) {
    for (int i = 0; i < 50; ++i) budget.observe(budget.tokens(), a + b * budget.tokens());
    return budget.tokens();
}

TEST(step_budget, settles_where_a_step_takes_its_target) {
    StepBudget budget(kLimits);
    EXPECT_NEAR(settle(budget, 6, 0.5), 108, 2);
    EXPECT_NEAR(settle(budget, 20, 0.7), 57, 2) << "follows a machine that became slower";
    EXPECT_NEAR(settle(budget, 1, 0.25), 236, 3) << "and one that became faster";
}

TEST(step_budget, stays_within_its_limits) {
    StepBudget budget(kLimits);
    EXPECT_EQ(settle(budget, 200, 30), 32U);
    EXPECT_EQ(settle(budget, 0.1, 0.001), 256U);
}

TEST(step_budget, does_not_move_while_the_clock_stands_still) {
    StepBudget budget(kLimits);
    budget.observe(64, 0);
    EXPECT_EQ(budget.tokens(), 64U);
}

TEST(step_budget, a_short_step_says_nothing_about_a_long_one) {
    StepBudget budget(kLimits);
    budget.observe(5, 15);
    EXPECT_EQ(budget.tokens(), 64U);
    budget.observe(5, 120);
    EXPECT_EQ(budget.tokens(), 32U) << "unless it was already too slow";
}

TEST(step_budget, takes_a_hint_only_until_it_has_seen_a_step) {
    StepBudget budget(kLimits);
    budget.hint(512, 360);
    EXPECT_EQ(budget.tokens(), 85U);
    budget.observe(80, 59);
    budget.hint(512, 5000);
    EXPECT_NEAR(budget.tokens(), 85, 1);
}

}  // namespace
}  // namespace hearth::engine
