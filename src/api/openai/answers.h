// The OpenAI dialect's answers: chat.completion, chat.completion.chunk and
// text_completion, byte for byte.
//
// Per token of a stream this appends two prepared strings around the escaped
// text; no JSON is built.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer.h"
#include "api/openai/request.h"

namespace hearth::api::openai {

// What all chunks of one answer share.
struct Identity {
    std::string id;           // chatcmpl-... or cmpl-...
    std::int64_t created = 0;
    std::string model;        // the id that answered
    std::string fingerprint;  // fp_...
    std::string request_id;   // for errors in the stream
};

// What of a Call the answer needs; the prompts are with the engine by then.
struct AnswerShape {
    Surface surface = Surface::chat;
    std::uint32_t generations = 1;
    std::uint32_t choices = 1;  // per generation
    bool logprobs = false;
    bool include_usage = false;
    domain::Priority priority = domain::Priority::normal;  // the service tier it got
    bool tier_asked = false;  // name it in every object, not in whole chats alone
    std::vector<std::string> echoes;
};

// Stable for a build and a model.
[[nodiscard]] std::string fingerprint(std::string_view build, std::string_view model);

[[nodiscard]] std::unique_ptr<StreamAnswer> make_stream_answer(Identity identity, AnswerShape shape);
[[nodiscard]] std::string render_answer(Identity const& identity, AnswerShape const& shape, Answer const& answer);

}  // namespace hearth::api::openai
