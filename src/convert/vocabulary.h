// The tokenizer.* keys of a GGUF file: tokens and their types, merges, special
// tokens, the chat template.
//
// Threads: none.
#pragma once

#include "base/result.h"
#include "convert/architecture.h"
#include "convert/hf_config.h"
#include "convert/metadata.h"

namespace hearth::convert {

inline constexpr std::size_t kChatTemplateBytesMax = 1U << 20;  // as the GGUF reader

// Reads tokenizer.json, or of the families that have one tokenizer.model, with
// added_tokens.json, tokenizer_config.json and chat_template.{jinja,json} of the
// folder. `not_found` if there is no tokenizer.
[[nodiscard]] Status add_vocabulary(Metadata& metadata, HfConfig const& config, Architecture const& architecture);

}  // namespace hearth::convert
