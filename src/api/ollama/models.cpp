#include "api/ollama/models.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/facts.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/ollama/errors.h"
#include "api/ollama/lookup.h"
#include "api/ollama/model_info.h"
#include "api/ollama/parameters.h"
#include "api/ollama/request.h"
#include "api/ollama/times.h"
#include "api/values.h"
#include "modelfile/definition.h"
#include "modelfile/parameters.h"

namespace hearth::api::ollama {
namespace {

using Depth = models::FactsReader::Depth;

constexpr auto kHeaderPatience = std::chrono::seconds(10);
// A list does not wait longer for digests that are still computed.
constexpr auto kDigestPatience = std::chrono::seconds(1);
// Clients cut digests to twelve digits without looking: what is not known yet has digits, too.
constexpr std::size_t kDigestDigits = 64;

constexpr std::int64_t kSecond = 1'000'000'000;

struct Known {
    std::string name;
    serving::ModelStatus status;
    models::FactsPointer facts;                   // null: its file says nothing, or nobody asked it
    std::shared_ptr<catalog::Model const> model;  // null: it lies in no models folder
};

// Of a model that was never asked for, too.
serving::ModelStatus status_of(library::Known const& known) {
    if (known.status) return *known.status;
    serving::ModelStatus status;
    status.id = known.name;
    status.path = catalog::served_from(known.model->files);
    status.state = serving::ModelState::cold;
    return status;
}

// Digests of what was never asked for are not computed: there may be hundreds of gigabytes.
net::Task<std::vector<Known>> with_facts(Services& services, std::vector<library::Known> all) {
    std::vector<Known> known;
    auto const deadline = services.clock.now() + kDigestPatience;
    for (auto const& each : all) {
        auto status = status_of(each);
        models::FactsPointer facts;
        if (each.status) facts = co_await facts_of(services, status.path, Depth::header, kHeaderPatience);
        if (facts && facts->digest.empty()) {
            auto const left = std::max(Duration::zero(), deadline - services.clock.now());
            auto whole = co_await facts_of(services, status.path, Depth::digest, left);
            if (whole) facts = std::move(whole);
        }
        known.push_back({each.name, std::move(status), std::move(facts), each.model});
    }
    co_return known;
}

// Ollama's spelling of for ever is a day that is far away.
std::string expires_at(std::int64_t now_ns, serving::ModelStatus const& model) {
    constexpr std::chrono::nanoseconds kForEver = std::chrono::hours(100 * 365 * 24);
    return rfc3339(now_ns + model.idle_left.value_or(kForEver).count());
}

std::int64_t modified_ns(Known const& model) {
    if (model.facts) return model.facts->modified_ns;
    return model.model ? model.model->files.front().modified_ns : model.status.created_unix * kSecond;
}

void write_details(JsonWriter& json, Known const& model) {
    auto const from = [](auto const& said) {
        return std::tuple(said.architecture, said.quantization, std::uint64_t{said.parameters});
    };
    std::tuple<std::string, std::string, std::uint64_t> said;
    if (model.facts) said = from(model.facts->report);
    else if (model.status.info) said = from(*model.status.info);
    else if (model.model) said = from(*model.model);
    auto const& [architecture, quantization, parameters] = said;
    json.key("details").begin_object();
    auto const& base = model.status.base;
    json.key("parent_model").string(!base.empty() || !model.status.definition ? base : model.status.definition->from);
    bool const folder = !model.facts && model.model && catalog::is_folder(model.model->files);
    json.key("format").string(folder ? "safetensors" : "gguf").key("family").string(architecture);
    json.key("families").begin_array().string(architecture).end_array();
    json.key("parameter_size").string(parameter_size(parameters));
    json.key("quantization_level").string(quantization).end_object();
}

void write_capabilities(JsonWriter& json, Known const& model) {
    auto const& info = model.status.info;
    json.key("capabilities").begin_array();
    for (auto const& each : capabilities_of(info ? &*info : nullptr, model.model.get())) json.string(each);
    json.end_array();
}

std::string digest_of(Known const& model) {
    if (model.facts && !model.facts->digest.empty()) return model.facts->digest;
    bool const said = model.model && model.model->files.size() == 1 && !model.model->files.front().sha256.empty();
    return said ? model.model->files.front().sha256 : std::string(kDigestDigits, '0');
}

std::uint64_t size_of(Known const& model) {
    if (model.facts) return model.facts->bytes;
    if (model.status.info) return model.status.info->file_bytes;
    return model.model ? model.model->bytes : 0;
}

// What tags and ps have in common.
void write_entry(JsonWriter& json, Known const& model, std::uint64_t size) {
    auto const name = display_name(model.name);
    json.key("name").string(name).key("model").string(name);
    json.key("size").number(size);
    json.key("digest").string(digest_of(model));
    write_details(json, model);
}

struct ShowRequest {
    std::string model;
    Verbosity verbosity = Verbosity::brief;
    // The model is shown as if it had these.
    std::string system{};
    std::string options{};  // as Definition::options
};

void put_over(std::string& options, std::string_view over) {
    if (auto merged = modelfile::merge_options(options, over)) options = *std::move(merged);
}

// The definition as it is in force: with the context the model was loaded with, and a template.
modelfile::Definition definition_in_force(Known const& model, ShowRequest const& asked) {
    auto definition = model.status.definition ? *model.status.definition : modelfile::Definition();
    if (model.status.info) {
        put_over(definition.options, fmt::format(R"({{"num_ctx":{}}})", model.status.info->context_request));
    }
    put_over(definition.options, asked.options);
    if (!asked.system.empty()) definition.system = asked.system;
    auto& shown = definition.template_text;
    if (shown.empty() && model.facts) shown = model.facts->files.front().text("tokenizer.chat_template");
    // Ollama's template where a model has none: the prompt as it is.
    if (shown.empty()) shown = "{{ .Prompt }}";
    if (definition.license.empty() && model.facts) definition.license = model.facts->report.license;
    return definition;
}

// The Modelfile that would say the same. The file by its name alone: clients need not know our folders.
std::string modelfile_of(serving::ModelStatus const& status, modelfile::Definition const& definition) {
    auto const file = file_name(status.path);
    auto shown = modelfile::to_modelfile(definition, file.empty() ? "scratch" : "./" + file);
    shown.adapters.clear();
    for (auto const& adapter : status.adapters) shown.adapters.push_back("./" + file_name(adapter.file));
    // What a Modelfile cannot hold is told in the fields beside it.
    return "# Written by Hearth for a model it serves.\n" + modelfile::modelfile_text(std::move(shown));
}

void write_messages(JsonWriter& json, std::vector<modelfile::Message> const& messages) {
    if (messages.empty()) return;
    json.key("messages").begin_array();
    for (auto const& [role, content] : messages)
        json.begin_object().key("role").string(role).key("content").string(content).end_object();
    json.end_array();
}

std::string render_show(Known const& model, ShowRequest const& asked) {
    auto const verbosity = asked.verbosity;
    auto const definition = definition_in_force(model, asked);
    auto const parameters = modelfile::from_options(definition.options);
    std::string out;
    JsonWriter json(out);
    json.begin_object();
    if (!definition.license.empty()) json.key("license").string(definition.license);
    json.key("modelfile").string(modelfile_of(model.status, definition));
    json.key("parameters").string(parameters ? modelfile::describe(*parameters) : std::string());
    json.key("template").string(definition.template_text);
    if (!definition.system.empty()) json.key("system").string(definition.system);
    write_messages(json, definition.messages);
    write_details(json, model);
    json.key("model_info");
    if (model.facts) write_model_info(json, *model.facts, verbosity);
    else write_model_info(json, model.status.info);
    if (model.facts && verbosity == Verbosity::all) {
        json.key("tensors");
        write_tensors(json, *model.facts);
    }
    write_capabilities(json, model);
    json.key("modified_at").string(rfc3339(modified_ns(model)));
    if (!definition.needs.empty()) json.key("requires").string(definition.needs);
    json.end_object();
    return out;
}

std::variant<ShowRequest, Problem> parse_show(http::Request const& request) {
    if (auto problem = check_content(request)) return *std::move(problem);
    auto parsed = parse_object(request.body);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto const root = std::get<JsonDocument>(parsed).root();
    ShowRequest out;
    bool verbose = false;
    for (std::string_view const name : {"name", "model"}) {  // the later one is the newer name
        if (auto const value = root.find(name))
            if (auto problem = read_string(name, *value, out.model)) return *std::move(problem);
    }
    if (auto const value = root.find("verbose"))
        if (auto problem = read_boolean("verbose", *value, verbose)) return *std::move(problem);
    if (verbose) out.verbosity = Verbosity::all;
    if (auto const value = root.find("system"))
        if (auto problem = read_string("system", *value, out.system)) return *std::move(problem);
    if (auto const value = root.find("options")) {
        std::vector<modelfile::Parameter> parameters;
        if (auto problem = read_parameters("options", *value, parameters)) return *std::move(problem);
        auto options = modelfile::to_options(parameters);
        if (!options) return to_problem(options.error());
        out.options = *std::move(options);
    }
    if (out.model.empty()) return model_required();
    return out;
}

}  // namespace

std::string parameter_size(std::uint64_t parameters) {
    auto const scaled = [&](double unit, std::string_view suffix, int decimals) {
        auto const value = static_cast<double>(parameters) / unit;
        bool const whole = value == std::floor(value);
        return fmt::format("{:.{}f}{}", value, whole ? 0 : decimals, suffix);
    };
    if (parameters >= 1'000'000'000) return scaled(1e9, "B", 1);
    if (parameters >= 1'000'000) return scaled(1e6, "M", 2);
    if (parameters >= 1000) return scaled(1e3, "K", 0);
    return std::to_string(parameters);
}

net::Task<void> list_models(Services& services, http::Exchange& exchange) {
    auto all = co_await known_models(services);
    auto known = co_await with_facts(services, std::move(all));
    // As Ollama has them: the newest first.
    std::ranges::sort(known, {},
                      [](Known const& model) { return std::pair(-modified_ns(model), std::string_view(model.name)); });
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("models").begin_array();
    for (auto const& model : known) {
        json.begin_object();
        write_entry(json, model, size_of(model));
        json.key("modified_at").string(rfc3339(modified_ns(model)));
        write_capabilities(json, model);
        json.end_object();
    }
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> list_loaded(Services& services, http::Exchange& exchange) {
    auto all = co_await pooled_models(services);
    auto const known = co_await with_facts(services, std::move(all));
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("models").begin_array();
    for (auto const& model : known) {
        if (model.status.state != serving::ModelState::ready || !model.status.info) continue;
        json.begin_object();
        write_entry(json, model, model.status.memory_bytes);
        json.key("expires_at").string(expires_at(services.unix_ns(), model.status));
        json.key("size_vram").number(0);
        json.key("context_length").number(model.status.info->context_request);
        json.end_object();
    }
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> show_model(Services& services, http::Exchange& exchange) {
    auto parsed = parse_show(exchange.request());
    if (auto* problem = std::get_if<Problem>(&parsed)) {
        co_await send_problem(services, exchange, std::move(*problem), error_response);
        co_return;
    }
    auto const& asked = std::get<ShowRequest>(parsed);
    auto const known = co_await find_known(services, asked.model);
    if (!known) {
        co_await send_problem(services, exchange, model_not_found(asked.model), error_response);
        co_return;
    }
    Known model{known->name, status_of(*known), nullptr, known->model};
    // What the pool does not have is not brought there for this: that may take making it. Nor is it a use.
    if (services.library != nullptr) {
        auto described = co_await services.library->definition(known->name);
        // One that cannot be read is shown without.
        if (described) model.model = std::move(described->model);
        if (described && !known->status) {
            model.status.path = std::move(described->path);
            model.status.adapters = described->definition.adapters;
            model.status.definition = std::make_shared<modelfile::Definition const>(std::move(described->definition));
        }
    }
    model.facts = co_await facts_of(services, model.status.path, Depth::header, kHeaderPatience);
    http::Response response;
    response.body = render_show(model, asked);
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::ollama
