// What a registry answers: a manifest, and the challenge for a token. The first
// byte of the input says which.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "fetch/sources/manifest.h"

namespace {

namespace fetch = hearth::fetch;

void check(fetch::Manifest const& manifest) {
    HEARTH_ASSERT(manifest.layers.size() <= fetch::kLayersMax, "layers are bounded");
    HEARTH_ASSERT(manifest.find("model") != nullptr, "there is a model");
    for (auto const& layer : manifest.layers) {
        HEARTH_ASSERT(layer.sha256.size() == 64, "a digest has its length");
        HEARTH_ASSERT(layer.sha256.find_first_not_of("0123456789abcdef") == std::string::npos, "a digest is no path");
        HEARTH_ASSERT(layer.size <= fetch::kLayerBytesMax, "sizes are bounded");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size == 0) return 0;
    std::string_view const text(reinterpret_cast<char const*>(data + 1), size - 1);
    if (data[0] == 'c') {
        auto const challenge = fetch::parse_challenge(text);
        if (challenge) HEARTH_ASSERT(!challenge->realm.empty(), "a challenge has a realm");
        return 0;
    }
    auto const manifest = fetch::parse_manifest(text);
    if (manifest) check(*manifest);
    if (!manifest) HEARTH_ASSERT(!manifest.error().message.empty(), "a refusal says why");
    return 0;
}
