// Ollama's dialect: every route of it.
//
// docs/api/ollama.md tells what each does. Routes whose work does not exist
// here yet answer 501 in Ollama's shape, which says more than a 404.
#pragma once

#include <vector>

#include "api/routes.h"
#include "http/server.h"

namespace hearth::api::ollama {

// REQUIRES: `services` outlives the routes
[[nodiscard]] std::vector<http::Route> routes(Services& services);

}  // namespace hearth::api::ollama
