// /api/v1/requests: the calls of the caller's tenant that are inside.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::native {

net::Task<void> list_calls(Services& services, http::Exchange& exchange);

// 204 when every call of that id, the x-request-id or the id of the answer, was
// told to end; 404 when there is none. The engine stops within a step.
net::Task<void> cancel_call(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::native
