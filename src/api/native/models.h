// /api/v1/models: every model the server can serve, and getting, trusting and
// removing one.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::native {

// GET /api/v1/models
net::Task<void> list_models(Services& services, http::Exchange& exchange);

// GET /api/v1/models/{name}, which may hold '/' and ':'
net::Task<void> show_model(Services& services, http::Exchange& exchange);

// DELETE /api/v1/models/{name}
net::Task<void> delete_model(Services& services, http::Exchange& exchange);

// POST /api/v1/models/pull {"model", "source"?, "insecure"?}: 202, Location and the job
net::Task<void> pull_model(Services& services, http::Exchange& exchange);

// POST /api/v1/models/trust {"model"}: its chat template is accepted as it is now
net::Task<void> trust_model(Services& services, http::Exchange& exchange);

// POST /api/v1/models/{name}/verify: 202, Location and the job that reads the model whole
net::Task<void> verify_model(Services& services, http::Exchange& exchange);

// POST /api/v1/models/copy {"source", "destination"}
net::Task<void> copy_model(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::native
