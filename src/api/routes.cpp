#include "api/routes.h"

#include <utility>

#include "api/calls.h"
#include "api/native/calls.h"
#include "api/native/engine.h"
#include "api/native/estimate.h"
#include "api/native/jobs.h"
#include "api/native/models.h"
#include "api/native/residency.h"
#include "api/native/slots.h"
#include "api/ollama/routes.h"
#include "api/openai/completions.h"
#include "api/openai/models.h"
#include "api/system.h"
#include "base/assert.h"

namespace hearth::api {
namespace {

using http::Method;
using http::Permission;

using Serve = net::Task<void> (*)(Services&, http::Exchange&);

http::Handler bind(Services& services, Serve serve) {
    return [&services, serve](http::Exchange& exchange) { return serve(services, exchange); };
}

net::Task<void> chat(Services& services, http::Exchange& exchange) {
    return openai::complete(services, openai::Surface::chat, exchange);
}

net::Task<void> text(Services& services, http::Exchange& exchange) {
    return openai::complete(services, openai::Surface::text, exchange);
}

net::Task<void> embed(Services& services, http::Exchange& exchange) {
    return openai::complete(services, openai::Surface::embed, exchange);
}

net::Task<void> rank(Services& services, http::Exchange& exchange) {
    return openai::complete(services, openai::Surface::rank, exchange);
}

}  // namespace

std::vector<http::Route> routes(Services& services) {
    HEARTH_ASSERT(services.unix_seconds && services.random_suffix && services.draining, "Services is complete");
    if (!services.calls) services.calls = std::make_shared<CallList>();
    if (!services.unix_ns) services.unix_ns = [&services] { return services.unix_seconds() * 1'000'000'000; };
    http::RouteLimits const none{0};
    http::RouteLimits const body{services.options.body_max};
    http::RouteLimits const small{64U << 10};  // a few fields
    auto const to = [&](Serve serve) { return bind(services, serve); };
    // /completions and /embeddings without /v1 are llama-server's native endpoints, other shapes: no aliases.
    // clang-format off
    std::vector<http::Route> table{
        {Method::post, "/v1/chat/completions", Permission::infer,   body, to(chat)},
        {Method::post, "/chat/completions",    Permission::infer,   body, to(chat)},
        {Method::post, "/v1/completions",      Permission::infer,   body, to(text)},
        {Method::post, "/v1/embeddings",       Permission::infer,   body, to(embed)},
        {Method::post, "/v1/rerank",           Permission::infer,   body, to(rank)},
        {Method::post, "/v2/rerank",           Permission::infer,   body, to(rank)},
        {Method::post, "/rerank",              Permission::infer,   body, to(rank)},
        {Method::post, "/v1/reranking",        Permission::infer,   body, to(rank)},
        {Method::post, "/reranking",           Permission::infer,   body, to(rank)},
        {Method::get,  "/v1/models",           Permission::infer,   none, to(openai::list_models)},
        {Method::get,  "/models",              Permission::infer,   none, to(openai::list_models)},
        {Method::get,  "/v1/models/{id...}",   Permission::infer,   none, to(openai::show_model)},
        {Method::get,  "/models/{id...}",      Permission::infer,   none, to(openai::show_model)},
        {Method::del,  "/v1/models/{id...}",   Permission::administer, none, to(openai::delete_model)},
        {Method::del,  "/models/{id...}",      Permission::administer, none, to(openai::delete_model)},
        {Method::get,  "/slots",               Permission::observe, none, to(native::show_slots)},
        {Method::get,  "/api/v1/engine",       Permission::observe, none, to(native::show_engine)},
        {Method::get,  "/api/v1/requests",     Permission::infer,   none, to(native::list_calls)},
        {Method::del,  "/api/v1/requests/{id}", Permission::infer,  none, to(native::cancel_call)},
        {Method::get,  "/api/v1/residency",    Permission::observe, none, to(native::show_residency)},
        {Method::post, "/api/v1/models/{name}/load", Permission::administer, small, to(native::load_model)},
        {Method::post, "/api/v1/models/{name}/swap", Permission::administer, small, to(native::swap_model)},
        {Method::get,  "/api/v1/models/estimate", Permission::infer,  none, to(native::show_estimate)},
        {Method::post, "/api/v1/models/{name}/unload", Permission::administer, none, to(native::unload_model)},
        {Method::post, "/api/v1/models/{name}/verify", Permission::administer, none, to(native::verify_model)},
        {Method::get,  "/api/v1/models",       Permission::infer,   none, to(native::list_models)},
        {Method::post, "/api/v1/models/pull",  Permission::administer, body, to(native::pull_model)},
        {Method::post, "/api/v1/models/trust", Permission::administer, body, to(native::trust_model)},
        {Method::post, "/api/v1/models/copy",  Permission::administer, body, to(native::copy_model)},
        {Method::get,  "/api/v1/models/{name...}", Permission::infer, none, to(native::show_model)},
        {Method::del,  "/api/v1/models/{name...}", Permission::administer, none, to(native::delete_model)},
        {Method::get,  "/api/v1/jobs",         Permission::observe, none, to(native::list_jobs)},
        {Method::get,  "/api/v1/jobs/{id}",    Permission::observe, none, to(native::show_job)},
        {Method::get,  "/api/v1/jobs/{id}/events", Permission::observe, none, to(native::stream_job)},
        {Method::post, "/api/v1/jobs/{id}/pause",  Permission::administer, body, to(native::pause_job)},
        {Method::post, "/api/v1/jobs/{id}/resume", Permission::administer, body, to(native::resume_job)},
        {Method::post, "/api/v1/jobs/{id}/cancel", Permission::administer, body, to(native::cancel_job)},
        {Method::post, "/api/v1/jobs/{id}/retry",  Permission::administer, body, to(native::retry_job)},
        {Method::get,  "/health",              Permission::anyone,  none, to(health)},
        {Method::get,  "/healthz",             Permission::anyone,  none, to(health)},
        {Method::get,  "/livez",               Permission::anyone,  none, to(live)},
        {Method::get,  "/readyz",              Permission::anyone,  none, to(ready)},
        {Method::get,  "/version",             Permission::anyone,  none, to(version)},
        {Method::get,  "/metrics",             Permission::observe, none, to(metrics)},
        {Method::get,  "/docs/errors",         Permission::anyone,  none, to(error_page)},
    };
    // clang-format on
    for (auto& route : ollama::routes(services)) table.push_back(std::move(route));
    return table;
}

}  // namespace hearth::api
