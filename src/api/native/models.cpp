#include "api/native/models.h"

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/json_document.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/native/jobs.h"
#include "api/ollama/request.h"
#include "api/values.h"
#include "modelfile/definition.h"

namespace hearth::api::native {
namespace {

void write_strings(JsonWriter& json, std::vector<std::string> const& texts) {
    json.begin_array();
    for (auto const& text : texts) json.string(text);
    json.end_array();
}

// Without its end: more may be said of it. `model` is whose file it has; null: nobody's.
void begin_model(JsonWriter& json, library::Known const& known, catalog::Model const* model) {
    auto const& status = known.status;
    auto const* info = status && status->info ? &*status->info : nullptr;
    json.begin_object().key("name").string(known.name);
    json.key("aliases");
    write_strings(json, other_names(known));
    if (status && !status->base.empty()) json.key("base").string(status->base);
    if (status && !status->adapters.empty()) write_adapters(json, *status);
    json.key("state").string(state_of(known));
    if (status && status->state == serving::ModelState::loading) json.key("progress").number(status->progress);
    json.key("architecture").string(model ? model->architecture : info != nullptr ? info->architecture : "");
    json.key("parameters").number(model ? model->parameters : info != nullptr ? info->parameters : 0);
    json.key("quantization").string(model ? model->quantization : info != nullptr ? info->quantization : "");
    json.key("size").number(model ? model->bytes : info != nullptr ? info->file_bytes : 0);
    json.key("context").number(model ? model->context : info != nullptr ? std::uint64_t{info->context_train} : 0);
    json.key("capabilities");
    write_strings(json, capabilities_of(info, model));
    json.key("source").string(model ? model->source : "");
    json.key("layout");
    if (model) json.string(to_string(model->layout));
    else json.null();
    json.key("license").string(model ? model->license : "");
    json.key("digest");
    if (model && model->files.size() == 1 && !model->files.front().sha256.empty())
        json.string("sha256:" + model->files.front().sha256);
    else json.null();
    json.key("template_sha256").string(model ? model->template_sha256 : "");
    json.key("template_changed").boolean(known.model && known.model->template_changed());
    json.key("problem").string(problem_of(known));
}

// What it is beside its weights. Files by their names alone: clients need not know our folders.
void write_definition(JsonWriter& json, library::Known const& known, library::Described const& described) {
    auto const& definition = described.definition;
    json.key("from").string(definition.from).key("system").string(definition.system);
    auto const parameters = modelfile::from_options(definition.options);
    auto const options = parameters ? modelfile::to_options(*parameters) : Result<std::string>(std::string());
    json.key("options");
    if (options && !options->empty()) json.raw(*options);
    else json.null();
    json.key("template").string(definition.template_text).key("messages").begin_array();
    for (auto const& [role, content] : definition.messages)
        json.begin_object().key("role").string(role).key("content").string(content).end_object();
    json.end_array();
    auto const& status = known.status;
    bool const told = status && !status->adapters.empty();
    if (!told && !definition.adapters.empty()) {
        serving::ModelStatus on_top;
        on_top.adapters = definition.adapters;
        write_adapters(json, on_top);
    }
    auto const& path = described.path;
    auto shown = modelfile::to_modelfile(definition, path.empty() ? "scratch" : "./" + file_name(path));
    for (auto& adapter : shown.adapters) adapter = "./" + file_name(adapter);
    json.key("modelfile").string(modelfile::modelfile_text(std::move(shown)));
}

net::Task<Result<library::Described>> describe(Services& services, library::Known const& known) {
    if (services.library != nullptr) co_return co_await services.library->definition(known.name);
    auto const& status = *known.status;
    library::Described described{{}, status.path, nullptr};
    if (status.definition) described.definition = *status.definition;
    co_return described;
}

struct BodyField {
    std::string_view name;
    bool required = false;
    std::string* text = nullptr;  // or
    bool* flag = nullptr;         // or
    std::uint64_t* number = nullptr;
};

Verdict read_bytes(std::string_view name, JsonView value, std::uint64_t& out) {
    constexpr std::int64_t kMost = std::int64_t{1} << 50;
    std::int64_t number = 0;
    if (auto problem = read_integer(name, value, 1, kMost, number)) return problem;
    out = static_cast<std::uint64_t>(number);
    return std::nullopt;
}

template <std::size_t N>
Verdict read_body(http::Request const& request, std::array<BodyField, N> const& fields) {
    if (auto problem = check_content(request)) return problem;
    auto parsed = ollama::parse_object(request.body);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto const root = std::get<JsonDocument>(parsed).root();
    for (auto const& field : fields) {
        auto const value = root.find(field.name);
        if (!value && field.required) return missing(field.name);
        if (!value) continue;
        auto problem = field.text != nullptr   ? read_string(field.name, *value, *field.text)
                       : field.flag != nullptr ? read_boolean(field.name, *value, *field.flag)
                                               : read_bytes(field.name, *value, *field.number);
        if (problem) return problem;
        if (field.required && field.text != nullptr && field.text->empty()) return missing(field.name);
    }
    return std::nullopt;
}

net::Task<void> accept(http::Exchange& exchange, jobs::Job job) {
    http::Response response;
    response.status = 202;
    response.headers.emplace_back("Location", "/api/v1/jobs/" + job.id);
    JsonWriter json(response.body);
    write_job(json, job);
    co_await exchange.send(std::move(response));
}

net::Task<void> answer(Services& services, http::Exchange& exchange, Status status) {
    if (!status) {
        co_await send_problem(services, exchange, library_problem(status.error()));
        co_return;
    }
    http::Response response;
    response.status = 204;
    response.content_type.clear();
    co_await exchange.send(std::move(response));
}

}  // namespace

net::Task<void> list_models(Services& services, http::Exchange& exchange) {
    auto const all = co_await known_models(services);
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("models").begin_array();
    for (auto const& known : all) {
        begin_model(json, known, known.model.get());
        json.end_object();
    }
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> show_model(Services& services, http::Exchange& exchange) {
    std::string const name(exchange.request().parameter("name"));
    auto const known = co_await known_model(services, name);
    if (!known) {
        co_await send_problem(services, exchange, library_problem(known.error()));
        co_return;
    }
    auto const described = co_await describe(services, *known);
    http::Response response;
    JsonWriter json(response.body);
    begin_model(json, *known, (described ? described->model : known->model).get());
    // One that cannot be read is told without.
    if (described) write_definition(json, *known, *described);
    json.end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> delete_model(Services& services, http::Exchange& exchange) {
    std::string name(exchange.request().parameter("name"));
    auto const call = [&](library::Library& library) { return library.remove(name); };
    auto removed = co_await ask_library(services, call);
    co_await answer(services, exchange, std::move(removed));
}

net::Task<void> pull_model(Services& services, http::Exchange& exchange) {
    library::PullWish wish;
    std::array const fields{BodyField{"model", true, &wish.model, nullptr},
                            BodyField{"source", false, &wish.source, nullptr},
                            BodyField{"insecure", false, nullptr, &wish.insecure},
                            BodyField{"limit_rate", false, nullptr, nullptr, &wish.bytes_per_s}};
    auto problem = read_body(exchange.request(), fields);
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    auto const call = [&](library::Library& library) { return library.pull(wish); };
    auto const job = co_await ask_library(services, call);
    if (!job) {
        auto refusal = library_problem(job.error());
        if (refusal.param == "name") refusal.param = wish.source.empty() ? "model" : "source";  // what says where from
        co_await send_problem(services, exchange, std::move(refusal));
        co_return;
    }
    co_await accept(exchange, *job);
}

net::Task<void> verify_model(Services& services, http::Exchange& exchange) {
    std::string name(exchange.request().parameter("name"));
    auto const call = [&](library::Library& library) { return library.verify(name); };
    auto const job = co_await ask_library(services, call);
    if (job) co_await accept(exchange, *job);
    else co_await send_problem(services, exchange, library_problem(job.error()));
}

net::Task<void> trust_model(Services& services, http::Exchange& exchange) {
    std::string model;
    std::array const fields{BodyField{"model", true, &model, nullptr}};
    auto problem = read_body(exchange.request(), fields);
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    auto const call = [&](library::Library& library) { return library.trust(model); };
    auto trusted = co_await ask_library(services, call);
    co_await answer(services, exchange, std::move(trusted));
}

net::Task<void> copy_model(Services& services, http::Exchange& exchange) {
    std::string source, destination;
    std::array const fields{BodyField{"source", true, &source, nullptr},
                            BodyField{"destination", true, &destination, nullptr}};
    auto problem = read_body(exchange.request(), fields);
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    auto const call = [&](library::Library& library) { return library.copy(source, destination); };
    auto copied = co_await ask_library(services, call);
    co_await answer(services, exchange, std::move(copied));
}

}  // namespace hearth::api::native
