// Note: MODEL.hearth.json, what is known of a pulled model beside its bytes: where it
// came from, and what each file was when it was checked. The one record that says what
// a file's bytes should be.
//
// Threads: none; plain functions that block on the disk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::fetch {

struct NotedFile {
    std::string name;  // below the models folder
    std::uint64_t size = 0;
    std::string sha256, etag;  // empty: not known
    bool operator==(NotedFile const&) const = default;
};

struct Note {
    std::string source, revision;
    std::vector<NotedFile> files;
    std::map<std::string, std::string> notes;
    std::vector<std::string> adapters{};  // those of the files that are adapters, in their order

    [[nodiscard]] NotedFile const* find(std::string const& name) const;
};

[[nodiscard]] std::string note_path(std::string const& folder, std::string const& model);

// None where there is none or it is not readable.
[[nodiscard]] std::optional<Note> read_note(std::string const& folder, std::string const& model);
[[nodiscard]] Status write_note(std::string const& folder, std::string const& model, Note const& note);
void remove_note(std::string const& folder, std::string const& model);

}  // namespace hearth::fetch
