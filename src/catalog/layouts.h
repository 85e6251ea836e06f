// find_models(): the model files that lie below some folders, in place.
//
// Three layouts are known: plain *.gguf files directly in the folder, under
// their own names; Ollama's (manifests/HOST/NAMESPACE/MODEL/TAG that name
// blobs/sha256-..); Hugging Face's cache (models--ORG--REPO/snapshots/..,
// symbolic links into blobs/, in the folder or in its `hub`). Nothing is
// opened but Ollama's manifests and small layers, nothing is copied or written.
//
// What a folder holds is not trusted: a link that leaves all the folders, a name
// that is no name, a manifest that lies about sizes is refused, and said.
//
// Threads: none; pure functions over read-only folders.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace hearth::catalog {

inline constexpr std::size_t kEntriesMax = 100'000;      // looked at below all folders
inline constexpr std::size_t kManifestMax = 1U << 20;    // bytes
inline constexpr std::size_t kSmallLayerMax = 1U << 20;  // bytes of a system prompt or parameters
inline constexpr std::size_t kLayersMax = 64;
inline constexpr std::size_t kNamePartMax = 350;         // bytes

// Stored by number: append, never renumber.
enum class Layout : std::uint8_t { folder = 0, ollama = 1, hugging_face = 2 };

struct ModelFile {
    std::string path;
    std::uint64_t bytes = 0;
    std::int64_t modified_ns = 0;  // since 1970
    std::string sha256;            // hex; as the layout names it, or computed; empty: not known
    bool verified = false;         // computed, and equal to what the layout names

    bool operator==(ModelFile const&) const = default;
};

struct Found {
    std::string name;    // what a user calls it
    Layout layout = Layout::folder;
    std::string source;  // where it came from: "ollama registry.ollama.ai/library/x:y"; empty for plain files
    std::vector<ModelFile> files;  // the first is what the engine opens; then the other splits
    std::string options;  // Ollama's parameters, JSON text; empty: none
    std::string system;   // Ollama's system prompt
    std::string template_text{}, license{}, messages{};  // of Ollama's layout, as its layers say; messages as JSON
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
