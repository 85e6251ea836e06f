#include "api/system.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/errors.h"
#include "api/json_writer.h"
#include "library/library.h"
#include "serving/pool.h"
#include "telemetry/metrics.h"

namespace hearth::api {
namespace {

using serving::ModelState;
using Models = std::vector<serving::ModelStatus>;

bool any(Models const& models, std::initializer_list<ModelState> states) {
    return std::ranges::any_of(
        models, [&](auto const& model) { return std::ranges::find(states, model.state) != states.end(); });
}

// Why the server cannot take requests now.
std::optional<Problem> why_not_ready(Models const& models) {
    Problem problem;
    bool const served = any(models, {ModelState::ready, ModelState::cold, ModelState::unloading, ModelState::parked});
    bool const awaited = std::ranges::any_of(models, [](auto const& model) { return model.awaited; });
    if (awaited || (!served && any(models, {ModelState::starting, ModelState::loading}))) {
        problem.kind = Kind::model_loading;
        problem.message = "Loading model";  // llama-server's words
        problem.retry_after_s = 1;
        return problem;
    }
    if (models.empty() || served) return std::nullopt;
    problem.kind = Kind::model_unavailable;
    problem.message = "No model is available.";
    return problem;
}

void write_models(JsonWriter& json, Models const& models) {
    json.key("models").begin_array();
    for (auto const& model : models) {
        json.begin_object().key("id").string(model.id).key("state").string(to_string(model.state));
        if (model.state == ModelState::loading) json.key("progress").number(model.progress);
        if (model.info) json.key("cpu").string(model.info->cpu_variant).key("isolation").string(model.info->isolation);
        json.key("running").number(model.stats.running).key("waiting").number(model.waiting);
        json.key("restarts").number(model.restarts).end_object();
    }
    json.end_array();
}

// Those the library does not serve, of which the pool may not know: name and what is wrong.
using Damaged = std::vector<std::pair<std::string, std::string>>;
Damaged damaged_models(Services const& services) {
    Damaged out;
    if (services.library == nullptr) return out;
    for (auto& known : services.library->list())
        if (auto damage = known.damage(); !damage.empty()) out.emplace_back(std::move(known.name), std::move(damage));
    return out;
}

void write_damaged(JsonWriter& json, Damaged const& damaged) {
    json.key("damaged").begin_array();
    for (auto const& [name, damage] : damaged)
        json.begin_object().key("id").string(name).key("problem").string(damage).end_object();
    json.end_array();
}

// What the pool has, as far as it says whether the server can take requests: with a
// library a damaged model is one of many.
Models looked_at(Services const& services) {
    auto models = services.pool.models();
    if (services.library != nullptr)
        std::erase_if(models, [](auto const& model) { return model.state == ModelState::damaged; });
    return models;
}

std::string status_word(Models const& models, bool ready, bool damaged) {
    if (!ready) {
        bool const awaited = std::ranges::any_of(models, [](auto const& model) { return model.awaited; });
        return awaited || any(models, {ModelState::starting, ModelState::loading}) ? "loading" : "unavailable";
    }
    // Models that are not needed at the moment lack nothing.
    bool const broken = any(models, {ModelState::restarting, ModelState::failed, ModelState::stopped});
    return broken || damaged ? "degraded" : "ok";
}

}  // namespace

net::Task<void> health(Services& services, http::Exchange& exchange) {
    auto const models = services.pool.models();
    auto const problem = why_not_ready(looked_at(services));
    auto const damaged = damaged_models(services);
    http::Response response;
    if (problem) {
        response = error_response(*problem, exchange.request().id);
        response.body.pop_back();  // the object goes on
        response.body += ",\"status\":";
    } else {
        response.body = "{\"status\":";
    }
    append_quoted(response.body, status_word(models, !problem, !damaged.empty()));
    response.body += ',';
    JsonWriter json(response.body);
    write_models(json, models);
    if (services.library != nullptr) write_damaged(json, damaged);
    json.end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> live(Services&, http::Exchange& exchange) {
    http::Response response;
    response.body = "{\"status\":\"ok\"}";
    co_await exchange.send(std::move(response));
}

net::Task<void> ready(Services& services, http::Exchange& exchange) {
    auto problem = why_not_ready(looked_at(services));
    if (services.draining()) {
        problem.emplace();
        problem->kind = Kind::shutting_down;
        problem->message = "The server is shutting down.";
    }
    http::Response response;
    response.body = "{\"status\":\"ok\"}";
    if (problem) response = error_response(*problem, exchange.request().id);
    co_await exchange.send(std::move(response));
}

net::Task<void> version(Services& services, http::Exchange& exchange) {
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("name").string("hearth");
    json.key("version").string(services.options.version).key("build").string(services.options.build).end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> metrics(Services& services, http::Exchange& exchange) {
    http::Response response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.headers.emplace_back("Process-Start-Time-Unix", std::to_string(services.options.started_unix));
    response.body = services.metrics.render();
    co_await exchange.send(std::move(response));
}

net::Task<void> error_page(Services&, http::Exchange& exchange) {
    http::Response response;
    response.content_type = "text/html; charset=utf-8";
    response.body = catalogue_html();
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api
