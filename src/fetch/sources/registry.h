// Registry: one registry that speaks Ollama's protocol, and the token it gave to anybody
// who asked for one.
//
// Threads: the client's loop. Limits: kTokensMax tokens. Errors: of Client; `not_found`,
// `unsupported` with kRefused for what is not for everybody, `unavailable` for what another try may change.
// Private to fetch.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/result.h"
#include "fetch/client.h"
#include "fetch/sources/manifest.h"
#include "fetch/sources/reference.h"
#include "net/task.h"

namespace hearth::fetch {

inline constexpr unsigned kTokensMax = 64;  // they are short-lived, and a large model takes hours

class Registry {
public:
    // Without TLS only where that is this machine or `plain_http` allows it.
    [[nodiscard]] static Result<Registry> create(Client& client, RegistryReference const& reference,
                                                 PlainHttp plain_http);

    // With the token, and once more with a new one where that is asked for. What leaves
    // the registry's origin is asked without.
    net::Task<Result<std::unique_ptr<Response>>> ask(Request request);

    // The body of a GET that is answered with 200.
    net::Task<Result<std::string>> read(std::string path, std::string accept, std::size_t bytes_max);

    [[nodiscard]] Url url(std::string const& path) const;
    [[nodiscard]] std::string const& authorization() const { return authorization_; }
    [[nodiscard]] std::string const& name() const { return name_; }

    // Why an answer is none, by its status.
    [[nodiscard]] Error refusal(Response const& answer) const;

private:
    Registry(Client& client, std::string name, Url base)
        : client_(&client), name_(std::move(name)), base_(std::move(base)) {}
    net::Task<Status> authorize(Challenge challenge);

    Client* client_;
    std::string name_;
    Url base_;
    std::string authorization_;
    unsigned tokens_ = 0;
};

// The path of a blob, and of all of a model's.
[[nodiscard]] std::string blobs_path(RegistryReference const& reference);

}  // namespace hearth::fetch
