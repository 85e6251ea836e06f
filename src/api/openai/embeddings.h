// Embeddings in the OpenAI dialect: what a body asks for, and the answer.
//
// Private to the dialect.
#pragma once

#include <string>
#include <string_view>

#include "api/answer.h"
#include "api/json_document.h"
#include "api/openai/draft.h"
#include "base/result.h"

namespace hearth::api::openai {

[[nodiscard]] Verdict read_inputs(JsonView value, Draft& draft);

// {"object": "list", "data": [...]}. Fails with `invalid_argument` for more
// dimensions than the vectors have.
[[nodiscard]] Result<std::string> render_embeddings(std::string_view model, VectorShape const& shape,
                                                    Answer const& answer);

// Why a model of that width cannot give so many dimensions.
[[nodiscard]] Error too_many_dimensions(std::size_t wanted, std::size_t width);

}  // namespace hearth::api::openai
