// What /api/show tells of a model's file. Private to the dialect.
#pragma once

#include <cstdint>
#include <optional>

#include "api/json_writer.h"
#include "domain/model.h"
#include "models/file_facts.h"

namespace hearth::api::ollama {

enum class Verbosity : std::uint8_t { brief, all };

// The file's metadata by its own keys, with general.parameter_count. Arrays
// are null, as Ollama has them, but for short ones of integers when all is
// asked for. The chat template is left out: it is the answer's `template`.
void write_model_info(JsonWriter& json, models::FileFacts const& facts, Verbosity verbosity);

// The same for a model without a file that could be read: what its worker said.
void write_model_info(JsonWriter& json, std::optional<domain::ModelInfo> const& info);

// [{name, type, shape}], over all files.
void write_tensors(JsonWriter& json, models::FileFacts const& facts);

}  // namespace hearth::api::ollama
