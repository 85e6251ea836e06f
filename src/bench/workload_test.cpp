#include "bench/workload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace hearth::bench {
namespace {

std::size_t words_in(std::string const& text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), ' ')) + 1;
}

TEST(Workload, TextHasTheWordsAskedForAndDependsOnTheSeedAlone) {
    std::string a, b, c;
    append_words(7, 1000, a);
    append_words(7, 1000, b);
    append_words(8, 1000, c);
    EXPECT_EQ(a, b);
    EXPECT_NE(a, c);
    EXPECT_EQ(words_in(a), 1000U);
    EXPECT_EQ(a.back(), '.');
    EXPECT_EQ(a.find_first_of("\"\\\n"), std::string::npos) << "needs no escape in JSON";
}

TEST(Workload, EveryRequestOfAPlanHasItsOwnPrompt) {
    auto const plan = unique_plan({100, 20, 8, 1});
    std::set<std::string> texts;
    for (auto const& request : plan) texts.insert(render(request.prompt));
    EXPECT_EQ(texts.size(), 100U);
    EXPECT_EQ(plan, unique_plan({100, 20, 8, 1}));
    EXPECT_NE(plan, unique_plan({100, 20, 8, 2}));
}

TEST(Workload, SharedPrefixesAreSharedByEqualParts) {
    auto const plan = shared_prefix_plan({{90, 5, 8, 1}, 3, 50});
    std::map<std::string, int> groups;
    std::set<std::string> texts;
    for (auto const& request : plan) {
        auto const text = render(request.prompt);
        EXPECT_EQ(words_in(text), 55U);
        std::string prefix;
        append_words(request.prompt.front().seed, 50, prefix);
        ASSERT_TRUE(text.starts_with(prefix));
        ++groups[prefix];
        texts.insert(text);
    }
    EXPECT_EQ(texts.size(), 90U);
    ASSERT_EQ(groups.size(), 3U);
    for (auto const& [prefix, count] : groups) EXPECT_EQ(count, 30);
    EXPECT_FALSE(plan[0].prompt[0] == plan[3].prompt[0] && plan[1].prompt[0] == plan[4].prompt[0] &&
                 plan[2].prompt[0] == plan[5].prompt[0] && plan[6].prompt[0] == plan[9].prompt[0])
        << "groups should not take turns";
}

TEST(Workload, PoissonArrivalsHaveTheRateAndTheSpreadOfAPoissonProcess) {
    auto plan = unique_plan({20'000, 1, 1, 1});
    arrive_poisson(plan, 50, 3);
    std::vector<double> gaps;
    double last = 0;
    for (auto const& request : plan) {
        EXPECT_GE(request.at_s, last);
        gaps.push_back(request.at_s - last);
        last = request.at_s;
    }
    EXPECT_NEAR(20'000 / last, 50, 2);
    double mean = 0, square = 0;
    for (auto g : gaps) mean += g / 20'000;
    for (auto g : gaps) square += (g - mean) * (g - mean) / 20'000;
    EXPECT_NEAR(std::sqrt(square) / mean, 1, 0.05) << "an exponential's deviation is its mean";
    auto again = unique_plan({20'000, 1, 1, 1});
    arrive_poisson(again, 50, 3);
    EXPECT_EQ(plan, again);
}

TEST(Workload, ReplayScalesTimesAndLengthsAndCountsWhatItCuts) {
    std::vector<TraceRow> const rows{{0, 100, 10, {}}, {2, 4000, 500, {}}};
    ReplayShape shape;
    shape.time_scale = 0.5;
    shape.length_scale = 0.1;
    shape.words_per_token = 0.5;
    shape.prompt_words_max = 150;
    shape.output_tokens_max = 20;
    auto const replay = replay_plan(rows, shape);
    EXPECT_EQ(replay.plan[0].prompt.front().words, 5U);
    EXPECT_EQ(replay.plan[0].output_tokens, 1U);
    EXPECT_DOUBLE_EQ(replay.plan[1].at_s, 1.0);
    EXPECT_EQ(replay.plan[1].prompt.front().words, 150U);
    EXPECT_EQ(replay.plan[1].output_tokens, 20U);
    EXPECT_EQ(replay.prompts_cut, 1U);
    EXPECT_EQ(replay.outputs_cut, 1U);
}

TEST(Workload, ReplayedBlocksShareTextAsTheirHashesSay) {
    std::vector<TraceRow> const rows{{0, 1000, 1, {5, 6}}, {1, 1500, 1, {5, 6, 7}}, {2, 700, 1, {5, 9}}};
    ReplayShape shape;
    shape.words_per_token = 1;
    auto const plan = replay_plan(rows, shape).plan;
    EXPECT_EQ(plan[0].prompt[0], plan[1].prompt[0]);
    EXPECT_EQ(plan[0].prompt[0], plan[2].prompt[0]);
    EXPECT_EQ(plan[0].prompt[0].words, 512U);
    EXPECT_EQ(plan[0].prompt[1].seed, plan[1].prompt[1].seed);
    EXPECT_EQ(plan[0].prompt[1].words, 488U);
    EXPECT_NE(plan[0].prompt[1].seed, plan[2].prompt[1].seed);
    EXPECT_EQ(words_in(render(plan[1].prompt)), 1500U);
}

TEST(Workload, ReplayedBlocksAreCutFromTheEnd) {
    std::vector<TraceRow> const rows{{0, 1500, 1, {5, 6, 7}}};
    ReplayShape shape;
    shape.words_per_token = 1;
    shape.prompt_words_max = 600;
    auto const plan = replay_plan(rows, shape).plan;
    ASSERT_EQ(plan[0].prompt.size(), 2U);
    EXPECT_EQ(plan[0].prompt[0].words, 512U);
    EXPECT_EQ(plan[0].prompt[1].words, 88U);
}

}  // namespace
}  // namespace hearth::bench
