// Draft: what a body of /api/chat or /api/generate says, while it is being read
// field by field. Private to the dialect.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/values.h"
#include "domain/generate.h"

namespace hearth::api::ollama {

enum class Surface : std::uint8_t { chat = 1, generate = 2, both = 3 };

struct Draft {
    Surface surface = Surface::chat;  // of the body: chat or generate
    std::string model;                // as the client spelled it
    domain::GenerateRequest request;  // without prompt and model
    domain::ChatPrompt chat;
    std::string prompt, system, custom_template;
    bool raw = false;
    bool has_context = false;
    bool stream = true;
    bool logprobs = false;
    std::optional<std::uint32_t> top_logprobs;
    std::optional<bool> truncate, shift;
    std::optional<std::uint32_t> num_ctx;
    std::string_view lacks;       // the first thing asked for that no model can do here: "tools"
    std::string unknown_options;  // comma-separated
};

}  // namespace hearth::api::ollama
