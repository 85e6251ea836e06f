// What a model's definition (modelfile/definition.h) does to a request for it,
// in every dialect alike.
//
// Its parameters take the place of the dialect's defaults, and what a body says
// goes before them. Its system prompt and first messages open every
// conversation; a system message of the request's own takes the place of its.
//
// Private to the module.
#pragma once

#include <vector>

#include "api/values.h"
#include "domain/generate.h"
#include "modelfile/definition.h"

namespace hearth::api {

// A context is a property of the loaded model: num_ctx is left to whoever loads it.
[[nodiscard]] Verdict apply_parameters(modelfile::Definition const& definition, domain::GenerateRequest& request);

enum class Opening : std::uint8_t { all, system_only };

// Puts them before the messages of a request. REQUIRES: messages is not empty
void open_conversation(modelfile::Definition const& definition, Opening opening,
                       std::vector<domain::Message>& messages);

}  // namespace hearth::api
