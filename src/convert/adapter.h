// convert_adapter(): a folder with a LoRA adapter as PEFT saves it becomes one GGUF file.
//
// Reads adapter_config.json and adapter_model.safetensors, and of the base, a GGUF file,
// the header: it says which family's names and orders of rows hold. Upstream's
// convert_lora_to_gguf.py asks the base's own folder for that; the tensors are the same.
//
// What the engine cannot apply is refused, never left out: DoRA, biases, whole modules,
// a scale of their own for some modules, changes of embeddings, experts and norms.
// Scales by the rank's square root (rsLoRA) become an alpha that says so.
//
// Threads and ownership as convert(). Limits: one matrix of at most kHeadBytesMax.
// Errors: `unsupported`, `corrupt`, `too_large`, `io`, `not_found`; `cancelled`.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "convert/convert.h"

namespace hearth::convert {

inline constexpr char const* kAdapterConfigName = "adapter_config.json";

struct AdapterOptions {
    std::string folder;
    std::string base;                 // GGUF file of the model it is for
    int output = -1;                  // as Options::output
    std::optional<ElementType> type;  // absent: as the first matrix in the file
};

[[nodiscard]] Result<Report> convert_adapter(AdapterOptions const& options, Planned const& planned, Watch const& watch);

}  // namespace hearth::convert
