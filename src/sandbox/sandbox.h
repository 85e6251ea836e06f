// Sandbox: takes away from this process, for good, what an engine worker does
// not need, before it touches a model file.
//
// enter() closes all descriptors but those listed, sets rlimits, no_new_privs,
// a Landlock ruleset (read the listed files, write files in one folder, nothing
// else; no TCP; no signals or abstract sockets outside, as far as the kernel's ABI
// knows them) and a seccomp allow-list (no exec, no sockets, no ptrace; a forbidden
// call ends the process).
//
// What the platform lacks is reported, not hidden: see Report.
// Threads: call once, before other threads start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::sandbox {

struct Policy {
    std::vector<std::string> readable;   // files or folders
    std::string writable;                // a folder: files right in it may be made, written, renamed and removed
    std::string rewritable;              // a file that is there: may be opened for writing from its beginning; not
                                         // together with `writable`
    std::vector<int> keep_fds;           // besides 0, 1, 2
    std::uint64_t open_files_max = 64;
    std::uint64_t core_bytes_max = 0;
    bool seccomp = true;
};

struct Report {
    int landlock_abi = 0;         // 0: the kernel has none
    bool seccomp = false;
    bool writable = false;        // the folder is; never without Landlock, which alone confines writing to it
    std::string description;      // e.g. "landlock abi 7, seccomp, no_new_privs" or what is missing and why
    [[nodiscard]] bool complete() const { return landlock_abi > 0 && seccomp; }
};

// Fails with `io` only when a step the platform does support is refused.
[[nodiscard]] Result<Report> enter(Policy const& policy);

}  // namespace hearth::sandbox
