#include "api/openai/models.h"

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/json_writer.h"

namespace hearth::api::openai {
namespace {

// llama-server's words, which its clients know.
std::string_view spell(serving::ModelState state) {
    switch (state) {
        case serving::ModelState::ready: return "loaded";
        case serving::ModelState::starting:
        case serving::ModelState::loading:
        case serving::ModelState::restarting: return "loading";
        case serving::ModelState::failed: return "failed";
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

void write_model(JsonWriter& json, serving::ModelStatus const& model) {
    json.begin_object();
    json.key("id").string(model.id).key("object").string("model").key("created").number(model.created_unix);
    json.key("owned_by").string("hearth");
    json.key("aliases").begin_array();
    for (auto const& alias : model.aliases) json.string(alias);
    json.end_array();
    json.key("status").begin_object().key("value").string(spell(model.state));
    if (model.state == serving::ModelState::loading) json.key("progress").number(model.progress);
    json.end_object();
    if (model.info) {
        json.key("capabilities").begin_array();
        if (model.info->generates) json.string("completion");
        if (model.info->embeds) json.string("embedding");
        json.end_array();
        write_meta(json, *model.info);
    }
    json.end_object();
}

}  // namespace

net::Task<void> list_models(Services& services, http::Exchange& exchange) {
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("object").string("list").key("data").begin_array();
    for (auto const& model : services.pool.models()) write_model(json, model);
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> show_model(Services& services, http::Exchange& exchange) {
    std::string const id(exchange.request().parameter("id"));
    auto const model = services.pool.status(id);
    if (!model || id.empty()) {
        auto problem = make_problem(Kind::model_not_found,
                                    fmt::format("The model '{}' is not served here.", id.substr(0, 128)), "model");
        co_await send_problem(services, exchange, std::move(problem));
        co_return;
    }
    http::Response response;
    JsonWriter json(response.body);
    write_model(json, *model);
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::openai
