// Disk: what uploads and models that are made of them need of files.
//
// Threads: none; blocks on the disk. Errors: `exhausted` for a disk without room, else
// `io`. Private to library.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::library {

// Of the call that has just failed: errno says why.
[[nodiscard]] Error disk_error(std::string_view what, std::string const& path);

// Where files are while a model is made of them is nobody's business.
[[nodiscard]] Error without_folder(Error error, std::string const& folder);

// A copy for everybody to read, at a path that is not there yet, and on the medium when this returns. `watch` is
// told the bytes so far every few MiB; false ends it with `cancelled`. What was copied of it stays.
[[nodiscard]] Status copy_file(std::string const& from, std::string const& to,
                               std::function<bool(std::uint64_t done)> const& watch);

}  // namespace hearth::library
