// parse_request: the body of a completion or of a request for embeddings as one Call.
//
// Behind a Call nothing is checked again: its generations passed
// domain::validate().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/errors.h"
#include "api/openai/draft.h"
#include "base/clock.h"
#include "domain/generate.h"
#include "modelfile/definition.h"

namespace hearth::api::openai {

struct Call {
    Surface surface = Surface::chat;                    // chat, text, embed or rank
    std::vector<domain::GenerateRequest> generations;  // one per prompt, the same but for it
    std::vector<std::string> echoes;  // per prompt, the text that precedes each answer; empty without echo
    std::uint32_t choices = 1;  // per prompt
    VectorShape vectors;        // embed
    RankShape ranks;            // rank
    bool logprobs = false;
    bool stream = false;
    bool include_usage = false;
    bool tier_asked = false;  // streams name the service tier too
    std::optional<Duration> ping_interval;
    std::string unknown_fields;  // comma-separated, for the debug log; at most a few hundred bytes
};

// What holds for requests that do not say, and who asks.
struct CallDefaults {
    domain::Deadlines deadlines;
    std::string tenant;
    modelfile::Definition const* definition = nullptr;  // of the model; null: none
};

// REQUIRES: surface is chat, text, embed or rank
[[nodiscard]] std::variant<Call, Problem> parse_request(Surface surface, std::string_view body,
                                                        CallDefaults const& defaults = {});

}  // namespace hearth::api::openai
