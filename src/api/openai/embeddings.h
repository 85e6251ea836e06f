// Embeddings in the OpenAI dialect: what a body asks for, and the answer.
//
// A body holds as many inputs as fit in it; they are split over requests of the
// engine's size, so that others have their turn between them.
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

// The draft's inputs as prompts of at most domain::kEmbedInputsMax inputs and
// domain::kPromptBytesMax bytes each.
void split_inputs(Draft& draft);

// {"object": "list", "data": [...]}. Fails with `invalid_argument` for more
// dimensions than the vectors have.
[[nodiscard]] Result<std::string> render_embeddings(std::string_view model, VectorShape const& shape,
                                                    Answer const& answer);

// Why a model of that width cannot give so many dimensions.
[[nodiscard]] Error too_many_dimensions(std::size_t wanted, std::size_t width);

}  // namespace hearth::api::openai
