// POST /api/chat and POST /api/generate. Private to the dialect.
#pragma once

#include "api/ollama/draft.h"
#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::ollama {

// REQUIRES: surface is chat or generate; `services` outlives the coroutine
net::Task<void> complete(Services& services, Surface surface, http::Exchange& exchange);

}  // namespace hearth::api::ollama
