// GET /slots, in llama-server's shape: one entry per sequence that can run.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::native {

// ?model= names one of several models, ?fail_on_no_slot=1 asks for a 503 when
// none is idle. Prompts and answers are not shown.
net::Task<void> show_slots(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::native
