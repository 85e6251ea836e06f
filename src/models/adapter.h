// Adapters: GGUF files with low-rank changes (LoRA) to matrices of a base model.
//
// For a matrix W of the base an adapter has two small ones, A and B, and the model
// computes with W + scale * alpha / rank * B A. What read_gguf() demands of such a file
// and check_adapter() of the file and its base is what the engine trusts, asserts or
// silently leaves out; docs/formats/gguf-rules.md lists the rules.
//
// Threads: none; pure functions over read-only files. Errors: `corrupt`,
// `unsupported` for what the engine would not apply, `invalid_argument` for a base
// that is another model's; and those of read_gguf().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/gguf.h"

namespace hearth::models {

inline constexpr std::uint64_t kAdapterRankMax = 4096;
inline constexpr std::uint64_t kAdapterBytesMax = std::uint64_t{16} << 30;  // it is copied into memory, not mapped

[[nodiscard]] bool is_adapter(GgufFile const& file);

// Reads and validates the file; `unsupported` for one that is a model.
[[nodiscard]] Result<GgufFile> read_adapter(std::string const& path);

// Every matrix it changes is one of the base's, of that shape, and one that the engine
// changes. REQUIRES: `adapter` is what read_adapter() gave, `base` what read_gguf_model() did
[[nodiscard]] Status check_adapter(GgufFile const& adapter, std::vector<GgufFile> const& base);

// What it takes in memory beside its base.
[[nodiscard]] std::uint64_t adapter_bytes(GgufFile const& adapter);

}  // namespace hearth::models
