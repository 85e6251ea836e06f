// The folders of all models below one: what they take together is bounded too, so
// that models which are gone, or never asked again, do not lie on the disk for good.
//
// Threads: any; several processes may do it at once.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace hearth::kvstore {

struct Trimmed {
    std::uint64_t bytes_before = 0;
    std::uint64_t bytes_after = 0;
    std::uint32_t folders = 0;  // removed
};

inline constexpr std::uint32_t kFoldersMax = 4096;  // looked at; the rest waits until next time

// Removes folders of models below `path`, those unused longest first, until the others
// hold `bytes_max` or less. One that a process has open (SystemFolder) stays, whatever
// it holds; so does what has not the name of such a folder, and what in a folder is no
// store's. Fails with `io` when `path` cannot be read.
[[nodiscard]] Result<Trimmed> trim_folders(std::string const& path, std::uint64_t bytes_max);

}  // namespace hearth::kvstore
