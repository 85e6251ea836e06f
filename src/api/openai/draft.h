// Draft: what a request body says, while it is being read field by field.
//
// Private to the dialect. Fields of the table fill it one after another; then
// request.cpp settles what depends on several fields and makes a Call of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "api/values.h"
#include "base/clock.h"
#include "domain/generate.h"

namespace hearth::api::openai {

enum class Surface : std::uint8_t { chat = 1, text = 2, both = 3, embed = 4, all = 7 };

// How vectors are answered.
struct VectorShape {
    bool base64 = false;     // else an array of numbers
    bool normalize = true;   // to length 1
    std::optional<std::uint32_t> dimensions;  // absent: all there are
};

struct Draft {
    Surface surface = Surface::chat;       // of the body: chat, text or embed
    domain::GenerateRequest request;       // without the prompt
    std::vector<domain::Prompt> prompts;   // chat: one
    std::vector<domain::EmbedPrompt::Input> inputs;  // embed: what becomes prompts
    VectorShape vectors;
    bool truncate = false;
    bool add_generation_prompt = true;
    bool stream = false;
    bool include_usage = false;
    bool tier_asked = false;               // service_tier: the answer names what it got
    bool echo = false;
    std::optional<bool> logprobs;              // chat's switch
    std::optional<std::uint32_t> best_of;
    std::optional<Duration> ping_interval;     // absent: the server's
    std::vector<std::pair<std::string_view, std::string_view>> aliases;  // canonical name, name the body used
};

}  // namespace hearth::api::openai
