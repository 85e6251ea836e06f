#include "api/ollama/create.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/ollama/answers.h"
#include "api/ollama/errors.h"
#include "api/ollama/request.h"
#include "api/values.h"

namespace hearth::api::ollama {
namespace {

bool is_empty(JsonView value) {
    switch (value.kind()) {
        case JsonKind::string: return value.as_string().empty();
        case JsonKind::array:
        case JsonKind::object: return value.size() == 0;
        default: return false;
    }
}

// What would make another model than the one that comes out.
Verdict check_refused(JsonView root) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kRefused{{
        {"files", "models of uploaded files cannot be created yet: put the file into the models folder"},
        {"adapters", "models with adapters cannot be created yet"},
        {"quantize", "a model is not quantized while it is created: `hearth quantize` makes a file to create it from"},
        {"renderer", "this server renders by the chat template of the model's file"},
        {"parser", "this server reads answers as they are"},
        {"draft_files", "draft models are given when the server starts (--draft)"},
        {"info", "the metadata of a model's file cannot be changed"},
    }};
    for (auto const& [name, why] : kRefused) {
        auto const value = root.find(name);
        if (value && !is_empty(*value))
            return make_problem(Kind::unsupported_parameter, fmt::format("\"{}\": {}", name, why), name);
    }
    return std::nullopt;
}

Verdict read_text(JsonView root, std::string_view name, std::string& out) {
    auto const value = root.find(name);
    return value ? read_string(name, *value, out) : std::nullopt;
}

// A text or several.
Verdict read_licenses(JsonView value, std::vector<std::string>& out) {
    if (value.kind() != JsonKind::array) return read_string("license", value, out.emplace_back());
    if (auto problem = read_array("license", value, modelfile::kLicensesMax, "texts")) return problem;
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_string(fmt::format("license[{}]", i), value.at(i), out.emplace_back())) return problem;
    return std::nullopt;
}

std::string spelled(JsonView value) {
    if (value.kind() == JsonKind::string) return value.as_string();
    if (value.kind() == JsonKind::boolean) return value.as_boolean() ? "true" : "false";
    if (auto const whole = value.as_integer()) return std::to_string(*whole);
    return value.kind() == JsonKind::number ? fmt::format("{}", value.as_number())
                                            : std::string(describe(value.kind()));
}

Verdict read_parameters(JsonView value, std::vector<modelfile::Parameter>& out) {
    if (auto problem = read_object("parameters", value)) return problem;
    value.for_each_member([&](std::string const& name, JsonView member) {
        if (member.kind() != JsonKind::array) {
            out.push_back({name, spelled(member)});
            return;
        }
        for (std::size_t i = 0; i < member.size(); ++i) out.push_back({name, spelled(member.at(i))});
    });
    if (auto const options = modelfile::to_options(out); !options) return to_problem(options.error());
    return std::nullopt;
}

Verdict read_messages(JsonView value, std::vector<modelfile::Message>& out) {
    if (auto problem = read_array("messages", value, modelfile::kMessagesMax, "messages")) return problem;
    for (std::size_t i = 0; i < value.size(); ++i) {
        auto const path = fmt::format("messages[{}]", i);
        if (auto problem = read_object(path, value.at(i))) return problem;
        auto& [role, content] = out.emplace_back();
        if (auto problem = read_text(value.at(i), "role", role)) return problem;
        if (auto problem = read_text(value.at(i), "content", content)) return problem;
        if (role != "system" && role != "user" && role != "assistant") {
            return invalid_value(path + ".role", "message role must be one of \"system\", \"user\", or \"assistant\"");
        }
    }
    return std::nullopt;
}

Verdict read_fields(JsonView root, CreateCall& call) {
    auto& out = call.modelfile;
    constexpr std::array<std::string_view, 2> kNames{"name", "model"};  // the later one is the newer name
    for (auto const name : kNames)
        if (auto problem = read_text(root, name, call.model)) return problem;
    if (auto problem = read_text(root, "from", out.from)) return problem;
    if (auto problem = read_text(root, "template", out.template_text)) return problem;
    if (auto problem = read_text(root, "system", out.system)) return problem;
    if (auto problem = read_text(root, "requires", out.needs)) return problem;
    if (auto const value = root.find("license"))
        if (auto problem = read_licenses(*value, out.licenses)) return problem;
    if (auto const value = root.find("parameters"))
        if (auto problem = read_parameters(*value, out.parameters)) return problem;
    if (auto const value = root.find("messages"))
        if (auto problem = read_messages(*value, out.messages)) return problem;
    if (auto const value = root.find("stream"))
        if (auto problem = read_boolean("stream", *value, call.stream)) return problem;
    return std::nullopt;
}

std::string status_line(std::string_view status) {
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("status").string(status).end_object();
    return out;
}

net::Task<void> answer(http::Exchange& exchange, catalog::Created created, bool stream) {
    http::Response response;
    if (stream) {
        response.content_type = kStreamType;
        for (auto const& warning : created.warnings) response.body += status_line("warning: " + warning) + '\n';
        response.body += status_line("writing manifest") + '\n';
    }
    response.body += status_line("success");
    if (stream) response.body += '\n';
    co_await exchange.send(std::move(response));
}

}  // namespace

std::variant<CreateCall, Problem> parse_create(std::string_view body) {
    auto parsed = parse_object(body);
    if (auto* problem = std::get_if<Problem>(&parsed)) return std::move(*problem);
    auto const root = std::get<JsonDocument>(parsed).root();
    CreateCall call;
    if (auto problem = read_fields(root, call)) return *std::move(problem);
    if (auto problem = check_refused(root)) return *std::move(problem);
    if (call.model.empty()) return missing("model");
    if (call.modelfile.from.empty()) return invalid_value("from", "neither 'from' or 'files' was specified");
    return call;
}

net::Task<void> create_model(Services& services, http::Exchange& exchange) {
    auto problem = check_content(exchange.request());
    auto const library = need_library(services);
    if (!problem && !library) problem = library_problem(library.error());
    CreateCall call;
    if (!problem) {
        auto parsed = parse_create(exchange.request().body);
        if (auto* refused = std::get_if<Problem>(&parsed)) problem = std::move(*refused);
        else call = std::get<CreateCall>(std::move(parsed));
    }
    if (!problem) {
        auto const from = call.modelfile.from;
        auto created = co_await (*library)->create(call.model, std::move(call.modelfile));
        if (created) {
            co_await answer(exchange, *std::move(created), call.stream);
            co_return;
        }
        problem = created.error().code == Code::not_found ? model_not_found(from) : library_problem(created.error());
    }
    co_await send_problem(services, exchange, *std::move(problem), error_response);
}

}  // namespace hearth::api::ollama
