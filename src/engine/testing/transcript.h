// Transcript: what one request said, piece by piece. Fails the test when its events
// do not come in the order domain/generate.h promises.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "domain/transcript.h"
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
    std::optional<domain::Embedded> embedded;

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

    void add(domain::Event const& event);

private:
    void on(domain::Started const& e) { started = e; }
    void on(domain::PromptProgress const& e) { progress.push_back(e); }
    void on(domain::Delta const& e);
    void on(domain::ChoiceDone const& e) { choices[e.choice].done = e; }
    void on(domain::Done const& e) { done = e; }
    void on(domain::Failed const& e) { failed = e.error; }
    void on(domain::Embedded const& e) { embedded = e; }

    domain::Transcript order_;
};

}  // namespace hearth::engine::testing
