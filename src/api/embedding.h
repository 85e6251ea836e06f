// What the dialects share of embeddings: inputs as requests of the engine's
// size, and vectors as a client wants them.
//
// A body holds as many inputs as fit in it; they are split over requests of the
// engine's size, so that others have their turn between them.
//
// Private to the module.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "domain/generate.h"

namespace hearth::api {

// The inputs, in order, as prompts of at most domain::kEmbedInputsMax inputs and
// domain::kPromptBytesMax bytes each.
[[nodiscard]] std::vector<domain::EmbedPrompt> split_inputs(std::vector<domain::EmbedPrompt::Input> inputs,
                                                            bool truncate);

enum class Length : std::uint8_t { one, as_it_is };

// Its first `dimensions` numbers, all if absent, scaled to that length; a vector of zeros stays one.
// REQUIRES: dimensions <= vector.size()
[[nodiscard]] std::vector<float> shaped(std::span<float const> vector, std::optional<std::uint32_t> dimensions,
                                        Length length);

}  // namespace hearth::api
