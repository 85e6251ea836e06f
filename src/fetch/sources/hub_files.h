// Which of a hub repository's files make the model that was asked for. Private to
// fetch; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fetch/sources/note.h"

namespace hearth::fetch {

inline constexpr std::size_t kHubFilesMax = 20'000;  // of a repository

struct HubFile {
    std::string path;  // in the repository
    std::optional<std::uint64_t> size;
    std::string sha256;  // of large files; empty: unknown
};

struct HubListing {
    std::string commit;  // 40 hexadecimal digits
    std::vector<HubFile> files;
};

// The answer to GET /api/models/ORG/REPO/revision/REV?blobs=true. `corrupt` says what is wrong with it.
[[nodiscard]] Result<HubListing> parse_hub_listing(std::string_view json);

// All parts of a split, in order. With an empty choice: the only one there is, else
// the first of kUsualQuantisations. Empty where there is no GGUF file at all;
// `not_found` lists what can be chosen.
[[nodiscard]] Result<std::vector<HubFile>> choose_gguf(std::vector<HubFile> const& files, std::string const& choice);

// The same for what was pulled before: the set with one of the noted hashes, whatever it was called here since; else
// the one with the name of the first noted file; else the only one there is. `corrupt` where nothing says which it was.
// REQUIRES: something is noted
[[nodiscard]] Result<std::vector<HubFile>> choose_gguf_again(std::vector<HubFile> const& files,
                                                             std::vector<NotedFile> const& noted);

// What is needed to convert safetensors, and the card; config.json first. Of several sets of weights the one that
// conversion opens: the sharded one of an index, else model.safetensors. Empty without config or weights.
[[nodiscard]] std::vector<HubFile> choose_safetensors(std::vector<HubFile> const& files);

// "NAME" of NAME.gguf and of NAME-00001-of-00003.gguf, without its folder.
[[nodiscard]] std::string gguf_stem(std::string_view path);

// "-00001-of-00003" and the like before ".gguf"; empty if there is none.
[[nodiscard]] std::string split_suffix(std::string_view path);

}  // namespace hearth::fetch
