#include "api/native/residency.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/json_document.h"
#include "api/json_writer.h"
#include "api/keep_alive.h"
#include "api/library.h"
#include "telemetry/log.h"

namespace hearth::api::native {
namespace {

using serving::ModelState;
using serving::ModelStatus;

// How often it is looked whether a model has come or gone: at first, and in the end.
constexpr Duration kPollMin = std::chrono::milliseconds(2);
constexpr Duration kPollMax = std::chrono::milliseconds(50);

Problem not_served(std::string_view name) {
    return make_problem(Kind::model_not_found, fmt::format("The model '{}' is not served here.", name.substr(0, 128)),
                        "model");
}

void write_seconds(JsonWriter& json, std::string_view key, std::optional<Duration> value) {
    json.key(key);
    if (value) json.number(std::chrono::duration<double>(*value).count());
    else json.null();
}

void write_instances(JsonWriter& json, std::vector<serving::InstanceStatus> const& instances) {
    json.key("instances").begin_array();
    for (auto const& each : instances) {
        json.begin_object().key("state").string(to_string(each.state)).key("pid").number(each.pid);
        json.key("requests").number(each.inside).key("waiting").number(each.waiting);
        json.key("restarts").number(each.restarts).key("memory_bytes").number(each.memory_bytes);
        json.key("resident_bytes").number(each.resident_bytes).end_object();
    }
    json.end_array();
}

void write_model(JsonWriter& json, ModelStatus const& model, std::string const& name) {
    json.begin_object().key("id").string(model.id).key("name").string(name);
    json.key("state").string(to_string(model.state));
    json.key("memory_bytes").number(model.memory_bytes).key("estimated_bytes").number(model.estimated_bytes);
    json.key("resident_bytes").number(model.resident_bytes).key("pinned").boolean(model.pinned);
    json.key("requests").number(model.inside).key("context").number(model.info ? model.info->context_request : 0U);
    write_seconds(json, "keep_alive_s", model.keep_alive);
    write_seconds(json, "idle_left_s", model.idle_left);
    if (!model.instances.empty()) write_instances(json, model.instances);
    json.end_object();
}

http::Response answer_of(Services const& services, ModelStatus const& model) {
    http::Response response;
    JsonWriter json(response.body);
    write_model(json, model, name_asked(services, model));
    return response;
}

// The body's keep_alive; the body may be empty.
Verdict read_body(http::Request const& request, std::optional<Duration>& keep_alive) {
    if (request.body.find_first_not_of(" \t\r\n") == std::string_view::npos) return std::nullopt;
    if (auto problem = check_content(request)) return problem;
    auto const document = JsonDocument::parse(request.body);
    if (!document) return make_problem(Kind::invalid_json, document.error().message);
    Verdict verdict;
    if (document->root().kind() != JsonKind::object)
        return make_problem(Kind::invalid_json, "The body must be an object.");
    document->root().for_each_member([&](std::string const& name, JsonView value) {
        if (verdict) return;
        if (name == "keep_alive") verdict = read_keep_alive(name, value, keep_alive);
        else
            verdict = make_problem(Kind::unsupported_parameter,
                                   fmt::format("'{}' is not known here.", name.substr(0, 64)), name);
    });
    return verdict;
}

// What is to take the name over: one of the two members, and no other.
Verdict read_source(http::Request const& request, library::SwapWish& wish) {
    if (auto problem = check_content(request)) return problem;
    auto const document = JsonDocument::parse(request.body);
    if (!document) return make_problem(Kind::invalid_json, document.error().message);
    auto const root = document->root();
    auto const path = root.kind() == JsonKind::object ? root.find("path") : std::nullopt;
    auto const model = root.kind() == JsonKind::object ? root.find("model") : std::nullopt;
    if (path.has_value() == model.has_value())
        return make_problem(Kind::missing_required_parameter,
                            "Give either 'path', a file, or 'model', a NAME in a models folder.", "path");
    auto& source = path ? wish.path : wish.model;
    if (auto problem = read_string(path ? "path" : "model", path ? *path : *model, source)) return problem;
    if (source.empty()) return invalid_value(path ? "path" : "model", "It is empty.");
    return std::nullopt;
}

// Where waiting for a model has an end: the state it is in, or why nobody waits any longer.
template <typename Reached>
net::Task<std::variant<ModelStatus, Problem>> wait_until(Services& services, http::Exchange& exchange, std::string name,
                                                         Instant arrived, Reached reached) {
    auto const deadline = arrived + services.options.request_timeout;
    for (Duration poll = kPollMin;; poll = std::min(2 * poll, kPollMax)) {
        auto const status = services.pool.status(name);
        if (!status) co_return not_served(name);
        if (reached(*status)) co_return *status;
        if (status->state == ModelState::failed || status->state == ModelState::stopped) {
            auto problem =
                make_problem(Kind::model_unavailable, fmt::format("The model '{}' could not be loaded.", name));
            problem.internal = status->problem;
            co_return problem;
        }
        if (status->state == ModelState::damaged) co_return make_problem(Kind::model_damaged, status->problem);
        if (exchange.disconnected()) co_return make_problem(Kind::request_cancelled, "The client left.");
        if (services.clock.now() >= deadline) {
            co_return make_problem(Kind::request_timeout,
                                   fmt::format("The model '{}' is {} after {:.3g} s.", name, to_string(status->state),
                                               to_ms(services.options.request_timeout) / 1000));
        }
        co_await services.loop.sleep(poll);
    }
}

// The processes that serve it, those of all its workers that have one.
std::vector<std::int64_t> pids_of(ModelStatus const& model) {
    std::vector<std::int64_t> pids{model.pid};
    if (!model.instances.empty()) {
        pids.resize(model.instances.size());
        std::ranges::transform(model.instances, pids.begin(), &serving::InstanceStatus::pid);
    }
    std::erase(pids, 0);
    return pids;
}

net::Task<void> send_outcome(Services& services, http::Exchange& exchange, std::variant<ModelStatus, Problem> outcome) {
    if (auto* problem = std::get_if<Problem>(&outcome)) {
        co_await send_problem(services, exchange, std::move(*problem));
        co_return;
    }
    auto response = answer_of(services, std::get<ModelStatus>(outcome));
    co_await exchange.send(std::move(response));
}

}  // namespace

net::Task<void> show_residency(Services& services, http::Exchange& exchange) {
    auto const memory = services.pool.memory();
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("memory").begin_object();
    json.key("budget_bytes").number(memory.budget_bytes).key("used_bytes").number(memory.used_bytes);
    json.key("pressure").string(to_string(memory.pressure));
    json.end_object().key("models").begin_array();
    for (auto const& model : services.pool.models())
        if (model.base.empty()) write_model(json, model, name_asked(services, model));  // else its base's worker has it
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> load_model(Services& services, http::Exchange& exchange) {
    auto const arrived = services.clock.now();
    std::string name(exchange.request().parameter("name"));
    std::optional<Duration> keep_alive;
    auto problem = read_body(exchange.request(), keep_alive);
    if (!problem) {
        Presence presence(exchange);
        auto opened = co_await open_model(services, name, &presence);
        if (opened) name = *std::move(opened);
        else problem = opening_problem(opened.error());
    }
    if (!problem) {
        auto const warmed = services.pool.warm(name, keep_alive);
        if (!warmed) problem = to_problem(warmed.error());
    }
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    auto const there = [](ModelStatus const& model) { return model.state == ModelState::ready; };
    auto outcome = co_await wait_until(services, exchange, std::move(name), arrived, there);
    co_await send_outcome(services, exchange, std::move(outcome));
}

net::Task<void> unload_model(Services& services, http::Exchange& exchange) {
    auto const arrived = services.clock.now();
    std::string name(exchange.request().parameter("name"));
    // By any of its names.
    if (services.library != nullptr)
        if (auto const known = services.library->find(name); known && known->status) name = known->status->id;
    auto const before = services.pool.status(name);
    if (!before || !services.pool.unload(name)) {
        auto problem = not_served(name);
        co_await send_problem(services, exchange, std::move(problem));
        co_return;
    }
    // Who waits for it may have had it loaded again already.
    auto const gone = [old = pids_of(*before)](ModelStatus const& model) {
        if (model.state == ModelState::cold || model.state == ModelState::failed) return true;
        if (old.empty()) return false;  // what starts now may be what was to start then
        auto const now = pids_of(model);
        return std::ranges::none_of(old, [&](std::int64_t pid) { return std::ranges::find(now, pid) != now.end(); });
    };
    auto outcome = co_await wait_until(services, exchange, std::move(name), arrived, gone);
    co_await send_outcome(services, exchange, std::move(outcome));
}

net::Task<void> swap_model(Services& services, http::Exchange& exchange) {
    auto const arrived = services.clock.now();
    library::SwapWish wish;
    wish.name = exchange.request().parameter("name");
    auto problem = read_source(exchange.request(), wish);
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    auto const left = [&, deadline = arrived + services.options.request_timeout] {
        return std::max(Duration::zero(), deadline - services.clock.now());
    };
    wish.patience = left();
    auto const call = [&](library::Library& library) { return library.prepare_swap(wish); };
    auto prepared = co_await ask_library(services, call);
    if (!prepared) {
        auto refused = library_problem(prepared.error());
        co_await send_problem(services, exchange, std::move(refused));
        co_return;
    }
    auto const& id = prepared->id;
    auto const to_load = left();
    if (to_load == Duration::zero()) {
        auto late = make_problem(Kind::request_timeout,
                                 fmt::format("What is to take the name '{}' over is ready after {:.3g} s, too late to "
                                             "load it: ask again.",
                                             id, to_ms(services.options.request_timeout) / 1000));
        co_await send_problem(services, exchange, std::move(late));
        co_return;
    }
    auto const swapped = co_await services.pool.swap(id, prepared->spec, to_load);
    auto const now = services.pool.status(id);
    if (!swapped || !now) {
        auto refused = swapped ? not_served(id) : to_problem(swapped.error());
        co_await send_problem(services, exchange, std::move(refused));
        co_return;
    }
    auto const kept = co_await services.library->remember_swap(*std::move(prepared));
    if (!kept) services.log.warning("a swap is not remembered", {{"model", now->id}, {"why", kept.error().message}});
    auto response = answer_of(services, *now);
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::native
