// Whose request it is.
//
// There are no keys: a proxy in front that authenticates callers names the
// tenant in a header, and strips that header from what clients send.
#pragma once

#include <string>
#include <variant>

#include "api/errors.h"
#include "api/routes.h"
#include "http/server.h"

namespace hearth::api {

// The value of Options::tenant_header; the shared tenant, "", if no such header
// is configured or sent. A Problem when it is sent twice or is too long.
[[nodiscard]] std::variant<std::string, Problem> tenant_of(Options const& options, http::Request const& request);

}  // namespace hearth::api
