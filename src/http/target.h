// Target: a request target taken apart, strictly, once.
//
// Private to http. There is no second URL parser in the server: what is routed,
// logged and handed to a handler is the same decoding.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::http {

inline constexpr std::size_t kTargetBytesMax = 8U << 10;

struct Target {
    std::vector<std::string> segments;     // decoded; empty ones (//, trailing /) left out
    std::string path;                      // '/' and the segments joined by '/'
    std::string query;                     // raw, without '?'
    std::optional<std::string> authority;  // of the absolute form: stands in for Host
    bool asterisk = false;                 // "*", for OPTIONS
};

// Fails with `invalid_argument`: a bad %-escape, one that hides NUL or another
// control character, what is no UTF-8, a dot segment, a fragment, a form other
// than origin, absolute (http, https) or asterisk. An encoded '/' belongs to
// its segment: model ids contain it.
[[nodiscard]] Result<Target> parse_target(std::string_view text);

}  // namespace hearth::http
