#include "api/ollama/completions.h"

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/ollama/answers.h"
#include "api/ollama/errors.h"
#include "api/ollama/lookup.h"
#include "api/ollama/opening.h"
#include "api/ollama/request.h"

namespace hearth::api::ollama {
namespace {

AnswerShape shape_of(Services& services, Call const& call, Instant arrived, std::int64_t load_ns) {
    AnswerShape shape;
    shape.surface = call.surface;
    shape.model = call.model;
    shape.load_ns = load_ns;
    shape.unix_ns = services.unix_ns;
    shape.elapsed_ns = [&clock = services.clock, arrived] {
        return std::chrono::nanoseconds(clock.now() - arrived).count();
    };
    return shape;
}

CallInfo describe(Services const& services, Call const& call, http::Request const& request, Instant arrived) {
    CallInfo info;
    info.request_id = request.id;
    info.answer_id = "ollama-" + services.random_suffix();
    info.model = call.request.model;
    info.path = request.path;
    info.tenant = call.request.tenant;
    info.priority = call.request.priority;
    info.sampling = call.request.sampling;
    info.max_tokens = call.request.max_tokens;
    info.stream = call.stream;
    info.arrived = arrived;
    return info;
}

// What the model's own words and numbers change, and what only it can tell.
Verdict settle(serving::ModelStatus const& model, std::string_view body, Call& call) {
    if (model.definition && !model.definition->plain())
        if (auto problem = apply_definition(*model.definition, body, call)) return problem;
    return settle(call, *model.info);
}

struct Prepared {
    std::shared_ptr<EventSource> source;
    CallPlan plan;
};

// From the model that is loaded to the call that is admitted.
std::variant<Prepared, Problem> admit(Services& services, http::Request const& request, Call call, AnswerShape shape,
                                      Instant arrived) {
    auto info = describe(services, call, request, arrived);
    auto const queue_ms = call.request.deadlines.queue_ms;
    auto generation = services.pool.submit(std::move(call.request));
    if (!generation) return refused(services, info.model, generation.error());
    info.generations.push_back((*generation)->id());

    Prepared prepared;
    prepared.plan.ping_interval = Duration::max();
    if (queue_ms) prepared.plan.queue_timeout = std::chrono::milliseconds(*queue_ms);
    prepared.plan.info = std::move(info);
    prepared.plan.render_problem = error_response;
    prepared.plan.stream_type = kStreamType;
    if (call.stream) {
        prepared.plan.stream = make_stream_answer(std::move(shape));
    } else {
        prepared.plan.render = [shape = std::move(shape)](Answer const& answer) {
            return render_answer(shape, answer);
        };
    }
    std::vector<std::unique_ptr<serving::Generation>> generations;
    generations.push_back(*std::move(generation));
    prepared.source = make_event_source(services.loop, std::move(generations));
    return prepared;
}

// At once: the model goes when what it has was answered.
net::Task<void> unload(Services& services, http::Exchange& exchange, Call const& call, std::string model) {
    static_cast<void>(services.pool.unload(model));  // it was there when the call was read
    http::Response response;
    response.body = render_nothing(shape_of(services, call, services.clock.now(), 0), "unload");
    co_await exchange.send(std::move(response));
}

}  // namespace

net::Task<void> complete(Services& services, Surface surface, http::Exchange& exchange) {
    auto const arrived = services.clock.now();
    auto const parse = [surface](std::string_view body) { return parse_request(surface, body); };
    auto read = read_call<Call>(services, exchange.request(), parse);
    if (auto* problem = std::get_if<Problem>(&read)) {
        co_await send_problem(services, exchange, std::move(*problem), error_response);
        co_return;
    }
    auto& call = std::get<Call>(read);
    auto opened = co_await open_for(services, call);
    auto unresolved =
        std::holds_alternative<Problem>(opened) ? Verdict(std::get<Problem>(std::move(opened))) : std::nullopt;
    if (!unresolved && !call.lacks.empty()) unresolved = does_not_support(call.model, call.lacks);
    if (unresolved) {
        co_await send_problem(services, exchange, *std::move(unresolved), error_response);
        co_return;
    }
    auto const model = call.request.model;
    if (call.goal == Call::Goal::unload) {
        co_await unload(services, exchange, call, model);
        co_return;
    }
    auto const stage = call.goal == Call::Goal::load ? Stage::ready : Stage::loaded;
    // A request that is computed says it when it is admitted.
    auto const keep_alive = call.goal == Call::Goal::load ? call.request.keep_alive : std::nullopt;
    auto loaded = co_await wait_for_model(services, exchange, model, stage, keep_alive);
    auto* const status = std::get_if<serving::ModelStatus>(&loaded);
    auto problem = status == nullptr ? Verdict(std::get<Problem>(std::move(loaded)))
                                     : settle(*status, exchange.request().body, call);
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem), error_response);
        co_return;
    }
    auto const load_ns = std::chrono::nanoseconds(services.clock.now() - arrived).count();
    auto shape = shape_of(services, call, arrived, load_ns);
    if (call.goal == Call::Goal::load) {
        http::Response response;
        response.body = render_nothing(shape, "load");
        co_await exchange.send(std::move(response));
        co_return;
    }
    auto admitted = admit(services, exchange.request(), std::move(call), std::move(shape), arrived);
    if (auto* refusal = std::get_if<Problem>(&admitted)) {
        co_await send_problem(services, exchange, std::move(*refusal), error_response);
        co_return;
    }
    auto& ready = std::get<Prepared>(admitted);
    co_await run_call(services, exchange, std::move(ready.source), std::move(ready.plan));
}

}  // namespace hearth::api::ollama
