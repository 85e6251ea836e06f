// locate(): the file that a model's name means, for every command alike.
//
// Threads: none; a pure function over read-only folders.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::catalog {

struct Located {
    std::string path;  // what the engine opens
    std::string id;    // what clients call it
};

// As models::resolve_model() finds paths and plain files; what that does not
// know is looked for by its name in Ollama's and Hugging Face's layouts below
// `folders`, as Catalog::find() compares names, aliases aside. Errors as there.
[[nodiscard]] Result<Located> locate(std::string const& name_or_path, std::vector<std::string> const& folders);

}  // namespace hearth::catalog
