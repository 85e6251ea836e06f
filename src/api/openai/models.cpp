#include "api/openai/models.h"

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/json_writer.h"
#include "api/library.h"

namespace hearth::api::openai {
namespace {

// llama-server's words, which its clients know.
std::string_view spell(serving::ModelState state) {
    switch (state) {
        case serving::ModelState::ready: return "loaded";
        case serving::ModelState::starting:
        case serving::ModelState::loading:
        case serving::ModelState::restarting: return "loading";
        case serving::ModelState::damaged:
        case serving::ModelState::failed: return "failed";
        case serving::ModelState::parked: return "sleeping";
        case serving::ModelState::unloading:
        case serving::ModelState::cold:
        case serving::ModelState::stopped: return "unloaded";
    }
    return "unloaded";
}

void write_meta(JsonWriter& json, domain::ModelInfo const& info) {
    json.key("max_model_len").number(info.context_request);
    json.key("meta").begin_object();
    json.key("architecture").string(info.architecture);
    json.key("name").string(info.name);
    json.key("ftype").string(info.quantization);
    json.key("n_ctx").number(info.context_request);
    json.key("n_ctx_train").number(info.context_train);
    json.key("n_params").number(info.parameters);
    json.key("n_vocab").number(info.vocabulary);
    json.key("n_embd").number(info.embedding);
    json.key("deterministic").string(to_string(info.determinism));
    json.key("size").number(info.file_bytes);
    json.end_object();
}

void write_meta(JsonWriter& json, catalog::Model const& model) {
    json.key("meta").begin_object();
    json.key("architecture").string(model.architecture);
    json.key("name").string(model.title);
    json.key("ftype").string(model.quantization);
    json.key("n_ctx_train").number(model.context);
    json.key("n_params").number(model.parameters);
    json.key("size").number(model.bytes);
    json.end_object();
}

// Of the worker if there was one: it knows what the file alone does not tell.
void write_facts(JsonWriter& json, library::Known const& known) {
    auto const info = known.status ? known.status->info : std::nullopt;
    if (!info && !known.model) return;
    json.key("capabilities").begin_array();
    for (auto const& each : capabilities_of(info ? &*info : nullptr, known.model.get())) json.string(each);
    json.end_array();
    if (info) write_meta(json, *info);
    else write_meta(json, *known.model);
}

void write_model(JsonWriter& json, library::Known const& known, std::int64_t started_unix) {
    auto const& status = known.status;
    auto state = status ? status->state : serving::ModelState::cold;
    auto const damage = known.damage();
    if (!damage.empty()) state = serving::ModelState::damaged;
    json.begin_object();
    json.key("id").string(known.name).key("object").string("model");
    json.key("created").number(status ? status->created_unix : started_unix);
    json.key("owned_by").string("hearth");
    json.key("aliases").begin_array();
    for (auto const& alias : other_names(known)) json.string(alias);
    json.end_array();
    if (status && !status->base.empty()) json.key("parent").string(status->base);
    if (status && !status->adapters.empty()) write_adapters(json, *status);
    json.key("status").begin_object().key("value").string(spell(state));
    if (state == serving::ModelState::loading) json.key("progress").number(status->progress);
    if (!damage.empty()) json.key("problem").string(damage);
    json.end_object();
    write_facts(json, known);
    json.end_object();
}

Problem not_served(std::string const& id) {
    return make_problem(Kind::model_not_found, fmt::format("The model '{}' is not served here.", id.substr(0, 128)),
                        "model");
}

}  // namespace

net::Task<void> list_models(Services& services, http::Exchange& exchange) {
    auto const all = co_await known_models(services);
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("object").string("list").key("data").begin_array();
    for (auto const& known : all) write_model(json, known, services.options.started_unix);
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> show_model(Services& services, http::Exchange& exchange) {
    std::string const id(exchange.request().parameter("id"));
    auto const known = co_await known_model(services, id);
    if (!known || id.empty()) {
        co_await send_problem(services, exchange, not_served(id));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    write_model(json, *known, services.options.started_unix);
    co_await exchange.send(std::move(response));
}

net::Task<void> delete_model(Services& services, http::Exchange& exchange) {
    std::string const id(exchange.request().parameter("id"));
    auto const call = [&](library::Library& library) { return library.remove(id); };
    auto const removed = co_await ask_library(services, call);
    if (!removed) {
        bool const unknown = removed.error().code == Code::not_found;
        auto problem = unknown ? not_served(id) : library_problem(removed.error());
        co_await send_problem(services, exchange, std::move(problem));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("id").string(id).key("object").string("model").key("deleted").boolean(true).end_object();
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::openai
