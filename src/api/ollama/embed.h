// POST /api/embed and POST /api/embeddings. Private to the dialect.
#pragma once

#include "api/ollama/draft.h"
#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::ollama {

// REQUIRES: surface is embed or embeddings; `services` outlives the coroutine
net::Task<void> compute_vectors(Services& services, Surface surface, http::Exchange& exchange);

}  // namespace hearth::api::ollama
