// A model's parameters as bodies that are about a model spell them: {"num_ctx": 4096,
// "stop": ["a", "b"]}. Requests that run one have the field table. Private to the dialect.
#pragma once

#include <string_view>
#include <vector>

#include "api/values.h"
#include "modelfile/parameters.h"

namespace hearth::api::ollama {

// Adds those of the object `value`, a list's each. Refuses what is none of a Modelfile's, by name.
Verdict read_parameters(std::string_view field, JsonView value, std::vector<modelfile::Parameter>& out);

}  // namespace hearth::api::ollama
