// Shell completion scripts, generated from the option tree itself so that they
// cannot fall behind it.
#pragma once

#include <string>

#include "base/result.h"

namespace CLI {  // NOLINT(readability-identifier-naming): the library's
class App;
}

namespace hearth::app {

// `shell`: bash, zsh or fish; `invalid_argument` for another.
[[nodiscard]] Result<std::string> completion_script(CLI::App const& app, std::string const& shell);

}  // namespace hearth::app
