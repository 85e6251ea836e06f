// GET /api/v1/models/estimate?model=NAME&context=N&kv_cells=N: what a model takes in memory,
// before it is loaded or anybody asked for it, and what it does take once it is. Private to the API.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::native {

// REQUIRES: `services` outlives the coroutine
net::Task<void> show_estimate(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::native
