// Draft: what a body of a route that runs a model says, while it is being read
// field by field. Private to the dialect.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/values.h"
#include "domain/generate.h"
#include "modelfile/definition.h"

namespace hearth::api::ollama {

// Which body has a field: one of the first four is a body, the others are sets.
enum class Surface : std::uint8_t { chat = 1, generate = 2, both = 3, embed = 4, embeddings = 8, all = 15 };

struct Draft {
    Surface surface = Surface::chat;  // of the body
    std::string model;                // as the client spelled it
    domain::GenerateRequest request;  // without prompt and model
    domain::ChatPrompt chat;
    std::string prompt, suffix, system, custom_template;
    modelfile::Definition const* definition = nullptr;  // of the model; null: none
    std::vector<domain::EmbedPrompt::Input> inputs;  // embed
    std::optional<std::uint32_t> dimensions;         // of each vector; absent: all there are
    bool raw = false;
    bool stream = true;
    bool logprobs = false;
    std::optional<std::uint32_t> top_logprobs;
    std::optional<bool> truncate, shift;
    std::optional<std::uint32_t> num_ctx;
    std::string_view lacks;       // the first thing asked for that no model can do here: "tools"
    std::string unknown_options;  // comma-separated
};

}  // namespace hearth::api::ollama
