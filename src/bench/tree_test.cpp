#include "bench/tree.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace hearth::bench {
namespace {

constexpr TreeOptions kSmall{.tokens = 40'000, .prompt = 4096, .lookups = 5, .seed = 3, .other_mib = 1};

TEST(TreeBench, WholePromptsAreFoundToTheirEndAndStrangersNot) {
    auto const report = run_tree(kSmall);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_GE(report->tokens, kSmall.tokens);
    EXPECT_GT(report->nodes, report->conversations);
    ASSERT_EQ(report->kinds.size(), 6U);
    EXPECT_EQ(report->kinds[0].found_tokens, 4096);
    EXPECT_LT(report->kinds[1].found_tokens, 4096);
    EXPECT_GT(report->kinds[1].found_tokens, report->kinds[2].found_tokens);
    EXPECT_GE(report->kinds[2].found_tokens, 128);
    for (std::size_t i = 0; i < 3; ++i) {
        // A checkpoint lies at or before the end of what is in the tree, never behind it.
        EXPECT_LE(report->kinds[i + 3].found_tokens, 4096);
        EXPECT_GT(report->kinds[i].us.median, 0);
        EXPECT_EQ(report->kinds[i].us.count, kSmall.lookups);
    }
    EXPECT_GT(report->kinds[3].found_tokens, 3000);
}

TEST(TreeBench, ASeedNamesTheTree) {
    auto const first = run_tree(kSmall), again = run_tree(kSmall);
    EXPECT_EQ(first->tokens, again->tokens);
    EXPECT_EQ(first->nodes, again->nodes);
    EXPECT_EQ(first->kinds[1].found_tokens, again->kinds[1].found_tokens);
}

TEST(TreeBench, RefusesWhatHasNoRoom) {
    EXPECT_NE(run_tree({.tokens = 4096, .prompt = 1025}).error().message.find("1025"), std::string::npos);
    EXPECT_EQ(run_tree({.tokens = 10}).error().param, "tokens");
    EXPECT_EQ(run_tree({.lookups = 0}).error().param, "lookups");
    EXPECT_EQ(run_tree({.other_mib = 1025}).error().param, "other_mib");
}

TEST(TreeBench, TheReportIsJson) {
    auto const json = nlohmann::json::parse(to_json(*run_tree(kSmall)));
    EXPECT_EQ(json["lookups"][0]["found_tokens"], 4096);
    EXPECT_GT(json["lookups"][0]["us_p99"], 0);
}

}  // namespace
}  // namespace hearth::bench
