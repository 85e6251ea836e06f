// GET /api/v1/engine: what the engines are doing, for operators.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api::native {

// How long an engine gets to end its step; then its last report is shown, with its age.
inline constexpr Duration kReportPatience = std::chrono::seconds(1);

// All models, or the one that ?model= names.
net::Task<void> show_engine(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::native
