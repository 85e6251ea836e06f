// Manifest: what a registry says a model consists of.
//
// Threads: pure functions. Limits: kManifestBytesMax, kLayersMax, kLayerBytesMax.
// Source:  Docker Image Manifest Version 2, Schema 2, with Ollama's media types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::fetch {

inline constexpr std::size_t kManifestBytesMax = 1U << 20;
inline constexpr std::size_t kLayersMax = 128;
inline constexpr std::size_t kManifestAdaptersMax = 16;
inline constexpr std::uint64_t kLayerBytesMax = std::uint64_t{1} << 42;

struct Layer {
    std::string kind;    // behind "application/vnd.ollama.image.": model, template, params, ...; empty for others
    std::string sha256;  // 64 hexadecimal digits: never a path, whatever the manifest says
    std::uint64_t size = 0;
};

struct Manifest {
    std::vector<Layer> layers;

    // The first of this kind; null if there is none.
    [[nodiscard]] Layer const* find(std::string_view kind) const;
};

// `corrupt` for anything but a manifest with exactly one layer of kind model, and at most
// kManifestAdaptersMax of kind adapter.
[[nodiscard]] Result<Manifest> parse_manifest(std::string_view json);

// What a 401 asks for, by WWW-Authenticate: Bearer realm="…",service="…",scope="…".
struct Challenge {
    std::string realm, service, scope;
};
[[nodiscard]] std::optional<Challenge> parse_challenge(std::string_view header);

}  // namespace hearth::fetch
