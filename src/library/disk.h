// Disk: what uploads and models that are made of them need of files.
//
// Threads: none; blocks on the disk. Errors: `exhausted` for a disk without room, else
// `io`. Private to library.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::library {

// Of the call that has just failed: errno says why.
[[nodiscard]] Error disk_error(std::string_view what, std::string const& path);

// Whether `path` is on the file system of `folder`, so that it can be linked there. The
// folder is made if it is not there.
[[nodiscard]] Result<bool> can_link(std::string const& path, std::string const& folder);

// A copy for everybody to read, at a path that is not there yet. `stopped` is asked every
// few MiB; true ends it with `cancelled`. What was copied of it stays.
[[nodiscard]] Status copy_file(std::string const& from, std::string const& to, std::function<bool()> const& stopped);

}  // namespace hearth::library
