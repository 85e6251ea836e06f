// Ten thousand seeds (fewer under a sanitizer). More, or others: hearth sim --check.
#include "sim/check.h"

#include <algorithm>
#include <thread>

#include <gtest/gtest.h>

#include "base/sanitized.h"

namespace hearth::sim {
namespace {

TEST(Check, TenThousandSeedsLoseNobodyLeakNothingAndStarveNobody) {
    CheckOptions const options{.first = 1,
                               .count = kSanitized ? 500U : 10'000U,
                               .threads = std::clamp(std::thread::hardware_concurrency(), 1U, 4U)};
    auto const report = check_seeds(options);
    for (auto const& failure : report.failures) ADD_FAILURE() << failure;
    auto const& tally = report.tally;
    RecordProperty("wall_s", std::to_string(report.wall_s));
    EXPECT_GT(tally.requests, 30 * options.count);
    EXPECT_GT(tally.done, tally.requests / 2);
    EXPECT_GT(tally.failed, options.count / 2) << "else the failures were not exercised";
    EXPECT_GT(tally.cancelled, options.count) << "else cancels were not";
    EXPECT_GT(tally.model_accepted, options.count) << "else no draft model guessed";
    EXPECT_GT(tally.model_drafted, tally.model_accepted) << "else all its guesses were right";
    EXPECT_GT(tally.preemptions, 3 * options.count) << "else swapping was not";
    EXPECT_GT(tally.interruptions, options.count / 4) << "nor giving steps up";
    EXPECT_GT(tally.cached_tokens, 50 * options.count) << "else the cache was not";
}

TEST(Check, ASeedGivesTheSameRunEachTime) {
    auto const first = check_seed(42);
    auto const again = check_seed(42);
    ASSERT_TRUE(first && again);
    EXPECT_EQ(first->steps, again->steps);
    EXPECT_EQ(first->simulated_s, again->simulated_s);
    EXPECT_EQ(first->cached_tokens, again->cached_tokens);
}

}  // namespace
}  // namespace hearth::sim
