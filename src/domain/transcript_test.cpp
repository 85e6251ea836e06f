#include "domain/transcript.h"

#include <gtest/gtest.h>

namespace hearth::domain {
namespace {

Delta delta(std::uint32_t choice, std::string text, std::uint32_t tokens = 1) {
    return {choice, tokens, std::move(text), {}};
}

Done done(std::uint32_t tokens) {
    Done out;
    out.usage.completion_tokens = out.timings.predicted_n = tokens;
    return out;
}

// What is wrong with the last of these events; empty if nothing is with any.
std::string wrong(std::vector<Event> const& events) {
    Transcript transcript;
    for (auto const& event : events) {
        if (auto const wrong = transcript.add(event)) return *wrong;
    }
    return {};
}

TEST(Transcript, TakesWhatIsInOrder) {
    EXPECT_EQ(
        wrong({Started{3, 1}, PromptProgress{3, 1, 3, 0}, delta(0, "a"), delta(1, "b", 2),
               ChoiceDone{1, FinishReason::stop, {}}, delta(0, "c"), ChoiceDone{0, FinishReason::length, {}}, done(4)}),
        "");
    EXPECT_EQ(wrong({ChoiceDone{0, FinishReason::cancelled, {}}, done(0)}), "") << "cancelled while it waited";
    EXPECT_EQ(wrong({Started{}, Failed{Error(Code::internal, "x")}}), "");
}

TEST(Transcript, SaysWhatIsNot) {
    ChoiceDone const end{0, FinishReason::stop, {}};
    EXPECT_NE(wrong({Started{}, Started{}}), "");
    EXPECT_NE(wrong({delta(0, "a")}), "") << "text before the start";
    EXPECT_NE(wrong({end}), "") << "an end before the start";
    EXPECT_NE(wrong({Started{}, delta(0, "a"), PromptProgress{}}), "");
    EXPECT_NE(wrong({Started{}, PromptProgress{3, 0, 4, 0}}), "");
    EXPECT_NE(wrong({Started{}, delta(0, "\xFF")}), "");
    EXPECT_NE(wrong({Started{}, end, delta(0, "a")}), "");
    EXPECT_NE(wrong({Started{}, end, end}), "");
    EXPECT_NE(wrong({Started{}, delta(0, "a"), done(1)}), "") << "a choice is open";
    EXPECT_NE(wrong({Started{}, delta(0, "a"), end, done(2)}), "") << "a token too many";
    EXPECT_NE(wrong({Started{}, end, done(0), end}), "") << "after the end";
    EXPECT_NE(wrong({Started{}, Failed{Error(Code::internal, "x")}, Started{}}), "");
}

}  // namespace
}  // namespace hearth::domain
