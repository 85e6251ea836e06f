#include "sched/draft_policy.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::sched {
namespace {

// A model ten times as slow as the one that guesses for it; a row beside others costs a twentieth.
constexpr DraftCosts kCheap{.token_ms = 10, .row_ms = 0.5, .pass_ms = 0.8, .guess_ms = 0.2};
constexpr double kForever = 1e9;

std::uint32_t depth_for(double chance, DraftCosts const& costs = kCheap, double ms_max = kForever) {
    std::vector<DraftWish> wishes{{.chance = chance, .most = 12}};
    DraftPolicy::choose(costs, ms_max, wishes);
    return wishes[0].depth;
}

TEST(draft_policy, guesses_deeper_the_surer_it_is) {
    EXPECT_EQ(depth_for(0), 0U);
    EXPECT_EQ(depth_for(0.1), 0U);   // worth 1 ms, costs 1.5
    EXPECT_EQ(depth_for(0.2), 1U);   // worth 2, then 0.4
    EXPECT_EQ(depth_for(0.5), 2U);   // 5, 2.5, then 1.25
    EXPECT_GT(depth_for(0.9), 8U);
    EXPECT_EQ(depth_for(1), 12U);
}

TEST(draft_policy, makes_no_guess_with_a_model_as_slow_as_the_other) {
    EXPECT_EQ(depth_for(1, {.token_ms = 10, .row_ms = 0.5, .pass_ms = 8, .guess_ms = 2}), 0U);
}

TEST(draft_policy, several_share_a_pass) {
    DraftCosts const costs{.token_ms = 10, .row_ms = 0.5, .pass_ms = 9, .guess_ms = 0.2};
    EXPECT_EQ(depth_for(0.8, costs), 0U);
    std::vector<DraftWish> wishes(4, {.chance = 0.8, .most = 12});
    double const ms = DraftPolicy::choose(costs, kForever, wishes);
    for (auto const& wish : wishes) EXPECT_GE(wish.depth, 2U);
    EXPECT_NEAR(ms, wishes[0].depth * (9 + 4 * 0.2), 1e-9);
}

TEST(draft_policy, the_unsure_are_left_out_and_nobody_gets_more_than_it_has_room_for) {
    std::vector<DraftWish> wishes{{.chance = 0.9, .most = 3}, {.chance = 0.02, .most = 12}};
    DraftPolicy::choose(kCheap, kForever, wishes);
    EXPECT_EQ(wishes[0].depth, 3U);
    EXPECT_EQ(wishes[1].depth, 0U);
}

TEST(draft_policy, passes_take_no_longer_than_they_may) {
    std::vector<DraftWish> wishes{{.chance = 0.98, .most = 12}};
    EXPECT_LE(DraftPolicy::choose(kCheap, 3.5, wishes), 3.5);
    EXPECT_EQ(wishes[0].depth, 3U);
    EXPECT_EQ(depth_for(0.98, kCheap, 0), 0U);
}

TEST(draft_policy, says_what_a_token_costs_less) {
    EXPECT_EQ(DraftPolicy::saving_ms(kCheap, 0.1, 12), 0);
    // One guess that is right: two tokens for a step, a row and a pass.
    EXPECT_NEAR(DraftPolicy::saving_ms(kCheap, 0.5, 1), (5 - 1.5) / 1.5, 1e-9);
    EXPECT_GT(DraftPolicy::saving_ms(kCheap, 0.9, 12), 5);
}

TEST(draft_policy, chances_follow_what_comes_true) {
    DraftChance chance;
    EXPECT_NEAR(chance.probability(), DraftChance::kHope, 1e-9);
    for (int i = 0; i < 40; ++i) chance.observe(4, 0);
    EXPECT_LT(chance.probability(), 0.06);
    for (int i = 0; i < 60; ++i) chance.observe(4, 4);
    EXPECT_GT(chance.probability(), 0.95);
}

// Steps of 10 ms per token; a step with a guess takes `ms` and brings `extra` tokens more.
struct Server {
    DraftPolicy policy{{.base = 8, .per_decode = 2, .per_prompt = 1, .per_attended = 0}};
    StepShape one{.decodes = 1, .prompt_tokens = 0, .attended = 0};
    double total_ms = 0;
    double lost_ms = 0;
    std::uint64_t drafted = 0;

    void step(double ms, std::uint32_t extra) {
        if (!policy.may_draft()) {
            total_ms += 10;
            policy.passed(one, 10, 10);
            return;
        }
        total_ms += ms;
        lost_ms += ms - 10 - 10.0 * extra;
        ++drafted;
        policy.book(policy.drafted(one, ms, extra, 10));
    }
};

TEST(draft_policy, what_loses_loses_a_hundredth_of_the_time_and_the_purse) {
    Server server;
    for (int i = 0; i < 20000; ++i) server.step(14, 0);
    EXPECT_GT(server.drafted, 20U);  // it is tried again
    EXPECT_LT(server.lost_ms, 0.012 * server.total_ms + 150);
}

TEST(draft_policy, what_gains_goes_on_but_for_a_look_at_steps_without) {
    Server server;
    for (int i = 0; i < 6500; ++i) server.step(14, 1);
    EXPECT_GT(server.drafted, 6300U);
    EXPECT_LT(server.drafted, 6450U);
}

TEST(draft_policy, gains_of_before_do_not_pay_for_losses_of_now) {
    Server server;
    for (int i = 0; i < 10000; ++i) server.step(14, 1);
    double const before = server.lost_ms;
    for (int i = 0; i < 1000; ++i) server.step(14, 0);
    EXPECT_LT(server.lost_ms - before, 0.012 * 10000 + 150);
}

TEST(draft_policy, measures_steps_without_guesses_before_it_makes_one) {
    DraftPolicy policy({.base = 8, .per_decode = 2, .per_prompt = 1, .per_attended = 0});
    StepShape const one{.decodes = 1, .prompt_tokens = 0, .attended = 0};
    EXPECT_FALSE(policy.may_draft());
    StepShape const prompt{.decodes = 0, .prompt_tokens = 64, .attended = 64};
    for (int i = 0; i < 10; ++i) policy.passed(prompt, 30, 0);
    EXPECT_FALSE(policy.may_draft());
    for (int i = 0; i < 8; ++i) policy.passed(one, 20, 20);
    EXPECT_TRUE(policy.may_draft());
    EXPECT_GT(policy.plain_ms(one), 15);
}

TEST(draft_policy, hope_comes_back_when_nobody_was_guessed_for_in_a_while) {
    DraftPolicy policy({.base = 8, .per_decode = 2, .per_prompt = 1, .per_attended = 0});
    StepShape const one{.decodes = 1, .prompt_tokens = 0, .attended = 0};
    for (int i = 0; i < 50; ++i) policy.observe(4, 0);
    EXPECT_LT(policy.belief(), 0.1);
    for (int i = 0; i < 499; ++i) policy.passed(one, 10, 10);
    EXPECT_LT(policy.belief(), 0.1);
    policy.passed(one, 10, 10);
    EXPECT_NEAR(policy.belief(), DraftChance::kHope, 1e-9);
}

}  // namespace
}  // namespace hearth::sched
