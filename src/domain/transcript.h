// Transcript: what one request said, and whether its events came in the order
// generate.h promises. For tests and simulations.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "domain/generate.h"

namespace hearth::domain {

struct Transcript {
    struct Said {
        std::string text;
        std::uint32_t tokens = 0;
        std::vector<SampledLogprob> logprobs;
        std::optional<ChoiceDone> done;
        bool operator==(Said const&) const = default;
    };

    bool started = false;
    bool progressed = false;
    bool embedded = false;
    std::vector<Said> choices;
    std::optional<Done> done;
    bool failed = false;
    std::string failure;  // why

    [[nodiscard]] bool ended() const { return done.has_value() || failed; }

    // What is wrong with this event at this place, if anything.
    [[nodiscard]] std::optional<std::string> add(Event const& event);
};

}  // namespace hearth::domain
