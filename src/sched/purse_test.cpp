#include "sched/purse.h"

#include <gtest/gtest.h>

namespace hearth::sched {
namespace {

TEST(purse, is_closed_before_time_went_by_and_then_holds_what_it_begins_with) {
    Purse purse(2, 12);
    EXPECT_FALSE(purse.is_open());
    purse.earn(5, 5);
    EXPECT_TRUE(purse.is_open());
    EXPECT_DOUBLE_EQ(purse.ms(), 10);
    purse.earn(5, 5);
    EXPECT_DOUBLE_EQ(purse.ms(), 10.05);
}

TEST(purse, holds_no_more_than_it_may) {
    Purse purse(2, 12);
    purse.earn(5, 5);
    purse.book(1000);
    EXPECT_DOUBLE_EQ(purse.ms(), 60);
    purse.earn(2, 2);  // tokens take less time now: so does what it holds
    EXPECT_DOUBLE_EQ(purse.ms(), 24);
}

TEST(purse, closes_when_empty_until_half_of_the_beginning_is_there_again) {
    Purse purse(2, 12);
    purse.earn(5, 5);
    purse.book(-10);
    EXPECT_FALSE(purse.is_open());
    int tokens = 0;
    for (; !purse.is_open() && tokens < 1000; ++tokens) purse.earn(5, 5);
    EXPECT_NEAR(tokens, 100, 1);  // a token's time, earned a hundredth at a time
    purse.book(-2);
    EXPECT_TRUE(purse.is_open());  // less than half, but it is not empty
}

TEST(purse, bounds_what_is_lost_to_guesses_that_only_cost) {
    Purse purse(1.5, 12);
    constexpr int kTokens = 1000;
    double lost = 0;
    for (int i = 0; i < kTokens; ++i) {
        purse.earn(5, 5);
        if (!purse.is_open()) continue;
        purse.book(-2);
        lost += 2;
    }
    EXPECT_LE(lost, 1.5 * 5 + 0.01 * kTokens * 5 + 2);
    EXPECT_GT(lost, 20);  // it asks again
}

}  // namespace
}  // namespace hearth::sched
