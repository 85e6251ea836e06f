#include "sched/ngram_drafter.h"

#include <random>

#include <gtest/gtest.h>

namespace hearth::sched {
namespace {

std::vector<Token> drafted(NgramDrafter& drafter, std::uint32_t most) {
    auto const tokens = drafter.draft(most).tokens;
    return {tokens.begin(), tokens.end()};
}

using Tokens = std::vector<Token>;

TEST(ngram_drafter, proposes_what_followed_the_same_tokens_before) {
    NgramDrafter drafter;
    drafter.append(Tokens{1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4});
    EXPECT_EQ(drafted(drafter, 3), (Tokens{5, 6, 7}));
    EXPECT_EQ(drafter.draft(3).match, 3U);
    drafter.append(Tokens{5});
    EXPECT_EQ(drafted(drafter, 2), (Tokens{6, 7}));
    EXPECT_EQ(drafter.draft(2).match, 4U);
}

TEST(ngram_drafter, has_nothing_to_say_about_what_is_new) {
    NgramDrafter drafter;
    EXPECT_TRUE(drafted(drafter, 4).empty());
    drafter.append(Tokens{1, 2});
    EXPECT_TRUE(drafted(drafter, 4).empty());
    drafter.append(Tokens{3, 4, 5, 6, 2, 3, 9});
    EXPECT_TRUE(drafted(drafter, 4).empty()) << "two tokens are too few";
}

TEST(ngram_drafter, prefers_the_place_that_agrees_longest_and_of_equals_the_latest) {
    NgramDrafter drafter;
    drafter.append(Tokens{9, 1, 2, 3, 70, 8, 1, 2, 3, 71, 8, 1, 2, 3, 72, 9, 1, 2, 3});
    EXPECT_EQ(drafted(drafter, 1), (Tokens{70}));
    NgramDrafter other;
    other.append(Tokens{9, 1, 2, 3, 70, 8, 1, 2, 3, 71, 8, 1, 2, 3, 72, 5, 1, 2, 3});
    EXPECT_EQ(drafted(other, 1), (Tokens{72}));
}

TEST(ngram_drafter, goes_on_with_a_text_that_repeats) {
    NgramDrafter drafter;
    drafter.append(Tokens{1, 2, 1, 2, 1, 2});
    EXPECT_EQ(drafted(drafter, 7), (Tokens{1, 2, 1, 2, 1, 2, 1}));
}

TEST(ngram_drafter, takes_hints_from_others_but_does_not_go_on_with_them) {
    NgramDrafter drafter;
    drafter.hint(Tokens{1, 2, 3, 4, 5, 6});
    EXPECT_TRUE(drafted(drafter, 4).empty()) << "the end of a hint is not the end of the text";
    drafter.append(Tokens{2, 3, 4});
    EXPECT_EQ(drafted(drafter, 2), (Tokens{5, 6}));
}

TEST(ngram_drafter, finds_what_a_search_of_the_whole_text_finds) {
    std::mt19937 random(11);
    for (int round = 0; round < 50; ++round) {
        NgramDrafter drafter;
        Tokens text;
        for (int i = 0; i < 300; ++i) {
            Token const token = static_cast<Token>(random() % 12);
            text.push_back(token);
            drafter.append(std::span(&token, 1));
            auto const draft = drafter.draft(1);
            std::uint32_t longest = 0;
            for (std::size_t end = 1; end < text.size(); ++end) {
                std::uint32_t agrees = 0;
                while (agrees < end && text[end - 1 - agrees] == text[text.size() - 1 - agrees]) ++agrees;
                longest = std::max(longest, agrees);
            }
            EXPECT_LE(draft.match, longest);
            EXPECT_EQ(draft.tokens.empty(), longest < NgramDrafter::kMatchMin);
        }
    }
}

TEST(acceptance, learns_how_often_guesses_come_true) {
    Acceptance acceptance;
    double const before = acceptance.probability(20);
    EXPECT_GT(before, acceptance.probability(3)) << "longer agreement is believed more";
    for (int i = 0; i < 100; ++i) acceptance.observe(20, 4, 0);
    EXPECT_LT(acceptance.probability(20), 0.05);
    EXPECT_GT(acceptance.probability(3), 0.3) << "each length has its own rate";
    for (int i = 0; i < 100; ++i) acceptance.observe(20, 4, 4);
    EXPECT_GT(acceptance.probability(20), 0.95);
    for (int i = 0; i < 200; ++i) acceptance.observe(20, 4, i % 2 == 0 ? 3 : 4);
    EXPECT_NEAR(acceptance.probability(20), 7.0 / 8, 0.05);
}

}  // namespace
}  // namespace hearth::sched
