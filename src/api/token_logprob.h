// One token's log probability, as OpenAI's chat and Ollama spell it.
#pragma once

#include "api/json_writer.h"
#include "domain/generate.h"

namespace hearth::api {

// JSON has no infinities: OpenAI's stand-in for a probability of zero.
[[nodiscard]] float finite_logprob(float logprob);

// The members token, logprob and bytes of an object that is open.
void write_token_logprob(JsonWriter& json, domain::TokenLogprob const& token);

}  // namespace hearth::api
