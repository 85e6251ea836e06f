// Url: an http or https address, parsed once and strictly.
//
// It is the module's only URL parser: what is checked (scheme, host, origin)
// and what is connected to are the same reading of the same bytes. Anything two
// parsers could read differently is refused: user names, backslashes, control
// and non-ASCII bytes, numbers as hosts in other forms than a.b.c.d.
//
// Threads: pure functions. Limit: kUrlBytesMax.
// Source: RFC 3986.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::fetch {

inline constexpr std::size_t kUrlBytesMax = 8192;  // signed addresses of content networks take thousands

struct Url {
    bool tls = false;
    std::string host;    // lower case; an IPv6 address without brackets
    std::uint16_t port = 0;
    std::string target;  // path and query, begins with '/'; no fragment

    // What is kept to: scheme, host and port, as in "https://host:443".
    [[nodiscard]] std::string origin() const;
    // For the Host header: without the scheme's usual port.
    [[nodiscard]] std::string authority() const;
    // The whole address. Without its query it is fit for logs: signatures stand there.
    [[nodiscard]] std::string text() const;
    [[nodiscard]] std::string text_without_query() const;
    // The last component of the path, percent-decoded; empty if there is none.
    [[nodiscard]] std::string file_name() const;

    bool operator==(Url const&) const = default;
};

// `invalid_argument` says what is wrong.
[[nodiscard]] Result<Url> parse_url(std::string_view text);

// What a Location header of an answer from `base` means: absolute, //host/path,
// /path or a relative path.
[[nodiscard]] Result<Url> resolve_url(Url const& base, std::string_view reference);

// Encodes what is not unreserved, but for '/'.
[[nodiscard]] std::string encode_path(std::string_view path);
// Encodes '/' too: for one component or the value of a query.
[[nodiscard]] std::string encode_component(std::string_view text);

// 127.0.0.0/8, ::1 or localhost, by the name alone.
[[nodiscard]] bool names_loopback(Url const& url);

}  // namespace hearth::fetch
