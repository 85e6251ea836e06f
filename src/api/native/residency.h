// Which models are in memory: GET /api/v1/residency, and POST
// /api/v1/models/{name}/load and /unload. Private to the API.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::native {

// REQUIRES, for all of them: `services` outlives the coroutine

net::Task<void> show_residency(Services& services, http::Exchange& exchange);

// Answers when the model is ready, could not be loaded, or the time of a request is over.
net::Task<void> load_model(Services& services, http::Exchange& exchange);

// Answers when the worker that served the model is gone.
net::Task<void> unload_model(Services& services, http::Exchange& exchange);

// POST /api/v1/models/{name}/swap {"path": FILE} or {"model": NAME}: answers when the name is moved.
// What may be moved where is the library's to say: see library::Library::prepare_swap().
net::Task<void> swap_model(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::native
