// push(): a model to a registry that speaks Ollama's protocol.
//
//   HEAD  /v2/NAMESPACE/MODEL/blobs/sha256:HEX     is it there?
//   POST  /v2/NAMESPACE/MODEL/blobs/uploads/       where to send it: Location
//   PATCH that place, piece by piece; each answer may name the next place
//   PUT   the last place with ?digest=sha256:HEX   it is whole
//   PUT   /v2/NAMESPACE/MODEL/manifests/TAG        after the layers and the config
//
// A blob that fails on its way is begun again. What the registry says it has is
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
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "fetch/client.h"
#include "fetch/sources/reference.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::fetch {

struct PushOptions {
    std::uint64_t piece_bytes = std::uint64_t{64} << 20;  // of one PATCH
    unsigned tries_max = 5;                               // of one blob, and of the manifest
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
    std::shared_ptr<Abort> abort;   // may be null
};

// Where it is: "pushing sha256:HEX" with the bytes of all layers, "pushing manifest".
using PushListener = std::function<void(std::string const& text, std::uint64_t done, std::uint64_t total)>;

// The digest of the manifest that was pushed.
net::Task<Result<std::string>> push(net::Loop& loop, Client& client, PushOrder order, PushOptions options,
                                    PushListener listener);

}  // namespace hearth::fetch
