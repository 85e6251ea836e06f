// POST /v1/chat/completions, POST /v1/completions, POST /v1/embeddings and POST /v1/rerank.
#pragma once

#include "api/openai/draft.h"
#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::openai {

// REQUIRES: surface is chat, text or embed; `services` outlives the coroutine
net::Task<void> complete(Services& services, Surface surface, http::Exchange& exchange);

}  // namespace hearth::api::openai
