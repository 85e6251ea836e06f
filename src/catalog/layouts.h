// find_models(): the model files that lie below some folders, in place.
//
// Four layouts are known: plain *.gguf files in the folder and in those directly in it, under
// their own names; LM Studio's (PUBLISHER/REPO/FILE.gguf); Ollama's (manifests/HOST/NAMESPACE/MODEL/TAG that name
// blobs/sha256-..); Hugging Face's cache (models--ORG--REPO/snapshots/..,
// symbolic links into blobs/, in the folder or in its `hub`), each revision that a ref names. In all
// but Ollama's a model may be a folder of safetensors with its config.json instead of a *.gguf file.
// Nothing is opened but refs, Ollama's manifests and small layers and the notes of pulls, nothing is
// copied or written. Links to folders are not followed.
//
// Whose bytes are known: a blob's name is its SHA-256, and the note of a pull says
// what each file was when it was checked. Such a file is `recorded`.
//
// What a folder holds is not trusted: a link that leaves all the folders, a name
// that is no name, a manifest that lies about sizes is refused, and said.
//
// Threads: none; pure functions over read-only folders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::catalog {

inline constexpr std::size_t kEntriesMax = 100'000;      // looked at below all folders
inline constexpr std::size_t kManifestMax = 1U << 20;    // bytes
inline constexpr std::size_t kSmallLayerMax = 1U << 20;  // bytes of a system prompt or parameters
inline constexpr std::size_t kLayersMax = 64;
inline constexpr std::size_t kNamePartMax = 350;         // bytes
inline constexpr std::size_t kFolderFilesMax = 1000;     // of a folder of safetensors
inline constexpr std::size_t kRevisionsMax = 32;         // of a repository in Hugging Face's cache

// Stored by number: append, never renumber.
enum class Layout : std::uint8_t { folder = 0, ollama = 1, hugging_face = 2, lm_studio = 3 };
[[nodiscard]] std::string_view to_string(Layout layout) noexcept;

// What is known of a file's bytes. Stored by number: append, never renumber.
enum class Soundness : std::uint8_t {
    unread = 0,   // never read whole as it is now
    whole = 1,    // read, and as it should be
    changed = 2,  // recorded, and another file than it was: nobody knows before it was read
    damaged = 3,  // read, and not what it should be
};

struct ModelFile {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t modified_ns = 0;  // since 1970
    std::uint64_t inode = 0;       // 0: not known
    std::string sha256;            // hex; as its layout or its pull says, or computed; empty: not known
    bool recorded = false;         // sha256 is what its layout or its pull says
    Soundness soundness = Soundness::unread;
    std::string damage;            // of a damaged one: what is wrong, in words

    bool operator==(ModelFile const&) const = default;
};

// As far as path, size, time and inode tell.
[[nodiscard]] bool is_same_file(ModelFile const& a, ModelFile const& b);
[[nodiscard]] bool are_same_files(std::vector<ModelFile> const& a, std::vector<ModelFile> const& b);

// A folder of safetensors: its config.json is the first of its files. It is served as what it
// becomes by conversion.
[[nodiscard]] bool is_folder(std::vector<ModelFile> const& files);
// That folder, else the first file, which is what the engine opens. REQUIRES: there are files
[[nodiscard]] std::string served_from(std::vector<ModelFile> const& files);

// Whether a file of this name in a folder of safetensors is one of the model's: what conversion may
// read, see docs/formats-and-conversion.md, and the same weights only once.
[[nodiscard]] bool is_of_folder(std::string_view name);

// What the system says of a regular file. `not_found`, or `io` for what is none.
[[nodiscard]] Result<ModelFile> look_at(std::string const& path);

struct Found {
    std::string name;    // what a user calls it
    Layout layout = Layout::folder;
    std::string source;  // where it came from, as a pull takes it; empty where nobody says
    // The first is what the engine opens, then the other splits; or a folder's, see is_folder().
    std::vector<ModelFile> files;
    std::string options;  // Ollama's parameters, JSON text; empty: none
    std::string system;   // Ollama's system prompt
    std::string template_text{}, license{}, messages{};  // of Ollama's layout, as its layers say; messages as JSON
    std::vector<std::string> adapters{};                 // of Ollama's layout: paths, in their order
    std::string problem{};  // why it cannot be served as its layout says it is; empty: it can
};

struct Refused {
    std::string path, why;
};

struct Findings {
    std::vector<Found> models;  // by name; of equal names, the one of the first folder
    std::vector<Refused> refused;
};

[[nodiscard]] Findings find_models(std::vector<std::string> const& folders);

}  // namespace hearth::catalog
