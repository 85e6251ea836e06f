// Note: MODEL.hearth.json, what is known of a pulled model beside its bytes. Private to fetch.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::fetch {

struct NotedFile {
    std::string name;
    std::uint64_t size = 0;
    std::string sha256, etag;
};

struct Note {
    std::string source, revision;
    std::vector<NotedFile> files;
    std::map<std::string, std::string> notes;

    [[nodiscard]] NotedFile const* find(std::string const& name) const;
};

// None where there is none or it is not readable.
[[nodiscard]] std::optional<Note> read_note(std::string const& folder, std::string const& model);
[[nodiscard]] Status write_note(std::string const& folder, std::string const& model, Note const& note);
void remove_note(std::string const& folder, std::string const& model);

}  // namespace hearth::fetch
