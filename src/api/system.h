// Health, version, metrics and the error pages: what operators and probes ask.
#pragma once

#include "api/routes.h"
#include "http/server.h"
#include "net/task.h"

namespace hearth::api {

// 200 while at least one model can answer and none is on its way ("ok", or
// "degraded" when another one failed); 503 with the reason otherwise.
net::Task<void> health(Services& services, http::Exchange& exchange);

// The process answers.
net::Task<void> live(Services& services, http::Exchange& exchange);

// As health, and 503 once the server drains: take it out of the balancer.
net::Task<void> ready(Services& services, http::Exchange& exchange);

net::Task<void> version(Services& services, http::Exchange& exchange);
net::Task<void> metrics(Services& services, http::Exchange& exchange);
net::Task<void> error_page(Services& services, http::Exchange& exchange);

}  // namespace hearth::api
