// read_folder_facts(): what a folder of safetensors says of its model, from its headers
// and its small files. Nothing of its weights is read, and nothing is converted.
//
// The chat template is the one that conversion takes (convert/special_tokens.cpp), so that
// its hash is that of the model which comes out.
//
// Threads: none; blocks on the disk. Limits: kConfigBytesMax, kCardBytesMax, and those of
// models/safetensors.h. Private to catalog.
#pragma once

#include <cstddef>
#include <string>

#include "catalog/catalog.h"

namespace hearth::catalog {

inline constexpr std::size_t kConfigBytesMax = std::size_t{16} << 20;  // of a JSON file or a template
inline constexpr std::size_t kCardBytesMax = std::size_t{1} << 20;  // of README.md; of a longer one nothing is read

// Never fails: what is wrong is `model.problem`.
void read_folder_facts(std::string const& folder, Model& model);

}  // namespace hearth::catalog
