#include "engine/stop_matcher.h"

#include <random>

#include <gtest/gtest.h>

namespace hearth::engine {
namespace {

struct Outcome {
    std::string text;
    std::optional<std::size_t> stop;
    bool operator==(Outcome const&) const = default;
};

StopMatcher matcher(std::vector<std::string> stops) {
    return StopMatcher(std::make_shared<StopSet const>(std::move(stops)));
}

Outcome run(StopMatcher matcher, std::vector<std::string> const& chunks) {
    Outcome outcome;
    for (auto const& chunk : chunks) {
        outcome.stop = matcher.push(chunk, outcome.text);
        if (outcome.stop) return outcome;
    }
    matcher.finish(outcome.text);
    return outcome;
}

// The definition: the shortest prefix of the text that ends in a stop string,
// without the longest one it ends in.
Outcome naive(std::string const& text, std::vector<std::string> const& stops) {
    for (std::size_t end = 1; end <= text.size(); ++end) {
        auto const prefix = std::string_view(text).substr(0, end);
        std::optional<std::size_t> best;
        for (std::size_t i = 0; i < stops.size(); ++i) {
            if (!stops[i].empty() && prefix.ends_with(stops[i]) && (!best || stops[i].size() > stops[*best].size()))
                best = i;
        }
        if (best) return {text.substr(0, end - stops[*best].size()), best};
    }
    return {text, std::nullopt};
}

TEST(stop_matcher, finds_a_stop_string_across_chunks_and_lets_nothing_of_it_through) {
    EXPECT_EQ(run(matcher({"STOP"}), {"Hel", "lo S", "TOP more"}), (Outcome{"Hello ", 0}));
}

TEST(stop_matcher, lets_everything_through_at_once_without_stop_strings) {
    std::string out;
    auto m = matcher({});
    EXPECT_FALSE(m.push("abc", out).has_value());
    EXPECT_EQ(out, "abc");
    auto empty = matcher({""});
    EXPECT_FALSE(empty.push("abc", out).has_value());
    EXPECT_EQ(out, "abcabc");
}

TEST(stop_matcher, holds_back_only_the_longest_suffix_that_could_begin_a_stop) {
    std::string out;
    auto m = matcher({"aab", "xyz"});
    m.push("caaa", out);
    EXPECT_EQ(out, "ca");
    EXPECT_EQ(m.held(), 2U);
    m.push("x", out);
    EXPECT_EQ(out, "caaa");
    EXPECT_EQ(m.held(), 1U);
    m.finish(out);
    EXPECT_EQ(out, "caaax");
}

TEST(stop_matcher, the_first_to_complete_wins_and_of_equals_the_longest) {
    EXPECT_EQ(run(matcher({"b", "abc"}), {"abc"}), (Outcome{"a", 0}));
    EXPECT_EQ(run(matcher({"c", "abc"}), {"abc"}), (Outcome{"", 1}));
    EXPECT_EQ(run(matcher({"abcd", "bc"}), {"abcd"}), (Outcome{"a", 1}));
}

TEST(stop_matcher, gives_the_same_outcome_however_the_bytes_are_cut) {
    std::mt19937 random(3);
    for (int round = 0; round < 20000; ++round) {
        std::vector<std::string> stops(1 + random() % 4);
        for (auto& stop : stops) {
            for (auto n = random() % 6; n > 0; --n) stop.push_back("ab"[random() % 2]);
        }
        std::string text;
        for (auto n = random() % 24; n > 0; --n) text.push_back("abc"[random() % 3]);
        std::vector<std::string> chunks;
        for (std::size_t at = 0; at < text.size();) {
            std::size_t const n = random() % 4;
            chunks.push_back(text.substr(at, n));
            at += n;
        }
        ASSERT_EQ(run(matcher(stops), chunks), naive(text, stops)) << "round " << round;
    }
}

TEST(stop_matcher, never_lets_through_what_a_later_byte_could_turn_into_a_stop) {
    std::mt19937 random(4);
    std::vector<std::string> const stops{"abab", "bba", "aaa"};
    for (int round = 0; round < 5000; ++round) {
        auto m = matcher(stops);
        std::string text;
        std::string out;
        bool stopped = false;
        for (int i = 0; i < 12 && !stopped; ++i) {
            text.push_back("ab"[random() % 2]);
            stopped = m.push(std::string_view(text).substr(text.size() - 1), out).has_value();
            if (stopped) break;
            std::size_t longest = 0;
            for (auto const& stop : stops) {
                for (std::size_t n = 1; n < stop.size(); ++n) {
                    if (text.ends_with(stop.substr(0, n))) longest = std::max(longest, n);
                }
            }
            ASSERT_EQ(out.size(), text.size() - longest) << text;
        }
    }
}

TEST(stop_matcher, copes_with_bytes_above_127) {
    EXPECT_EQ(run(matcher({"\xC3\xA9!"}), {"caf\xC3", "\xA9", "! x"}), (Outcome{"caf", 0}));
}

}  // namespace
}  // namespace hearth::engine
