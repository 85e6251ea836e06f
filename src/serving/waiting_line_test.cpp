#include "serving/waiting_line.h"

#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::serving {
namespace {

using domain::Priority;
using namespace std::chrono_literals;

Instant at(Duration since) { return Instant{} + since; }

TEST(WaitingLine, IsEmptyAtFirst) {
    WaitingLine line;
    EXPECT_EQ(line.size(), 0U);
    EXPECT_FALSE(line.oldest());
    EXPECT_EQ(line.before_newcomer(Priority::batch), 0U);
}

TEST(WaitingLine, BetterClassesAndEarlierNumbersGoFirst) {
    WaitingLine line;
    line.add(Priority::normal, 1, at(1s));
    line.add(Priority::batch, 2, at(2s));
    line.add(Priority::interactive, 3, at(3s));
    line.add(Priority::normal, 4, at(4s));
    EXPECT_EQ(line.before_newcomer(Priority::interactive), 1U);
    EXPECT_EQ(line.before_newcomer(Priority::normal), 3U);
    EXPECT_EQ(line.before_newcomer(Priority::batch), 4U);
    EXPECT_EQ(line.before(Priority::interactive, 3), 0U);
    EXPECT_EQ(line.before(Priority::normal, 1), 1U);
    EXPECT_EQ(line.before(Priority::normal, 4), 2U);
    EXPECT_EQ(line.before(Priority::batch, 2), 3U);
    EXPECT_EQ(line.oldest(), at(1s));
    line.remove(Priority::normal, 1);
    EXPECT_EQ(line.oldest(), at(2s));
}

// Against a walk over all of them, as random requests come and go.
TEST(WaitingLine, CountsAsAWalkWould) {
    std::mt19937 random(7);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same in every run
    WaitingLine line;
    std::vector<std::pair<Priority, domain::RequestId>> all;
    for (domain::RequestId id = 1; id < 400; ++id) {
        auto const priority = static_cast<Priority>(random() % domain::kPriorityCount);
        line.add(priority, id, at(std::chrono::seconds(id)));
        all.emplace_back(priority, id);
        while (!all.empty() && random() % 3 == 0) {
            auto const gone = all.begin() + static_cast<std::ptrdiff_t>(random() % all.size());
            line.remove(gone->first, gone->second);
            all.erase(gone);
        }
        ASSERT_EQ(line.size(), all.size());
        std::optional<Instant> oldest;
        for (auto const& [other_priority, other] : all) {
            auto const came = at(std::chrono::seconds(other));
            if (!oldest || came < *oldest) oldest = came;
            std::uint32_t before = 0;
            for (auto const& each : all) before += each < std::pair(other_priority, other) ? 1 : 0;
            ASSERT_EQ(line.before(other_priority, other), before);
        }
        ASSERT_EQ(line.oldest(), oldest);
    }
}

}  // namespace
}  // namespace hearth::serving
