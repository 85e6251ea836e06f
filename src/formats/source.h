// What a model is made from: a folder as hubs publish models, or a GGUF file with
// its splits; and what is known of it from its headers.
//
// Threads: none; functions over read-only files.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace hearth::formats {

[[nodiscard]] bool is_folder(std::string const& path);
// One that holds a model as hubs publish them: a config.json is in it.
[[nodiscard]] bool is_model_folder(std::string const& path);

// One that holds a LoRA adapter as PEFT saves it: an adapter_config.json is in it.
[[nodiscard]] bool is_adapter_folder(std::string const& path);

// Numbers in its weights; eight to a word of a GPTQ or AWQ matrix. As the readers
// of safetensors and GGUF fail.
[[nodiscard]] Result<std::uint64_t> count_parameters(std::string const& source);

}  // namespace hearth::formats
