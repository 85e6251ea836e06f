#include "engine/sampling_math.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace hearth::engine {
namespace {

TEST(sampling_math, exp_nonpositive_is_within_two_ulps_and_ends_in_zero) {
    double worst = 0;
    for (float x = 0; x > -86.9F; x -= 0.00917F) {
        double const exact = std::exp(static_cast<double>(x));
        worst = std::max(worst, std::abs(static_cast<double>(exp_nonpositive(x)) - exact) / exact);
    }
    EXPECT_LT(worst, 2.4e-7);
    EXPECT_EQ(exp_nonpositive(0), 1.0F);
    EXPECT_EQ(exp_nonpositive(-87.5F), 0.0F);
    EXPECT_EQ(exp_nonpositive(-1e30F), 0.0F);
    EXPECT_EQ(exp_nonpositive(-std::numeric_limits<float>::infinity()), 0.0F);
}

TEST(sampling_math, exp_and_log_of_doubles_agree_with_the_library) {
    for (double x = -700; x < 700; x += 0.731) {
        EXPECT_NEAR(exp_of(x) / std::exp(x), 1, 1e-14) << x;
        double const y = std::exp(x);
        EXPECT_NEAR(log_of(y), std::log(y), 1e-14 * std::max(1.0, std::abs(x))) << x;
    }
    EXPECT_EQ(log_of(1), 0);
    EXPECT_EQ(log_of(0), -std::numeric_limits<double>::infinity());
    EXPECT_EQ(exp_of(-1e9), 0);
    EXPECT_EQ(exp_of(1e9), std::numeric_limits<double>::infinity());
}

TEST(sampling_math, power_of_squares_its_way) {
    EXPECT_EQ(power_of(3, 0), 1);
    EXPECT_EQ(power_of(3, 5), 243);
    EXPECT_NEAR(power_of(1.75, 40) / std::pow(1.75, 40), 1, 1e-14);
    EXPECT_TRUE(std::isinf(power_of(100, 1 << 20)));
}

// The numbers of the generator are part of what a seed means: they must never change.
TEST(sampling_math, a_seed_names_the_same_numbers_for_ever) {
    Random random(42);
    EXPECT_EQ(random.next(), 1546998764402558742U);
    EXPECT_EQ(random.next(), 6990951692964543102U);
    EXPECT_EQ(random.next(), 12544586762248559009U);
}

TEST(sampling_math, uniform_is_uniform) {
    Random random(1);
    int buckets[10] = {};
    for (int i = 0; i < 100000; ++i) {
        double const u = random.uniform();
        ASSERT_GE(u, 0);
        ASSERT_LT(u, 1);
        ++buckets[static_cast<int>(u * 10)];
    }
    for (int const count : buckets) EXPECT_NEAR(count, 10000, 400);
}

}  // namespace
}  // namespace hearth::engine
