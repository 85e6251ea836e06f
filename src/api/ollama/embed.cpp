#include "api/ollama/embed.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "api/answer.h"
#include "api/embedding.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/ollama/errors.h"
#include "api/ollama/lookup.h"
#include "api/ollama/opening.h"
#include "api/ollama/request.h"
#include "telemetry/log.h"

namespace hearth::api::ollama {
namespace {

// What the answer says beside its vectors.
struct AnswerShape {
    Surface surface = Surface::embed;
    std::string model;  // as the client spelled it
    std::optional<std::uint32_t> dimensions;
    std::int64_t load_ns = 0;
    std::function<std::int64_t()> elapsed_ns;
};

void write_vector(JsonWriter& json, std::span<float const> vector) {
    json.begin_array();
    for (float const value : vector) json.number(value);
    json.end_array();
}

// Of length 1; but the older route's are as the model gives them, as they are with Ollama.
std::string render(AnswerShape const& shape, Answer const& answer) {
    std::string out;
    JsonWriter json(out);
    json.begin_object();
    if (shape.surface == Surface::embeddings) {
        json.key("embedding");
        if (answer.embedded.empty()) json.begin_array().end_array();
        else write_vector(json, answer.embedded.front().vectors.front());
        json.end_object();
        return out;
    }
    json.key("model").string(shape.model).key("embeddings").begin_array();
    for (auto const& part : answer.embedded) {
        for (auto const& vector : part.vectors) {
            auto dimensions = shape.dimensions;
            if (dimensions && *dimensions > vector.size()) dimensions.reset();
            write_vector(json, shaped(vector, dimensions, Length::one));
        }
    }
    json.end_array();
    json.key("total_duration").number(shape.elapsed_ns());
    json.key("load_duration").number(shape.load_ns);
    json.key("prompt_eval_count").number(answer.totals.usage.prompt_tokens);
    json.end_object();
    return out;
}

// Ollama's words for a text that is too long.
http::Response vectors_error(Problem const& problem, std::string_view request_id) {
    if (problem.kind != Kind::context_length_exceeded) return ollama::error_response(problem, request_id);
    auto respelled = problem;
    respelled.message = "the input length exceeds the context length";
    return ollama::error_response(respelled, request_id);
}

struct Prepared {
    std::shared_ptr<EventSource> source;
    CallPlan plan;
};

// The first parts are admitted, or none is; the others follow them.
std::variant<Prepared, Problem> admit(Services& services, http::Request const& request, EmbedCall call,
                                      AnswerShape shape, Instant arrived) {
    auto const& first = call.generations.front();
    CallInfo info;
    info.request_id = request.id;
    info.answer_id = "ollama-" + services.random_suffix();
    info.model = first.model;
    info.path = request.path;
    info.tenant = first.tenant;
    info.priority = first.priority;
    info.arrived = arrived;
    auto const queue_ms = first.deadlines.queue_ms;

    auto const parts = static_cast<std::uint32_t>(call.generations.size());
    auto batch = make_batch(services, std::move(call.generations));
    if (!batch) return refused(services, info.model, batch.error());
    info.generations = std::move(batch->admitted);
    Prepared prepared;
    prepared.source = std::move(batch->source);
    prepared.plan.generations = parts;
    prepared.plan.awaited = static_cast<std::uint32_t>(info.generations.size());
    prepared.plan.ping_interval = Duration::max();
    if (queue_ms) prepared.plan.queue_timeout = std::chrono::milliseconds(*queue_ms);
    prepared.plan.info = std::move(info);
    prepared.plan.render_problem = vectors_error;
    prepared.plan.render = [shape = std::move(shape)](Answer const& answer) -> Result<std::string> {
        return render(shape, answer);
    };
    return prepared;
}

// The call's model, loaded; or, with nothing to compute, ready, or let go where keep_alive is 0.
net::Task<std::variant<serving::ModelStatus, Problem>> loaded_for(Services& services, http::Exchange& exchange,
                                                                  EmbedCall& call, Instant arrived) {
    bool const nothing = call.generations.empty();
    if (nothing && call.keep_alive == Duration::zero()) {
        auto refused = co_await let_go(services, call.model);
        if (!refused) co_return serving::ModelStatus{};
        co_return refused->kind == Kind::model_not_found ? model_to_pull(call.model) : *std::move(refused);
    }
    Presence presence(exchange);
    auto opened = co_await open_for(services, call, &presence);
    auto const* const model = std::get_if<serving::ModelStatus>(&opened);
    if (model == nullptr) {
        auto& problem = std::get<Problem>(opened);
        co_return problem.kind == Kind::model_not_found ? model_to_pull(call.model) : std::move(problem);
    }
    Wait wait{.arrived = arrived};
    if (nothing) {
        // A request that is computed says it when it is admitted.
        wait.stage = Stage::ready;
        wait.keep_alive = call.keep_alive;
    }
    auto loaded = co_await wait_for_model(services, exchange, model->id, wait);
    co_return loaded;
}

}  // namespace

net::Task<void> compute_vectors(Services& services, Surface surface, http::Exchange& exchange) {
    auto const arrived = services.clock.now();
    auto const parse = [surface](std::string_view body) { return parse_embed(surface, body); };
    auto read = read_call<EmbedCall>(services, exchange.request(), parse);
    if (auto* problem = std::get_if<Problem>(&read)) {
        co_await send_problem(services, exchange, std::move(*problem), error_response);
        co_return;
    }
    auto& call = std::get<EmbedCall>(read);
    auto loaded = co_await loaded_for(services, exchange, call, arrived);
    if (auto* problem = std::get_if<Problem>(&loaded)) {
        co_await send_problem(services, exchange, std::move(*problem), error_response);
        co_return;
    }
    AnswerShape shape;
    shape.surface = surface;
    shape.model = call.model;
    shape.dimensions = call.dimensions;
    shape.load_ns = std::chrono::nanoseconds(services.clock.now() - arrived).count();
    shape.elapsed_ns = [&clock = services.clock, arrived] {
        return std::chrono::nanoseconds(clock.now() - arrived).count();
    };
    if (call.generations.empty()) {
        http::Response response;
        response.body = render(shape, Answer{});
        co_await exchange.send(std::move(response));
        co_return;
    }
    auto admitted = admit(services, exchange.request(), std::move(call), std::move(shape), arrived);
    if (auto* problem = std::get_if<Problem>(&admitted)) {
        co_await send_problem(services, exchange, std::move(*problem), error_response);
        co_return;
    }
    auto& ready = std::get<Prepared>(admitted);
    co_await run_call(services, exchange, std::move(ready.source), std::move(ready.plan));
}

}  // namespace hearth::api::ollama
