// push(): a model to a registry that speaks Ollama's protocol.
//
//   HEAD  /v2/NAMESPACE/MODEL/blobs/sha256:HEX     is it there?
//   POST  /v2/NAMESPACE/MODEL/blobs/uploads/       where to send it: Location; with
//         ?mount=sha256:HEX&from=NAMESPACE/OTHER   201 where that has it
//   PATCH that place, piece by piece; each answer may name the next place, and how
//         much has come (Range)
//   GET   the last place: how much of it has come, after an interruption
//   PUT   the last place with ?digest=sha256:HEX   it is whole
//   PUT   /v2/NAMESPACE/MODEL/manifests/TAG        after the layers and the config
//
// A blob that breaks off goes on where the registry says it is; one of which it knows
// nothing any more, or does not say, is begun again. What the registry says it has is
// compared with what was sent.
//
// Threads: the client's loop, which is to serve nobody else: files are read on it.
// Limits:  PushOptions. Without TLS only this machine is given anything.
// Errors:  of Client and Registry; `corrupt` for a registry that breaks the protocol or
//          says another digest, `too_large` for more layers than a manifest may have.
// Source:  the OCI distribution specification, and Ollama's use of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fetch/address.h"
#include "fetch/client.h"
#include "fetch/sources/reference.h"
#include "fetch/url.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::fetch {

// Where uploads that broke off can be gone on with: what outlives one push(), and with a
// file the process, too. The addresses may be signed, so the file is the user's alone.
//
// Threads: one at a time; blocks on the disk. Limit: kUploadsKept; beyond it the oldest is
// begun again. A file that cannot be read or written is as none.
inline constexpr std::size_t kUploadsKept = 64;

class UploadPlaces {
public:
    struct Place {
        Url url;
        AddressClass led_from = AddressClass::everywhere;  // what class of address named it
        bool operator==(Place const&) const = default;
    };
    UploadPlaces() = default;
    // As that file says, and from now on written there. Its folder is there when something is kept.
    explicit UploadPlaces(std::string file);
    // None if nothing is known of that blob.
    [[nodiscard]] std::optional<Place> find(std::string const& blob) const;
    void keep(std::string const& blob, Place place);
    void forget(std::string const& blob);

private:
    void save() const;

    std::string file_;  // empty: none
    std::vector<std::pair<std::string, Place>> places_;  // oldest first
};

struct PushOptions {
    std::uint64_t piece_bytes = std::uint64_t{64} << 20;  // of one PATCH
    unsigned tries_max = 5;                               // in a row without a new byte, of one blob or the manifest
    unsigned failures_max = 1000;                         // of one blob altogether
    Duration backoff_first = std::chrono::milliseconds(500);
    Duration backoff_max = std::chrono::seconds(30);      // and of what Retry-After may ask
    // How long a pause of so long takes: what tests replace.
    std::function<Duration(Duration)> pause = [](Duration asked) { return asked; };
};

struct PushLayer {
    std::string kind;    // behind "application/vnd.ollama.image."
    std::string path;    // of a file; empty: `bytes`
    std::string bytes;
    std::string sha256;  // of all of it
    std::uint64_t size = 0;
};

struct PushOrder {
    RegistryReference reference;
    std::vector<PushLayer> layers;  // the model first
    std::string config;             // the JSON that the manifest's config is
    std::string mount_from;         // NAMESPACE/MODEL of the same registry that may have layers; empty: none
    std::shared_ptr<UploadPlaces> places;  // null: what breaks off is known to this push alone
    std::shared_ptr<Abort> abort;   // may be null
};

// Where it is.
struct PushStep {
    std::string text;  // "pushing sha256:HEX", "pushing manifest"
    std::uint64_t done = 0, total = 0;              // bytes of all layers
    std::uint64_t layer_done = 0, layer_total = 0;  // of the one it names
};
using PushListener = std::function<void(PushStep const&)>;

// The digest of the manifest that was pushed.
net::Task<Result<std::string>> push(net::Loop& loop, Client& client, PushOrder order, PushOptions options,
                                    PushListener listener);

}  // namespace hearth::fetch
