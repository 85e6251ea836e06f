// Log probabilities in OpenAI's two shapes. Private to the dialect.
#pragma once

#include <cstdint>
#include <span>

#include "api/json_writer.h"
#include "domain/generate.h"

namespace hearth::api::openai {

// {"content":[{token,logprob,bytes,top_logprobs}],"refusal":null}
void write_chat_logprobs(JsonWriter& json, std::span<domain::SampledLogprob const> tokens);

// {"tokens","token_logprobs","top_logprobs","text_offset"}. `offset` is where
// the first token begins in the answer's text, in code points; it moves on to
// where the next one will.
void write_text_logprobs(JsonWriter& json, std::span<domain::SampledLogprob const> tokens, std::uint64_t& offset);

}  // namespace hearth::api::openai
