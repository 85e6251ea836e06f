// The Ollama dialect's answers: one JSON object, or one object a line. Private
// to the dialect.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "api/answer.h"
#include "api/ollama/draft.h"

namespace hearth::api::ollama {

inline constexpr std::string_view kStreamType = "application/x-ndjson";

// What all objects of one answer share.
struct AnswerShape {
    Surface surface = Surface::chat;          // chat or generate
    std::string model;                        // as the client spelled it
    std::int64_t load_ns = 0;                 // waited for the model to be loaded
    std::function<std::int64_t()> unix_ns;    // wall clock
    std::function<std::int64_t()> elapsed_ns; // since the request arrived
};

[[nodiscard]] std::unique_ptr<StreamAnswer> make_stream_answer(AnswerShape shape);
[[nodiscard]] std::string render_answer(AnswerShape const& shape, Answer const& answer);

// What a request is told that has nothing to answer: "load" or "unload".
[[nodiscard]] std::string render_nothing(AnswerShape const& shape, std::string_view reason);

}  // namespace hearth::api::ollama
