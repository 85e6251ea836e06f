#include "traffic/stats.h"

#include <gtest/gtest.h>

namespace hearth::traffic {
namespace {

TEST(Stats, PercentilesInterpolateBetweenRanksAsNumPyDoes) {
    std::vector<double> const v{1, 2, 3, 4};
    EXPECT_DOUBLE_EQ(percentile(v, 0.0), 1.0);
    EXPECT_DOUBLE_EQ(percentile(v, 0.5), 2.5);
    EXPECT_DOUBLE_EQ(percentile(v, 0.9), 3.7);
    EXPECT_DOUBLE_EQ(percentile(v, 1.0), 4.0);
}

TEST(Stats, SummaryDoesNotDependOnTheOrderOfTheValues) {
    auto const s = summarise({9, 1, 5, 3, 7});
    EXPECT_EQ(s.count, 5U);
    EXPECT_DOUBLE_EQ(s.mean, 5.0);
    EXPECT_DOUBLE_EQ(s.median, 5.0);
    EXPECT_DOUBLE_EQ(s.min, 1.0);
    EXPECT_DOUBLE_EQ(s.max, 9.0);
    EXPECT_DOUBLE_EQ(s.stddev, 2.8284271247461903);
    EXPECT_DOUBLE_EQ(s.p99, 8.92);
}

TEST(Stats, SummaryOfNothingSaysSo) {
    auto const s = summarise({});
    EXPECT_EQ(s.count, 0U);
    EXPECT_DOUBLE_EQ(s.p99, 0.0);
    EXPECT_TRUE(quantiles({}, 5).empty());
}

TEST(Stats, SummaryOfOneValueIsThatValueEverywhere) {
    auto const s = summarise({42});
    EXPECT_DOUBLE_EQ(s.min, 42);
    EXPECT_DOUBLE_EQ(s.median, 42);
    EXPECT_DOUBLE_EQ(s.p99, 42);
    EXPECT_DOUBLE_EQ(s.stddev, 0);
}

TEST(Stats, QuantilesRunFromTheSmallestToTheLargest) {
    EXPECT_EQ(quantiles({4, 0, 2}, 5), (std::vector<double>{0, 1, 2, 3, 4}));
}

}  // namespace
}  // namespace hearth::traffic
