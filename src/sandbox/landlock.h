// Landlock: from restrict_files() on, this thread and those it starts see
// no file system but the listed paths, open no TCP connection, and reach no
// process outside, as far as the kernel's ABI can forbid it.
//
// The system calls are made directly: the headers of a distribution lag behind
// the kernels its users run. Private to sandbox.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::sandbox {

struct LandlockSupport {
    int abi = 0;         // 0: not there
    std::string reason;  // why not
};

[[nodiscard]] LandlockSupport probe_landlock();

// Allows reading `readable` (files, or folders with everything below), and in the
// folder `writable`, if it is not empty, also making, writing, renaming and
// removing regular files, and writing and truncating the file `rewritable`, if it
// is not empty; forbids all other access. Fails with `io` naming the path or step.
// REQUIRES: probe_landlock().abi > 0, no_new_privs is set
[[nodiscard]] Status restrict_files(int abi, std::vector<std::string> const& readable, std::string const& writable,
                                    std::string const& rewritable);

}  // namespace hearth::sandbox
