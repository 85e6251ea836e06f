// GET /slots, in llama-server's shape: one entry per sequence that can run, then
// those whose cells are in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "api/calls.h"
#include "api/routes.h"
#include "domain/engine_report.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::native {

// ?model= names one of several models, ?fail_on_no_slot=1 asks for a 503 when
// none is idle. Prompts and answers are not shown.
net::Task<void> show_slots(Services& services, http::Exchange& exchange);

// `count` sequences can run, of `context` tokens each.
[[nodiscard]] std::string slots_body(CallList const& calls, domain::EngineReport const& report, std::size_t count,
                                     std::uint32_t context);

}  // namespace hearth::api::native
