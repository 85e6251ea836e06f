#include "sched/fair_share.h"

#include <random>

#include <gtest/gtest.h>

namespace hearth::sched {
namespace {

TEST(fair_share, those_who_always_wait_get_work_by_weight) {
    FairShare share({{"b", 3}});
    share.enter("a");
    share.enter("b");
    double got_a = 0;
    double got_b = 0;
    std::mt19937 random(1);
    for (int i = 0; i < 4000; ++i) {
        double const work = static_cast<double>(1 + random() % 64);
        bool const a = share.account("a") <= share.account("b");
        share.charge(a ? "a" : "b", work);
        (a ? got_a : got_b) += work;
    }
    EXPECT_NEAR(got_b / got_a, 3, 0.05);
}

TEST(fair_share, who_was_away_has_saved_nothing) {
    FairShare share;
    share.enter("busy");
    share.charge("busy", 10000);
    share.enter("new");
    EXPECT_EQ(share.account("new"), share.account("busy"));
    share.leave("new");
    share.charge("busy", 10);
    share.enter("new");
    EXPECT_EQ(share.account("new"), share.account("busy")) << "leaving and coming back gains nothing";
}

TEST(fair_share, who_comes_back_to_an_empty_house_has_not_lost_either) {
    FairShare share;
    share.enter("a");
    share.charge("a", 500);
    share.leave("a");
    share.enter("b");
    share.enter("a");
    EXPECT_EQ(share.account("a"), share.account("b"));
}

TEST(fair_share, keeps_no_account_of_those_who_left) {
    FairShare share;
    for (int i = 0; i < 1000; ++i) {
        auto const tenant = std::to_string(i);
        share.enter(tenant);
        share.enter(tenant);
        share.charge(tenant, 5);
        share.leave(tenant);
        share.leave(tenant);
    }
    EXPECT_TRUE(share.shares().empty());
}

TEST(fair_share, tells_what_each_got) {
    FairShare share({{"heavy", 2}});
    share.enter("light");
    share.enter("heavy");
    share.charge("heavy", 8);
    auto const shares = share.shares();
    ASSERT_EQ(shares.size(), 2U);
    EXPECT_EQ(shares[0].tenant, "heavy");
    EXPECT_EQ(shares[0].work, 8);
    EXPECT_EQ(shares[0].weight, 2);
    EXPECT_EQ(shares[1].requests, 1U);
}

}  // namespace
}  // namespace hearth::sched
