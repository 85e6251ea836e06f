#include "api/openai/completions.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/library.h"
#include "api/openai/answers.h"
#include "api/openai/embeddings.h"
#include "api/openai/request.h"
#include "api/openai/rerank.h"
#include "api/tenant.h"
#include "api/values.h"
#include "telemetry/log.h"

namespace hearth::api::openai {
namespace {

Problem model_not_found(Services const& services, std::string const& model) {
    constexpr std::size_t kNamedMax = 8;
    std::string served;
    std::size_t named = 0;
    for (auto const& status : services.pool.models()) {
        if (named++ == kNamedMax) break;
        served += (served.empty() ? "" : ", ") + status.id;
    }
    auto message = served.empty()
                       ? std::string("No model is served here.")
                       : fmt::format("The model '{}' is not served here. Served: {}.", model.substr(0, 128), served);
    return make_problem(Kind::model_not_found, std::move(message), "model");
}

Problem unavailable(Services const& services, Error const& error) {
    auto problem = to_problem(error);
    if (services.draining()) {
        problem.kind = Kind::shutting_down;
        problem.message = "The server is shutting down and takes no new requests.";
    }
    return problem;
}

Verdict check_tokens(std::vector<domain::Token> const& tokens, std::int64_t limit, std::string_view field) {
    for (auto const token : tokens)
        if (token > limit)
            return invalid_value(
                field, fmt::format("'{}' names token {}, the model's last token is {}.", field, token, limit));
    return std::nullopt;
}

Verdict check_prompt(domain::Prompt const& prompt, std::int64_t limit) {
    if (auto const* tokens = std::get_if<domain::TokenPrompt>(&prompt))
        return check_tokens(tokens->tokens, limit, "prompt");
    auto const* embed = std::get_if<domain::EmbedPrompt>(&prompt);
    if (embed == nullptr) return std::nullopt;
    for (auto const& input : embed->inputs) {
        auto const* tokens = std::get_if<std::vector<domain::Token>>(&input);
        if (tokens == nullptr) continue;
        if (auto problem = check_tokens(*tokens, limit, "input")) return problem;
    }
    return std::nullopt;
}

// Token ids a client may name, once the vocabulary is known; while a model loads the engine checks them.
Verdict check_tokens(Call const& call, serving::ModelStatus const& model) {
    if (!model.info || model.info->vocabulary == 0) return std::nullopt;
    auto const limit = static_cast<std::int64_t>(model.info->vocabulary) - 1;
    for (auto const& bias : call.generations.front().sampling.logit_bias)
        if (bias.token > limit)
            return invalid_value("logit_bias", fmt::format("'logit_bias' names token {}, the model's last token is {}.",
                                                           bias.token, limit));
    for (auto const& generation : call.generations)
        if (auto problem = check_prompt(generation.prompt, limit)) return problem;
    auto const width = model.info->embedding;
    if (call.surface == Surface::embed && call.vectors.dimensions.value_or(0) > width)
        return to_problem(too_many_dimensions(*call.vectors.dimensions, width));
    return std::nullopt;
}

// What a client that reads a stream is told while the model it asked for is made: comments. From the
// first of them on the answer has begun.
class Comments final : public library::Onlooker {
public:
    // No `interval`: it reads no stream, or wants no comments.
    Comments(Services& services, http::Exchange& exchange, std::optional<Duration> interval)
        : services_(services), exchange_(exchange), interval_(interval), said_(services.clock.now()) {}

    net::Task<bool> see(jobs::Progress const& progress) override {
        if (exchange_.disconnected()) co_return false;
        auto const now = services_.clock.now();
        if (!interval_ || now - said_ < *interval_) co_return true;
        said_ = now;
        auto const percent = progress.total == 0 ? 0 : progress.done * 100 / progress.total;
        auto comment =
            fmt::format(": {}, {} %\n\n", progress.text.empty() ? "quantizing model" : progress.text, percent);
        if (!exchange_.started()) {
            http::StreamHead head;
            head.content_type = "text/event-stream";
            auto const opened = co_await exchange_.start_stream(std::move(head));
            if (!opened) co_return false;
        }
        auto const written = co_await exchange_.write(std::move(comment));
        co_return written.has_value();
    }

private:
    Services& services_;
    http::Exchange& exchange_;
    std::optional<Duration> const interval_;
    Instant said_;
};

Comments comments_for(Services& services, http::Exchange& exchange, Call const& call) {
    auto const interval = call.ping_interval.value_or(services.options.ping_interval);
    bool const wanted = call.stream && interval != Duration::max();
    return {services, exchange, wanted ? std::optional(interval) : std::nullopt};
}

// Once the answer has begun, its last event.
net::Task<void> refuse(Services& services, http::Exchange& exchange, Problem problem) {
    if (!exchange.started()) {
        co_await send_problem(services, exchange, std::move(problem));
        co_return;
    }
    auto const& id = exchange.request().id;
    log_problem(services.log, problem, id);
    auto event = fmt::format("data: {}\n\n", error_body(problem, id));
    auto const written = co_await exchange.write(std::move(event));
    if (written) co_await exchange.end_stream();
}

// Why the pool does not admit it.
Problem refused(Services const& services, std::string const& model, domain::Priority priority, Error const& error) {
    auto problem = error.code == Code::unavailable ? unavailable(services, error) : to_problem(error);
    bool const again = problem.kind == Kind::overloaded || problem.kind == Kind::model_unavailable;
    if (again) problem.retry_after_s = services.pool.retry_after_s(model);
    if (problem.kind == Kind::queue_timeout) problem.retry_after_s = services.pool.predicted_wait_s(model, priority);
    return problem;
}

// What is computed to be put together takes any number of requests, a few at a time.
bool is_batch(Call const& call) { return call.surface == Surface::embed || call.surface == Surface::rank; }

struct Admitted {
    std::shared_ptr<EventSource> source;
    std::vector<domain::RequestId> ids;
};

// Every generation is admitted, or none stays; of a batch the first is.
std::variant<Admitted, Problem> submit(Services& services, Call& call, std::string const& model) {
    auto const priority = call.generations.front().priority;
    for (auto& request : call.generations) request.model = model;
    if (is_batch(call)) {
        auto const count = call.generations.size();
        auto batch = make_batch(services, std::exchange(call.generations, {}));
        if (!batch) return refused(services, model, priority, batch.error());
        call.generations.resize(count);  // how many there are is still asked for
        return Admitted{std::move(batch->source), std::move(batch->admitted)};
    }
    std::vector<std::unique_ptr<serving::Generation>> generations;
    std::vector<domain::RequestId> ids;
    for (auto& request : call.generations) {
        auto generation = services.pool.submit(std::move(request));
        if (!generation) return refused(services, model, priority, generation.error());
        ids.push_back((*generation)->id());
        generations.push_back(*std::move(generation));
    }
    return Admitted{make_event_source(services.loop, std::move(generations)), std::move(ids)};
}

Identity identify(Services const& services, Surface surface, http::Request const& request, std::string const& model) {
    Identity identity;
    identity.id = (surface == Surface::chat    ? "chatcmpl-"
                   : surface == Surface::embed ? "embd-"
                   : surface == Surface::rank  ? "rerank-"
                                               : "cmpl-") +
                  services.random_suffix();
    identity.created = services.unix_seconds();
    identity.model = model;
    identity.fingerprint = fingerprint(services.options.build, model);
    identity.request_id = request.id;
    return identity;
}

// What the call's list shows of it; its generations follow once they are admitted.
CallInfo describe(Call const& call, http::Request const& request, std::string const& model) {
    auto const& generation = call.generations.front();
    CallInfo info;
    info.request_id = request.id;
    info.model = model;
    info.path = request.path;
    info.tenant = generation.tenant;
    info.priority = generation.priority;
    info.sampling = generation.sampling;
    info.choices = call.choices;
    info.max_tokens = generation.max_tokens;
    info.stream = call.stream;
    return info;
}

CallPlan make_plan(Services const& services, Call&& call, CallInfo info, std::optional<std::uint32_t> queue_ms,
                   Identity identity) {
    AnswerShape shape;
    shape.surface = call.surface;
    shape.generations = static_cast<std::uint32_t>(call.generations.size());
    shape.choices = call.choices;
    shape.logprobs = call.logprobs;
    shape.include_usage = call.include_usage;
    shape.tier_asked = call.tier_asked;
    shape.priority = info.priority;
    shape.echoes = std::move(call.echoes);

    CallPlan plan;
    plan.generations = shape.generations;
    plan.choices = shape.choices;
    if (is_batch(call)) plan.awaited = static_cast<std::uint32_t>(info.generations.size());
    plan.ping_interval = call.ping_interval.value_or(services.options.ping_interval);
    if (queue_ms) plan.queue_timeout = std::chrono::milliseconds(*queue_ms);
    info.answer_id = identity.id;
    plan.info = std::move(info);
    if (call.stream) {
        plan.stream = make_stream_answer(std::move(identity), std::move(shape));
    } else if (call.surface == Surface::rank) {
        plan.render = [id = std::move(identity.id), model = std::move(identity.model), shape = std::move(call.ranks)](
                          Answer const& answer) { return render_ranks(id, model, shape, answer); };
    } else if (call.surface == Surface::embed) {
        plan.render = [model = std::move(identity.model), shape = call.vectors](Answer const& answer) {
            return render_embeddings(model, shape, answer);
        };
    } else {
        plan.render = [identity = std::move(identity), shape = std::move(shape)](Answer const& answer) {
            return render_answer(identity, shape, answer);
        };
    }
    return plan;
}

Problem too_many_requests(Call const& call, std::uint32_t limit) {
    return invalid_value("prompt", fmt::format("'prompt' has {} prompts, the model takes {} requests at a time.",
                                               call.generations.size(), limit));
}

struct Prepared {
    std::shared_ptr<EventSource> source;
    CallPlan plan;
};

// Everything the body alone tells.
std::variant<Call, Problem> read(Services& services, Surface surface, http::Request const& request) {
    if (auto problem = check_content(request)) return *std::move(problem);
    auto tenant = tenant_of(services.options, request);
    if (auto* problem = std::get_if<Problem>(&tenant)) return std::move(*problem);
    CallDefaults defaults{services.options.deadlines, std::get<std::string>(std::move(tenant))};
    auto parsed = parse_request(surface, request.body, defaults);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto& call = std::get<Call>(parsed);
    if (!call.unknown_fields.empty())
        services.log.debug("unknown fields ignored", {{"request_id", request.id}, {"fields", call.unknown_fields}});
    return std::move(call);
}

// From a model of the pool to requests that are admitted, without a wait.
std::variant<Prepared, Problem> prepare(Services& services, Surface surface, http::Request const& request, Call call,
                                        std::string const& id) {
    auto const status = services.pool.status(id);
    if (!status) return model_not_found(services, id);
    if (status->definition && !status->definition->plain()) {
        // Read again, with what the model says of itself behind what the body does.
        CallDefaults const defaults{services.options.deadlines, call.generations.front().tenant,
                                    status->definition.get()};
        auto defined = parse_request(surface, request.body, defaults);
        if (auto* problem = std::get_if<Problem>(&defined)) return std::move(*problem);
        call = std::get<Call>(std::move(defined));
    }
    if (auto problem = check_tokens(call, *status)) return *std::move(problem);
    // As many as the model never takes would be turned away for ever.
    if (!is_batch(call) && call.generations.size() > status->requests_max)
        return too_many_requests(call, status->requests_max);
    auto const queue_ms = call.generations.front().deadlines.queue_ms;
    auto info = describe(call, request, status->id);
    auto admitted = submit(services, call, status->id);
    if (auto* problem = std::get_if<Problem>(&admitted)) return std::move(*problem);

    auto& inside = std::get<Admitted>(admitted);
    info.generations = std::move(inside.ids);
    Prepared prepared;
    prepared.source = std::move(inside.source);
    prepared.plan = make_plan(services, std::move(call), std::move(info), queue_ms,
                              identify(services, surface, request, status->id));
    return prepared;
}

}  // namespace

net::Task<void> complete(Services& services, Surface surface, http::Exchange& exchange) {
    auto const arrived = services.clock.now();
    auto parsed = read(services, surface, exchange.request());
    if (auto* problem = std::get_if<Problem>(&parsed)) {
        co_await refuse(services, exchange, std::move(*problem));
        co_return;
    }
    auto& call = std::get<Call>(parsed);
    auto const wanted = call.generations.front().model;
    auto comments = comments_for(services, exchange, call);
    auto const id = co_await open_model(services, wanted, &comments);
    if (!id) {
        bool const unknown = id.error().code == Code::not_found;
        auto problem = unknown ? model_not_found(services, wanted) : opening_problem(id.error());
        co_await refuse(services, exchange, std::move(problem));
        co_return;
    }
    auto prepared = prepare(services, surface, exchange.request(), std::move(call), *id);
    if (auto* problem = std::get_if<Problem>(&prepared)) {
        co_await refuse(services, exchange, std::move(*problem));
        co_return;
    }
    auto& ready = std::get<Prepared>(prepared);
    ready.plan.info.arrived = arrived;
    co_await run_call(services, exchange, std::move(ready.source), std::move(ready.plan));
}

}  // namespace hearth::api::openai
