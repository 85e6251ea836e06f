// apply_definition(): what a model's definition (modelfile/definition.h) makes of a
// request that came without a body, such as the command line's. The same code says what
// it does to the requests of every dialect.
//
// Threads: none; a pure function.
#pragma once

#include "base/result.h"
#include "domain/generate.h"
#include "modelfile/definition.h"

namespace hearth::api {

// The definition's parameters take the place of those the request has; num_ctx is left to
// whoever loads the model. Its system prompt and first messages open a conversation, and a
// system message that begins it goes before its own. A prompt without roles stays as it is.
// `corrupt` for parameters that are no JSON object, `invalid_argument` for a value none may have.
[[nodiscard]] Status apply_definition(modelfile::Definition const& definition, domain::GenerateRequest& request);

}  // namespace hearth::api
