// locate(): the file or the folder that a model's name means, for every command alike.
//
// Threads: none; a pure function over read-only folders.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::catalog {

struct Located {
    std::string path;  // what the engine opens, or a folder of safetensors, which becomes that by conversion
    std::string id;    // what clients call it
};

// As models::resolve_model() finds paths and plain files; what that does not
// know is looked for by its name in all layouts (layouts.h) below `folders`, as
// Catalog::find() compares names, aliases aside. Errors as there, and `unsupported`
// for a model that cannot be served as its layout says it is.
[[nodiscard]] Result<Located> locate(std::string const& name_or_path, std::vector<std::string> const& folders);

}  // namespace hearth::catalog
