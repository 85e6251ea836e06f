// The system calls an engine worker may make; any other ends the process.
// Private to sandbox.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace hearth::sandbox {

// Empty where seccomp filters work, otherwise why they do not.
[[nodiscard]] std::string seccomp_obstacle();

// `written`: new files may be made, and files renamed, removed and flushed.
// Landlock decides where; without it, never ask for this.
// `rewritten`: files may be opened for writing if that truncates them. Landlock
// decides which.
enum class Files : std::uint8_t { read, written, rewritten };

// Installs the filter for all threads of this process and returns the number of
// calls it allows. Fails with `io`.
// REQUIRES: no_new_privs is set, seccomp_obstacle() is empty
[[nodiscard]] Result<std::size_t> install_seccomp_filter(Files files);

}  // namespace hearth::sandbox
