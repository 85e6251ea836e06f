// AccessPolicy: which Host and Origin headers a request may carry.
//
// A page on a foreign site can make a browser send requests to a server on the
// user's own machine: through a host name of its own that resolves to 127.0.0.1
// (DNS rebinding; the Host header gives it away) or directly (the Origin header
// does). Both are refused unless allowed. Private to http. Immutable.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.h"

namespace hearth::http {

// A host, lower case and without brackets or trailing dot, and a port as text.
struct Authority {
    std::string host;
    std::string port;  // empty: none given
    enum class Kind : std::uint8_t { name, ip } kind = Kind::name;
};

// Nothing for what cannot be a host with an optional port.
[[nodiscard]] std::optional<Authority> parse_authority(std::string_view text);

class AccessPolicy {
public:
    explicit AccessPolicy(Options const& options);

    // Loopback names and addresses, Options::host, allowed_hosts; any IP address
    // when the server listens on all of them, since no foreign name is involved.
    [[nodiscard]] bool allows_host(Authority const& host) const;

    // `origin` is the header's value, `host` what the request was sent to.
    [[nodiscard]] bool allows_origin(std::string_view origin, Authority const& host) const;

    // Of the names a preflight asks for, those a request may carry.
    [[nodiscard]] static std::string allowed_headers(std::string_view requested);

private:
    std::vector<std::string> hosts_;
    std::vector<std::string> origins_;
    bool any_host_ = false;
    bool any_origin_ = false;
    bool any_ip_ = false;
};

}  // namespace hearth::http
