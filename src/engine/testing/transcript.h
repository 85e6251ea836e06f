// Transcript: what one request said, checking that its events come in the order
// domain/generate.h promises.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "engine/engine.h"

namespace hearth::engine::testing {

struct Transcript {
    struct Said {
        std::string text;
        std::uint32_t tokens = 0;
        std::vector<std::string> deltas;
        std::vector<domain::SampledLogprob> logprobs;
        std::optional<domain::ChoiceDone> done;
    };

    std::optional<domain::Started> started;
    std::vector<domain::PromptProgress> progress;
    std::map<std::uint32_t, Said> choices;
    std::optional<domain::Done> done;
    std::optional<Error> failed;

    [[nodiscard]] bool ended() const { return done.has_value() || failed.has_value(); }
    [[nodiscard]] std::string const& text(std::uint32_t choice = 0) { return choices[choice].text; }
    [[nodiscard]] std::uint32_t tokens() const {
        std::uint32_t sum = 0;
        for (auto const& [index, said] : choices) sum += said.tokens;
        return sum;
    }
    [[nodiscard]] std::optional<domain::FinishReason> reason(std::uint32_t choice = 0) {
        auto const& ending = choices[choice].done;
        return ending ? std::optional(ending->reason) : std::nullopt;
    }

    void add(domain::Event const& event) {
        EXPECT_FALSE(ended()) << "an event after the end";
        std::visit([this](auto const& e) { on(e); }, event);
    }

private:
    void on(domain::Started const& e) {
        EXPECT_FALSE(started.has_value());
        EXPECT_TRUE(choices.empty());
        started = e;
    }
    void on(domain::PromptProgress const& e) {
        EXPECT_TRUE(started.has_value() && choices.empty());
        progress.push_back(e);
    }
    void on(domain::Delta const& e) {
        EXPECT_TRUE(started.has_value());
        auto& said = choices[e.choice];
        EXPECT_FALSE(said.done.has_value()) << "text after its ChoiceDone";
        EXPECT_TRUE(is_valid_utf8(e.text)) << e.text;
        said.text += e.text;
        said.tokens += e.tokens;
        said.deltas.push_back(e.text);
        said.logprobs.insert(said.logprobs.end(), e.logprobs.begin(), e.logprobs.end());
    }
    void on(domain::ChoiceDone const& e) {
        auto& said = choices[e.choice];
        EXPECT_FALSE(said.done.has_value()) << "a choice ends once";
        EXPECT_TRUE(started.has_value() || e.reason == domain::FinishReason::cancelled);
        said.done = e;
    }
    void on(domain::Done const& e) {
        for (auto const& [index, said] : choices) EXPECT_TRUE(said.done.has_value()) << "choice " << index;
        EXPECT_EQ(e.usage.completion_tokens, tokens());
        EXPECT_EQ(e.timings.predicted_n, tokens());
        done = e;
    }
    void on(domain::Failed const& e) { failed = e.error; }
};

}  // namespace hearth::engine::testing
