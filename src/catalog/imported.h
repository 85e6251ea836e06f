// Imported folders: models folders that somebody made known once, beside those a
// command is told.
//
// DATA/folders has one path a line. It is written whole or not at all, by whichever
// process; who reads it takes what is there then. Two that write at once: one of them
// wins.
//
// Threads: none; plain functions that block on the disk.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::catalog {

inline constexpr std::size_t kImportedMax = 64;
inline constexpr std::size_t kImportedPathMax = 4096;  // bytes
inline constexpr std::string_view kImportedFile = "folders";

// None where there is no such file, or none that can be read.
[[nodiscard]] std::vector<std::string> imported_folders(std::string const& data_folder);

// From now on it is these. `too_large` above kImportedMax, `invalid_argument` for a path
// that is not absolute, too long or holds a line break; `io`.
[[nodiscard]] Status set_imported_folders(std::string const& data_folder, std::vector<std::string> const& folders);

}  // namespace hearth::catalog
