#include "api/ollama/models.h"

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/ollama/errors.h"
#include "api/ollama/lookup.h"
#include "api/ollama/model_info.h"
#include "api/ollama/request.h"
#include "api/ollama/times.h"
#include "api/values.h"

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
    serving::ModelStatus status;
    models::FactsPointer facts;                   // null: its file says nothing, or nobody asked it
    std::shared_ptr<catalog::Model const> model;  // null: it lies in no models folder
};

// Of a model that was never asked for, too.
serving::ModelStatus status_of(library::Known const& known) {
    if (known.status) return *known.status;
    serving::ModelStatus status;
    status.id = known.name;
    status.path = known.model->files.front().path;
    status.state = serving::ModelState::cold;
    return status;
}

// Digests of what was never asked for are not computed: there may be hundreds of gigabytes.
net::Task<std::vector<Known>> all_models(Services& services) {
    std::vector<Known> known;
    auto const deadline = services.clock.now() + kDigestPatience;
    auto const all = co_await known_models(services);
    for (auto const& each : all) {
        auto status = status_of(each);
        models::FactsPointer facts;
        if (each.status) facts = co_await facts_of(services, status.path, Depth::header, kHeaderPatience);
        if (facts && facts->digest.empty()) {
            auto const left = std::max(Duration::zero(), deadline - services.clock.now());
            auto whole = co_await facts_of(services, status.path, Depth::digest, left);
            if (whole) facts = std::move(whole);
        }
        known.push_back({std::move(status), std::move(facts), each.model});
    }
    co_return known;
}

// Ollama's spelling of for ever is a day that is far away.
std::string expires_at(std::int64_t now_ns, serving::ModelStatus const& model) {
    constexpr std::chrono::nanoseconds kForEver = std::chrono::hours(100 * 365 * 24);
    return rfc3339(now_ns + model.idle_left.value_or(kForEver).count());
}

std::string modified_at(Known const& model) {
    if (model.facts) return rfc3339(model.facts->modified_ns);
    return rfc3339(model.model ? model.model->files.front().modified_ns : model.status.created_unix * kSecond);
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
    json.key("parent_model").string("").key("format").string("gguf").key("family").string(architecture);
    json.key("families").begin_array().string(architecture).end_array();
    json.key("parameter_size").string(parameter_size(parameters));
    json.key("quantization_level").string(quantization).end_object();
}

void write_capabilities(JsonWriter& json, Known const& model) {
    json.key("capabilities").begin_array();
    if (!model.model) json.string("completion");
    else
        for (auto const& each : model.model->capabilities) json.string(each);
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
    auto const name = display_name(model.status.id);
    json.key("name").string(name).key("model").string(name);
    json.key("size").number(size);
    json.key("digest").string(digest_of(model));
    write_details(json, model);
}

// The Modelfile that would say the same. The file by its name alone: clients need not know our folders.
std::string modelfile(std::string const& path, std::string const& chat_template, std::string const& parameters) {
    auto const file = path.substr(path.rfind('/') + 1);
    auto out =
        fmt::format("# Written by Hearth for a model it serves.\nFROM {}\n", file.empty() ? "scratch" : "./" + file);
    out += fmt::format("TEMPLATE \"\"\"{}\"\"\"\n", chat_template);
    if (!parameters.empty()) out += fmt::format("PARAMETER {}\n", parameters);
    return out;
}

std::string render_show(Known const& model, Verbosity verbosity) {
    auto const chat_template = model.facts ? model.facts->files.front().text("tokenizer.chat_template") : "";
    // Ollama's template where a model has none: the prompt as it is.
    auto const shown = chat_template.empty() ? std::string("{{ .Prompt }}") : chat_template;
    auto const parameters =
        model.status.info ? fmt::format("{:<30} {}", "num_ctx", model.status.info->context_request) : std::string();
    std::string out;
    JsonWriter json(out);
    json.begin_object();
    if (model.facts && !model.facts->report.license.empty()) json.key("license").string(model.facts->report.license);
    json.key("modelfile").string(modelfile(model.status.path, shown, parameters));
    json.key("parameters").string(parameters);
    json.key("template").string(shown);
    write_details(json, model);
    json.key("model_info");
    if (model.facts) write_model_info(json, *model.facts, verbosity);
    else write_model_info(json, model.status.info);
    if (model.facts && verbosity == Verbosity::all) {
        json.key("tensors");
        write_tensors(json, *model.facts);
    }
    write_capabilities(json, model);
    json.key("modified_at").string(modified_at(model));
    json.end_object();
    return out;
}

struct ShowRequest {
    std::string model;
    Verbosity verbosity = Verbosity::brief;
};

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
    if (out.model.empty()) return missing("model");
    return out;
}

// Without a library names mean what they mean among those of the pool.
net::Task<Result<library::Known>> show_known(Services& services, std::string name) {
    if (services.library == nullptr) {
        auto const found = find_model(services.pool, name);
        if (found) name = found->id;
    }
    return known_model(services, std::move(name));
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
    auto const known = co_await all_models(services);
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("models").begin_array();
    for (auto const& model : known) {
        json.begin_object();
        write_entry(json, model, size_of(model));
        json.key("modified_at").string(modified_at(model));
        write_capabilities(json, model);
        json.end_object();
    }
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

net::Task<void> list_loaded(Services& services, http::Exchange& exchange) {
    auto const known = co_await all_models(services);
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
    auto const known = co_await show_known(services, asked.model);
    if (!known) {
        co_await send_problem(services, exchange, model_not_found(asked.model), error_response);
        co_return;
    }
    auto status = status_of(*known);
    auto facts = co_await facts_of(services, status.path, Depth::header, kHeaderPatience);
    Known const model{std::move(status), std::move(facts), known->model};
    http::Response response;
    response.body = render_show(model, asked.verbosity);
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::ollama
