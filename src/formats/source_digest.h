// SHA-256 of what a model is made from, remembered as long as no file of it changes.
//
// Of a GGUF file: of its bytes. Of a split one: of the names and digests of its
// parts. Of a folder: of its name, which the model's name is made of, and of the names
// and digests of the files that conversion may read.
//
// Threads: any. Private to formats.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"

namespace hearth::formats {

// `memo_folder` keeps what was computed, one small file a source, written whole;
// a memo counts only while size, inode and times of every file are what they were.
// `stop` is asked before every piece. `cancelled`, `not_found`, and `io`, also for
// a file that changes meanwhile; `too_large` for a folder of too many files.
[[nodiscard]] Result<std::string> source_digest(std::string const& source, std::string const& memo_folder,
                                                std::function<bool()> const& stop);

// Gives the file these bytes, whole or not at all: a private file, fsync, rename.
[[nodiscard]] Status write_small_file(std::string const& path, std::string const& bytes);

}  // namespace hearth::formats
