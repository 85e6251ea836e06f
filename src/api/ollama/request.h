// parse_request, parse_embed: a body as one Call or EmbedCall. Private to the
// dialect.
//
// Behind them nothing is checked again but what only the model can tell: their
// requests passed domain::validate().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/errors.h"
#include "api/ollama/draft.h"
#include "domain/generate.h"
#include "domain/model.h"
#include "modelfile/definition.h"

namespace hearth::api::ollama {

struct Call {
    enum class Goal : std::uint8_t {
        run,
        load,   // nothing to answer: wait until the model is loaded
        unload  // the same with keep_alive 0
    };
    Goal goal = Goal::run;
    Surface surface = Surface::chat;  // chat or generate
    std::string model;                // as the client spelled it; maybe empty
    std::string_view lacks;           // what no model can do here, empty if nothing is
    domain::GenerateRequest request;  // without model, deadlines and tenant
    bool stream = true;
    std::optional<std::uint32_t> num_ctx;
    std::string unknown_fields;   // comma-separated, at most a few hundred bytes
    std::string unknown_options;  // likewise
};

struct EmbedCall {
    Surface surface = Surface::embed;                 // embed or embeddings
    std::string model;                                // as the client spelled it; maybe empty
    std::vector<domain::GenerateRequest> generations; // without model, deadlines and tenant; none: only load
    std::optional<std::uint32_t> dimensions;
    std::optional<Duration> keep_alive;  // also where nothing is to be computed
    std::string unknown_fields;   // as of a Call
    std::string unknown_options;
};

// REQUIRES: surface is chat or generate
// `definition`: the model's, whose parameters and words come before the body's; may be null.
[[nodiscard]] std::variant<Call, Problem> parse_request(Surface surface, std::string_view body,
                                                        modelfile::Definition const* definition = nullptr);

// Reads the body again for a model whose definition says something; which it is stays.
// REQUIRES: `body` is the call's
[[nodiscard]] Verdict apply_definition(modelfile::Definition const& definition, std::string_view body, Call& call);

// REQUIRES: surface is embed or embeddings
[[nodiscard]] std::variant<EmbedCall, Problem> parse_embed(Surface surface, std::string_view body);

// What only the model can tell: whether num_ctx fits, and how a prompt is put
// where there is no chat template. The error, if it cannot be honoured.
[[nodiscard]] Verdict settle(Call& call, domain::ModelInfo const& info);

// The root of a body that must be one JSON object, or why it is none, in Ollama's words.
[[nodiscard]] std::variant<JsonDocument, Problem> parse_object(std::string_view body);

}  // namespace hearth::api::ollama
