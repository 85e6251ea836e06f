#include "fetch/sources/manifest.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "digest/sha256.h"

namespace hearth::fetch {
namespace {

constexpr std::string_view kKindPrefix = "application/vnd.ollama.image.";
constexpr std::string_view kDigestPrefix = "sha256:";
constexpr int kDepthMax = 16;
constexpr std::size_t kChallengeBytesMax = 4096;

Error bad(std::string_view why) { return {Code::corrupt, fmt::format("the manifest is not usable: {}", why)}; }

// A member of a given type, or nothing.
nlohmann::json const* member(nlohmann::json const& object, char const* name, nlohmann::json::value_t type) {
    auto const at = object.find(name);
    return at != object.end() && at->type() == type ? &*at : nullptr;
}

Result<Layer> parse_layer(nlohmann::json const& entry) {
    if (!entry.is_object()) return bad("a layer is no object");
    auto const* const digest = member(entry, "digest", nlohmann::json::value_t::string);
    auto const* const size = member(entry, "size", nlohmann::json::value_t::number_unsigned);
    auto const* const type = member(entry, "mediaType", nlohmann::json::value_t::string);
    if (digest == nullptr || size == nullptr || type == nullptr)
        return bad("a layer has no digest, size or media type");
    std::string_view const text = digest->get_ref<std::string const&>();
    if (!text.starts_with(kDigestPrefix) || !digest::is_sha256(text.substr(kDigestPrefix.size())))
        return bad("a digest is not sha256: and 64 hexadecimal digits in lower case");
    Layer layer;
    layer.sha256 = text.substr(kDigestPrefix.size());
    layer.size = size->get<std::uint64_t>();
    if (layer.size > kLayerBytesMax)
        return bad(fmt::format("a layer has {} bytes, the limit is {}", layer.size, kLayerBytesMax));
    std::string_view const media = type->get_ref<std::string const&>();
    if (media.starts_with(kKindPrefix)) layer.kind = media.substr(kKindPrefix.size());
    return layer;
}

// Depth is bounded while parsing, so that nesting costs no more than the text.
nlohmann::json parse_bounded(std::string_view json) {
    bool too_deep = false;
    auto const watch = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
        too_deep = too_deep || depth > kDepthMax;
        return !too_deep;
    };
    auto root = nlohmann::json::parse(json, watch, false);
    return too_deep ? nlohmann::json(nlohmann::json::value_t::discarded) : root;
}

}  // namespace

Layer const* Manifest::find(std::string_view kind) const {
    auto const at = std::ranges::find(layers, kind, &Layer::kind);
    return at == layers.end() ? nullptr : &*at;
}

Result<Manifest> parse_manifest(std::string_view json) {
    if (json.size() > kManifestBytesMax)
        return bad(fmt::format("it has {} bytes, the limit is {}", json.size(), kManifestBytesMax));
    auto const root = parse_bounded(json);
    if (!root.is_object()) return bad("it is no JSON object");
    auto const* const version = member(root, "schemaVersion", nlohmann::json::value_t::number_unsigned);
    if (version == nullptr || *version != 2) return bad("its schemaVersion is not 2");
    auto const* const layers = member(root, "layers", nlohmann::json::value_t::array);
    if (layers == nullptr) return bad("it has no list of layers");
    if (layers->size() > kLayersMax)
        return bad(fmt::format("it has {} layers, the limit is {}", layers->size(), kLayersMax));
    Manifest manifest;
    for (auto const& entry : *layers) {
        HEARTH_TRY(auto layer, parse_layer(entry));
        manifest.layers.push_back(std::move(layer));
    }
    auto const models = std::ranges::count(manifest.layers, std::string_view("model"), &Layer::kind);
    if (models != 1) return bad(fmt::format("it has {} layers with a model, Hearth takes 1", models));
    auto const adapters = std::ranges::count(manifest.layers, std::string_view("adapter"), &Layer::kind);
    if (static_cast<std::size_t>(adapters) > kManifestAdaptersMax)
        return bad(fmt::format("it has {} adapters, the limit is {}", adapters, kManifestAdaptersMax));
    return manifest;
}

std::optional<Challenge> parse_challenge(std::string_view header) {
    constexpr std::string_view kScheme = "bearer ";
    if (header.size() > kChallengeBytesMax || !ascii_lower(header.substr(0, kScheme.size())).starts_with(kScheme))
        return std::nullopt;
    header.remove_prefix(kScheme.size());
    Challenge challenge;
    while (!header.empty()) {
        auto const equals = header.find("=\"");
        if (equals == std::string_view::npos) return std::nullopt;
        auto const name = ascii_lower(header.substr(0, equals));
        auto const end = header.find('"', equals + 2);
        if (end == std::string_view::npos) return std::nullopt;
        std::string const value(header.substr(equals + 2, end - equals - 2));
        if (name == "realm") challenge.realm = value;
        if (name == "service") challenge.service = value;
        if (name == "scope") challenge.scope = value;
        header.remove_prefix(end + 1);
        while (header.starts_with(',') || header.starts_with(' ')) header.remove_prefix(1);
    }
    return challenge.realm.empty() ? std::nullopt : std::optional(challenge);
}

}  // namespace hearth::fetch
