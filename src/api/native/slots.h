// GET /slots, in llama-server's shape: one entry per sequence that can run, in all workers of the
// model, then those whose cells are in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "api/calls.h"
#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"
#include "serving/pool.h"

namespace hearth::api::native {

// ?model= names one of several models, ?fail_on_no_slot=1 asks for a 503 when
// none is idle, whichever worker's. Prompts and answers are not shown.
net::Task<void> show_slots(Services& services, http::Exchange& exchange);

// `count` sequences can run in each worker, of `context` tokens. A place's id is that within its worker,
// behind those of the workers before it; a worker that tells nothing shows none, and its ids stay free.
[[nodiscard]] std::string slots_body(CallList const& calls, std::span<serving::EngineView const> views,
                                     std::size_t count, std::uint32_t context);

}  // namespace hearth::api::native
