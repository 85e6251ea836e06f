// A small file, whole under its name or not at all, also where several processes write it at once:
// one after the other.
//
// Threads: none; blocks on the disk. Errors: `exhausted` where the disk has no room,
// `too_large` above what a file may have here, `unavailable` where others write it
// for ten seconds, else `io`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::fetch {

// Who may read it, besides the user.
enum class Readers : std::uint8_t { nobody, everybody };

// Temporary name, sync, rename, sync of the folder, which must exist.
[[nodiscard]] Status write_whole(std::string const& path, std::string_view text, Readers readers = Readers::nobody);

// Removes PATH.new that a process left which ended within write_whole(path). False where there is none, or its
// writer is at it.
[[nodiscard]] bool remove_unfinished(std::string const& path);

// What was renamed to `path`, or removed there, stays so whatever happens.
[[nodiscard]] Status sync_folder_of(std::string const& path);

}  // namespace hearth::fetch
