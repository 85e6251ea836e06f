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
#include "api/ollama/status_lines.h"

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
    prepared.plan.ping_interval = services.options.status_interval;
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

// Once something was told the client, a line of the stream.
net::Task<void> refuse(Services& services, http::Exchange& exchange, Problem problem) {
    if (!exchange.started()) {
        co_await send_problem(services, exchange, std::move(problem), error_response);
        co_return;
    }
    log_problem(services.log, problem, exchange.request().id);
    auto line = error_body(problem) + '\n';
    auto const written = co_await exchange.write(std::move(line));
    if (written) co_await exchange.end_stream();
}

net::Task<void> answer_nothing(http::Exchange& exchange, std::string body) {
    if (exchange.started()) {
        auto const written = co_await exchange.write(body + '\n');
        if (written) co_await exchange.end_stream();
        co_return;
    }
    http::Response response;
    response.body = std::move(body);
    co_await exchange.send(std::move(response));
}

// The call's model, once it is loaded or, to have nothing else done, ready.
net::Task<std::variant<serving::ModelStatus, Problem>> loaded_for(Services& services, http::Exchange& exchange,
                                                                  Call& call, StatusLines& lines, Instant arrived) {
    auto opened = co_await open_for(services, call, &lines);
    if (std::holds_alternative<Problem>(opened)) co_return opened;
    if (!call.lacks.empty()) co_return does_not_support(call.model, call.lacks);
    Wait wait{.arrived = arrived, .stage = Stage::loaded, .lines = &lines};
    if (call.goal == Call::Goal::load) {
        // A request that is computed says it when it is admitted.
        wait.stage = Stage::ready;
        wait.keep_alive = call.request.keep_alive;
    }
    auto loaded = co_await wait_for_model(services, exchange, call.request.model, wait);
    co_return loaded;
}

// `said` at once: the model goes when what it has was answered.
net::Task<void> unload(Services& services, http::Exchange& exchange, Call const& call, std::string said) {
    auto refusal = call.lacks.empty() ? std::nullopt : Verdict(does_not_support(call.model, call.lacks));
    auto problem = co_await let_go(services, call.model, std::move(refusal));
    if (problem) co_await refuse(services, exchange, *std::move(problem));
    else co_await answer_nothing(exchange, std::move(said));
}

}  // namespace

net::Task<void> complete(Services& services, Surface surface, http::Exchange& exchange) {
    auto const arrived = services.clock.now();
    auto const parse = [surface](std::string_view body) { return parse_request(surface, body); };
    auto read = read_call<Call>(services, exchange.request(), parse);
    if (auto* problem = std::get_if<Problem>(&read)) {
        co_await refuse(services, exchange, std::move(*problem));
        co_return;
    }
    auto& call = std::get<Call>(read);
    if (call.goal == Call::Goal::unload) {
        auto said = render_nothing(shape_of(services, call, arrived, 0), "unload");
        co_await unload(services, exchange, call, std::move(said));
        co_return;
    }
    StatusLines lines(services, exchange, shape_of(services, call, arrived, 0),
                      call.stream ? StatusLines::Reader::stream : StatusLines::Reader::whole);
    auto loaded = co_await loaded_for(services, exchange, call, lines, arrived);
    auto* const status = std::get_if<serving::ModelStatus>(&loaded);
    auto problem = status == nullptr ? Verdict(std::get<Problem>(std::move(loaded))) : std::nullopt;
    if (!problem) problem = settle(*status, exchange.request().body, call);
    if (problem) {
        co_await refuse(services, exchange, *std::move(problem));
        co_return;
    }
    auto const load_ns = std::chrono::nanoseconds(services.clock.now() - arrived).count();
    auto shape = shape_of(services, call, arrived, load_ns);
    if (call.goal == Call::Goal::load) {
        co_await answer_nothing(exchange, render_nothing(shape, "load"));
        co_return;
    }
    auto admitted = admit(services, exchange.request(), std::move(call), std::move(shape), arrived);
    if (auto* refusal = std::get_if<Problem>(&admitted)) {
        co_await refuse(services, exchange, std::move(*refusal));
        co_return;
    }
    auto& ready = std::get<Prepared>(admitted);
    co_await run_call(services, exchange, std::move(ready.source), std::move(ready.plan));
}

}  // namespace hearth::api::ollama
