// Messages and prompts: what the model is to read. Private to the dialect.
#pragma once

#include "api/json_document.h"
#include "api/openai/draft.h"

namespace hearth::api::openai {

inline constexpr std::size_t kPartsMax = 1024;    // content parts of one message
inline constexpr std::size_t kPromptsMax = 64;    // prompts of one completion request
inline constexpr std::size_t kChoicesTotalMax = 128;  // prompts times n

// Chat: roles, and content as text, null or text parts.
[[nodiscard]] Verdict read_messages(JsonView value, Draft& draft);

// Completions: a string, a list of strings, a list of tokens, or a list of lists of tokens.
[[nodiscard]] Verdict read_prompt(JsonView value, Draft& draft);

}  // namespace hearth::api::openai
