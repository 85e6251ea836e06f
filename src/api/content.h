// Which request bodies are looked at at all.
#pragma once

#include <optional>

#include "api/errors.h"
#include "http/server.h"

namespace hearth::api {

// Clients outside browsers may send any Content-Type, as many do; the body must
// be JSON all the same. A request with an Origin header came from a web page: it
// must name a JSON type, because a browser lets pages send text/plain and form
// types to any server unasked. A Content-Encoding is refused.
[[nodiscard]] std::optional<Problem> check_content(http::Request const& request);

}  // namespace hearth::api
