#include "base/shares.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(Shares, GoByWeightAmongThoseWhoHaveSomething) {
    Shares all;
    Share heavy{.weight = Share::whole_weight(3)};
    Share light;
    Share absent;
    EXPECT_DOUBLE_EQ(all.part(heavy), 1) << "who is alone may have all";
    all.add(heavy, 70);
    EXPECT_TRUE(all.gives(heavy)) << "and there is nobody else to give";
    all.add(light, 30);
    EXPECT_DOUBLE_EQ(all.part(heavy), 0.75);
    EXPECT_DOUBLE_EQ(all.part(light), 0.25);
    EXPECT_DOUBLE_EQ(all.part(absent), 0.2);
    EXPECT_FALSE(all.gives(heavy));
    EXPECT_TRUE(all.gives(light));
    EXPECT_GT(light.rank(), heavy.rank());
    all.remove(light, 30);
    EXPECT_DOUBLE_EQ(all.part(heavy), 1);
    EXPECT_EQ(all.amount(), 70U);
    all.remove(heavy, 70);
    EXPECT_EQ(all.amount() + all.weights(), 0U);
}

TEST(Shares, WeightsAreWholeAndNeverNothing) {
    EXPECT_EQ(Share::whole_weight(1), Share::kWeightOne);
    EXPECT_EQ(Share::whole_weight(0.5), Share::kWeightOne / 2);
    EXPECT_EQ(Share::whole_weight(1e-9), 1U);
}

TEST(Shares, EndAfterSomeTurnsOfAllThatIsKept) {
    EXPECT_FALSE(Shares::is_over(Shares::kTurns * 100 - 1, 100));
    EXPECT_TRUE(Shares::is_over(Shares::kTurns * 100, 100));
}

}  // namespace
}  // namespace hearth
