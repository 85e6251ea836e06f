// Draft: what a request body says, while it is being read field by field.
//
// Private to the dialect. Fields of the table fill it one after another; then
// request.cpp settles what depends on several fields and makes a Call of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/values.h"
#include "base/clock.h"
#include "domain/generate.h"

namespace hearth::api::openai {

enum class Surface : std::uint8_t { chat = 1, text = 2, both = 3, embed = 4, rank = 8, all = 15 };

// How vectors are answered.
struct VectorShape {
    bool base64 = false;     // else an array of numbers
    bool normalize = true;   // to length 1
    std::optional<std::uint32_t> dimensions;  // absent: all there are
};

// What is ranked, and how that is answered.
struct RankShape {
    std::string query;
    std::vector<std::string> documents;
    bool bare = false;               // an array alone
    bool returns_documents = false;
    std::size_t most = ~std::size_t{0};  // so many of the best
};

struct Draft {
    Surface surface = Surface::chat;       // of the body: chat, text, embed or rank
    domain::GenerateRequest request;       // without the prompt
    std::vector<domain::Prompt> prompts;   // chat: one
    std::vector<domain::EmbedPrompt::Input> inputs;  // embed, rank: what becomes prompts
    VectorShape vectors;
    RankShape ranks;
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
