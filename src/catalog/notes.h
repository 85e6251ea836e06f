// Notes: definitions in files beside models, and the adapters' files beside them.
//
// MODEL is its name as names::to_file_stem() writes it. Its adapters are MODEL.lora-1,
// MODEL.lora-2 and so on, links of the files they
// were made of where the file system allows: no model is found under such a name.
//
// Threads: none; blocks on the disk. Errors: `io`, `corrupt`, `exhausted` where the disk
// has no room. Private to catalog.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/result.h"
#include "modelfile/definition.h"

namespace hearth::catalog {

[[nodiscard]] Error disk_error(std::string_view what, std::string const& path, std::error_code failed);

[[nodiscard]] std::string note_path(std::filesystem::path const& folder, std::string const& model);

// Nothing if there is none. Adapters are named as the note does: beside it.
[[nodiscard]] Result<std::optional<modelfile::Definition>> read_note(std::string const& path);

// Files on their way into a folder. All of them are whole beside where they go, as PATH.new, before the
// first one is there: what fails for want of room changes nothing. Who goes away before settle() leaves nothing; what
// a process leaves that dies meanwhile goes with fetch::sweep_leftovers().
class Arrivals {
public:
    struct File {
        std::filesystem::path from;
        std::string path;
    };
    // Each becomes a link, or a copy where there can be none; one that is there already stays.
    // The room is asked for all of the copies. REQUIRES: a FolderLock until settle()
    [[nodiscard]] static Result<Arrivals> stage(std::vector<File> const& files);
    ~Arrivals();
    Arrivals(Arrivals&&) noexcept = default;
    Arrivals& operator=(Arrivals&&) = delete;

    // They get their names, the first one last: by that a model is found.
    [[nodiscard]] Status settle();

private:
    Arrivals() = default;
    [[nodiscard]] Status link_or_copy(std::vector<File> const& files);
    std::vector<std::string> paths_;
};

// The note of `model`, and its adapters, which the definition names by their paths. Those
// of the note that was there before go, if there was one, as far as they are MODEL.lora-N.
[[nodiscard]] Status place_definition(std::string const& folder, std::string const& model,
                                      modelfile::Definition definition);

}  // namespace hearth::catalog
