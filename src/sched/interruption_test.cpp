#include "sched/interruption.h"

#include <gtest/gtest.h>

#include <random>

namespace hearth::sched {
namespace {

constexpr std::uint32_t kInteractive = 0;
constexpr std::uint32_t kNormal = 1;

Instant at(int ms) { return Instant{} + std::chrono::milliseconds(ms); }

TEST(interruption, gives_a_step_up_for_a_better_class_only) {
    Interruption interruption;
    EXPECT_FALSE(interruption.is_worth(at(0), kInteractive)) << "nothing runs";
    interruption.begin(at(0), 60, kNormal);
    EXPECT_TRUE(interruption.is_worth(at(10), kInteractive));
    EXPECT_FALSE(interruption.is_worth(at(10), kNormal));
    interruption.end(at(60), false);
    EXPECT_FALSE(interruption.is_worth(at(61), kInteractive));
    interruption.begin(at(61), 60, kInteractive);
    EXPECT_FALSE(interruption.is_worth(at(62), kInteractive));
}

TEST(interruption, waits_for_what_ends_soon_anyway) {
    Interruption interruption;
    interruption.begin(at(0), 60, kNormal);
    EXPECT_TRUE(interruption.is_worth(at(56), kInteractive));
    EXPECT_FALSE(interruption.is_worth(at(58), kInteractive));
    EXPECT_FALSE(interruption.is_worth(at(200), kInteractive)) << "the prediction was wrong: it ends any moment";
    interruption.end(at(210), false);
    interruption.begin(at(210), 5, kNormal);
    EXPECT_TRUE(interruption.is_worth(at(211), kInteractive));
    EXPECT_FALSE(interruption.is_worth(at(212), kInteractive));
    interruption.end(at(215), false);
    interruption.begin(at(1000), 200, kNormal);
    EXPECT_TRUE(interruption.is_worth(at(1188), kInteractive));
    EXPECT_FALSE(interruption.is_worth(at(1192), kInteractive));
}

TEST(interruption, does_not_wait_for_a_step_that_takes_longer_than_predicted) {
    Interruption interruption;
    interruption.begin(at(0), 60, kNormal);
    EXPECT_TRUE(interruption.is_worth(at(90), kInteractive, 0.5)) << "as long again";
    EXPECT_TRUE(interruption.is_worth(at(59), kInteractive, 0.9)) << "more than 6 ms";
    EXPECT_FALSE(interruption.is_worth(at(90), kInteractive, 0.98));
    EXPECT_FALSE(interruption.is_worth(at(90), kInteractive, 1.0));
    EXPECT_FALSE(interruption.is_worth(at(90), kInteractive, 0.0)) << "nothing is known of it yet";
    EXPECT_TRUE(interruption.is_worth(at(30), kInteractive, 1.0)) << "its last operation may be a long one";
    EXPECT_FALSE(interruption.is_worth(at(90), kNormal, 0.5));
}

TEST(interruption, loses_no_more_than_a_part_of_the_time) {
    Interruption interruption;
    double lost = 0, all = 0;
    int now = 0;
    // Somebody comes half-way through each step.
    for (int step = 0; step < 10'000; ++step) {
        interruption.begin(at(now), 60, kNormal);
        bool const gives_up = interruption.is_worth(at(now + 30), kInteractive);
        now += gives_up ? 30 : 60;
        interruption.end(at(now), gives_up);
        lost += gives_up ? 30 : 0;
    }
    all = now;
    EXPECT_LE(lost, Interruption::kShare * all + Interruption::kPurseMaxMs);
    EXPECT_GE(lost, 0.8 * Interruption::kShare * all) << "and uses it";
}

// Steps of an overload that take longer than planned, and an interactive request every half second, whenever in one
// it comes.
TEST(interruption, affords_two_a_second_for_as_long_as_they_come) {
    Interruption interruption;
    std::mt19937 random(7);
    int now = 0;
    int arrives = 500;
    int refused = 0;
    while (now < 600'000) {
        interruption.begin(at(now), 120, kNormal);
        bool const arrives_in_it = arrives < now + 114;
        bool const gives_up = arrives_in_it && interruption.is_worth(at(arrives), kInteractive);
        refused += arrives_in_it && !gives_up ? 1 : 0;
        now = gives_up ? arrives : now + 120;
        interruption.end(at(now), gives_up);
        if (arrives <= now) arrives += 450 + static_cast<int>(random() % 101);
        now += gives_up ? 30 : 0;  // its own step
    }
    EXPECT_EQ(refused, 0);
}

TEST(interruption, time_between_steps_counts) {
    Interruption interruption;
    for (int now = 0; now < 1000; now += 30) {
        interruption.begin(at(now), 60, kNormal);
        interruption.end(at(now + 29), interruption.is_worth(at(now + 29), kInteractive));
    }
    interruption.begin(at(2000), 600, kNormal);
    EXPECT_FALSE(interruption.is_worth(at(2400), kInteractive));
    interruption.end(at(2600), false);
    interruption.begin(at(9000), 600, kNormal);
    EXPECT_TRUE(interruption.is_worth(at(9400), kInteractive));
}

}  // namespace
}  // namespace hearth::sched
