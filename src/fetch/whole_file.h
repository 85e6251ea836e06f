// A small file, whole under its name or not at all.
//
// Threads: none; blocks on the disk.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::fetch {

// Temporary name, sync, rename, sync of the folder, which must exist. `too_large` where
// the disk has no room, else `io`.
[[nodiscard]] Status write_whole(std::string const& path, std::string_view text);

}  // namespace hearth::fetch
