// Listener: listening sockets and the loop that accepts from them.
//
// Private to http. The loop's thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "net/loop.h"
#include "telemetry/log.h"

namespace hearth::http {

class Listener {
public:
    struct Callbacks {
        std::function<void(int fd, std::string peer)> on_accept;  // owns `fd` from then on
        std::function<bool()> free_descriptor;  // none is left: close something; false: nothing to close
    };

    struct Options {
        std::string host;
        std::uint16_t port = 0;
        Duration write_timeout{};  // the kernel gives up a peer that acknowledges nothing for so long
    };

    // Listens on every address the host resolves to (with port 0 on the first only).
    // Fails with `io`.
    static Result<std::unique_ptr<Listener>> create(net::Loop& loop, Options const& options, telemetry::Log& log,
                                                    Callbacks callbacks);
    virtual ~Listener() = default;
    [[nodiscard]] virtual std::uint16_t port() const = 0;
    virtual void close() = 0;
};

// "127.0.0.1:5000", "[::1]:5000", "local" for what has no address.
[[nodiscard]] std::string peer_name(int fd);

}  // namespace hearth::http
