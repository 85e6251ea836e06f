// Where a CPU variant's name becomes upstream's handle. Private to the module.
#pragma once

#include <ggml-backend.h>

#include <string_view>

namespace hearth::llama {

// Null for a name that is not compiled in.
// REQUIRES: choose_cpu_variant() returned `name`
[[nodiscard]] ggml_backend_reg_t cpu_registration(std::string_view name);

}  // namespace hearth::llama
