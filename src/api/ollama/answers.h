// The Ollama dialect's answers: one JSON object, or one object a line. Private
// to the dialect.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
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

// What goes on while a client waits, and how far it is.
struct Interim {
    std::string_view text;  // "loading model"
    std::uint64_t done = 0, total = 0;     // total 0: nobody knows
    std::uint32_t ahead = 0;               // requests before this one
    std::optional<std::uint32_t> seconds;  // that are left, as predicted
};
// An object of a stream with no text, "done": false and `status`: clients add its text to what they
// have, which changes nothing, and need not know what else is in it.
[[nodiscard]] std::string render_interim(AnswerShape const& shape, Interim const& interim);

// What a request is told that has nothing to answer: "load" or "unload".
[[nodiscard]] std::string render_nothing(AnswerShape const& shape, std::string_view reason);

}  // namespace hearth::api::ollama
