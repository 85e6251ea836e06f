// SHA-256 of a file, read in pieces. Private to catalog.
//
// Threads: any. Errors: `io`, `not_found`, `cancelled`.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace hearth::catalog {

// Hex. `stop` is asked before every piece.
[[nodiscard]] Result<std::string> sha256_of_file(std::string const& path, std::function<bool()> const& stop);

}  // namespace hearth::catalog
