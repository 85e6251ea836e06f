// The system calls an engine worker may make; any other ends the process.
// Private to sandbox.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"

namespace hearth::sandbox {

// Empty where seccomp filters work, otherwise why they do not.
[[nodiscard]] std::string seccomp_obstacle();

// Installs the filter for all threads of this process and returns the number of
// calls it allows. Fails with `io`.
// REQUIRES: no_new_privs is set, seccomp_obstacle() is empty
[[nodiscard]] Result<std::size_t> install_seccomp_filter();

}  // namespace hearth::sandbox
