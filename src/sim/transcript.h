// Transcript: what one request said, and whether its events came in the order
// domain/generate.h promises.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "domain/generate.h"

namespace hearth::sim {

struct Transcript {
    struct Said {
        std::string text;
        std::uint32_t tokens = 0;
        std::vector<domain::SampledLogprob> logprobs;
        std::optional<domain::ChoiceDone> done;
        bool operator==(Said const&) const = default;
    };

    bool started = false;
    bool progressed = false;
    std::vector<Said> choices;
    std::optional<domain::Done> done;
    bool failed = false;
    std::string failure;  // why

    [[nodiscard]] bool ended() const { return done.has_value() || failed; }

    // What is wrong with this event at this place, if anything.
    [[nodiscard]] std::optional<std::string> add(domain::Event const& event);
};

}  // namespace hearth::sim
