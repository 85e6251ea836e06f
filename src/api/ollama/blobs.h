// HEAD and POST /api/blobs/{digest}: files that clients upload before they create a
// model of them. Private to the dialect.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::ollama {

net::Task<void> find_blob(Services& services, http::Exchange& exchange);

// REQUIRES: the route takes its body as a stream
net::Task<void> upload_blob(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::ollama
