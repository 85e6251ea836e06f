// GET /api/tags, GET /api/ps and POST /api/show. Private to the dialect.
#pragma once

#include <cstdint>
#include <string>

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::ollama {

net::Task<void> list_models(Services& services, http::Exchange& exchange);
net::Task<void> list_loaded(Services& services, http::Exchange& exchange);
net::Task<void> show_model(Services& services, http::Exchange& exchange);

// "134.52M", "8.0B", "8B": Ollama's way to say how many parameters there are.
[[nodiscard]] std::string parameter_size(std::uint64_t parameters);

}  // namespace hearth::api::ollama
