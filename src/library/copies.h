// Copies: the files of a model in a folder that they cannot be linked into, be it another file
// system or somebody else's files.
//
// They are copied to a private folder inside that one, on a thread that may take as long as it takes.
// From there they are linked into their places where all models are kept in order, which is done at once.
//
// Threads: none; blocks on the disk. Errors: `exhausted` for a disk without room, `cancelled`, `not_found`, `io`.
// Private to library.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "catalog/layouts.h"
#include "library/blobs.h"
#include "library/creation.h"

namespace hearth::library {

struct Copies {
    std::vector<catalog::ModelFile> of;  // as they were before
    std::string path;                    // of the first copy; the others lie beside it
    StagingFolder folder;                // dropped, they are gone
};

// All files of the model whose first one is at `path`.
[[nodiscard]] Result<std::vector<catalog::ModelFile>> files_at(std::string const& path);

// Whether they get into `folder` as copies alone: a link is tried. Not where there are no links at all, which
// copies are no help against. The folder is made if it is not there.
[[nodiscard]] Result<bool> need_copies(std::vector<catalog::ModelFile> const& files, std::string const& folder);

// Told how many of how many bytes are copied; false ends it.
using CopyWatch = std::function<bool(std::uint64_t done, std::uint64_t total)>;
// All of them, on the medium. `copy` empty: copy_file() of disk.h.
[[nodiscard]] Result<Copies> make_copies(std::vector<catalog::ModelFile> files, std::string const& folder,
                                         CopyFile const& copy, CopyWatch const& watch);

// Fails with `unavailable` when one of them is another file by now: then nobody knows what copies of them hold.
[[nodiscard]] Status check_unchanged(std::vector<catalog::ModelFile> const& files);

}  // namespace hearth::library
