// GET /v1/models; GET and DELETE /v1/models/{id}.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::openai {

net::Task<void> list_models(Services& services, http::Exchange& exchange);

// Ids may hold '/' and ':'; aliases work too.
net::Task<void> show_model(Services& services, http::Exchange& exchange);
net::Task<void> delete_model(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::openai
