#include "api/ollama/create.h"

#include <array>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/content.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/ollama/answers.h"
#include "api/ollama/errors.h"
#include "api/ollama/parameters.h"
#include "api/ollama/request.h"
#include "api/values.h"
#include "library/library.h"

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
    constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kRefused{{
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

// Uploaded files by their names: {"model.gguf": "sha256:..."}.
Verdict read_files(std::string_view field, JsonView value, std::size_t count_max,
                   std::vector<std::pair<std::string, std::string>>& out) {
    if (auto problem = read_object(field, value)) return problem;
    if (value.size() > count_max)
        return invalid_value(field, fmt::format("{} holds {} files, the limit is {}", field, value.size(), count_max));
    Verdict problem;
    value.for_each_member([&](std::string const& name, JsonView member) {
        std::string digest;
        if (!problem) problem = read_string(fmt::format("{}[\"{}\"]", field, name), member, digest);
        out.emplace_back(name, std::move(digest));
    });
    return problem;
}

Verdict read_fields(JsonView root, CreateCall& call) {
    auto& out = call.order.modelfile;
    constexpr std::array<std::string_view, 2> kNames{"name", "model"};  // the later one is the newer name
    for (auto const name : kNames)
        if (auto problem = read_text(root, name, call.order.name)) return problem;
    constexpr std::array<std::string_view, 2> kForms{"quantization", "quantize"};  // likewise
    for (auto const name : kForms)
        if (auto problem = read_text(root, name, call.order.quantize)) return problem;
    if (auto const value = root.find("files"))
        if (auto problem = read_files("files", *value, library::kCreateFilesMax, call.order.files)) return problem;
    if (auto const value = root.find("adapters"))
        if (auto problem = read_files("adapters", *value, library::kAdapterFilesMax, call.order.adapters))
            return problem;
    if (auto problem = read_text(root, "from", out.from)) return problem;
    if (auto problem = read_text(root, "template", out.template_text)) return problem;
    if (auto problem = read_text(root, "system", out.system)) return problem;
    if (auto problem = read_text(root, "requires", out.needs)) return problem;
    if (auto const value = root.find("license"))
        if (auto problem = read_licenses(*value, out.licenses)) return problem;
    if (auto const value = root.find("parameters"))
        if (auto problem = read_parameters("parameters", *value, out.parameters)) return problem;
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
    return out + '\n';
}

std::string line_of(library::CreateStep const& step) {
    if (step.total == 0) return status_line(step.text);
    std::string out;
    JsonWriter json(out);
    // Its clients draw a bar where there is a digest; Ollama has none to say here either.
    json.begin_object().key("status").string(step.text).key("digest").string("0000000000000000000");
    json.key("total").number(step.total).key("completed").number(step.done).end_object();
    return out + '\n';
}

std::string lines_of(std::vector<library::CreateStep> const& news) {
    std::string out;
    for (auto const& step : news) out += line_of(step);
    return out;
}

std::string last_lines(catalog::Created const& created) {
    std::string out;
    for (auto const& warning : created.warnings) out += status_line("warning: " + warning);
    return out + status_line("writing manifest") + status_line("success");
}

// What is wrong with uploaded files is the client's affair; so is a name that is not here.
Problem problem_of(Error const& error, std::string const& from) {
    bool const of_files =
        error.param == "files" || error.param == "adapters" || error.param == "quantize" || error.param == "digest";
    if (of_files && error.code != Code::io && error.code != Code::cancelled)
        return make_problem(Kind::invalid_value, error.message, error.param);
    return error.code == Code::not_found ? model_not_found(from) : library_problem(error);
}

net::Task<void> refuse(Services& services, http::Exchange& exchange, Problem problem) {
    return send_problem(services, exchange, std::move(problem), error_response);
}

// What fails before there is anything to tell is an HTTP error; later it is the last line.
net::Task<void> stream_creation(Services& services, http::Exchange& exchange,
                                std::shared_ptr<library::Creation> creation, std::string from) {
    auto news = creation->take_news();
    while (news.empty() && creation->result() == nullptr && !exchange.disconnected()) {
        static_cast<void>(co_await creation->changed_within(services.options.ping_interval));
        news = creation->take_news();
    }
    if (news.empty() && creation->result() != nullptr && !*creation->result()) {
        co_await refuse(services, exchange, problem_of(creation->result()->error(), from));
        co_return;
    }
    http::StreamHead head;
    head.content_type = kStreamType;
    auto opened = co_await exchange.start_stream(std::move(head));
    if (!opened) co_return;
    while (opened) {
        auto const* const result = creation->result();
        auto text = lines_of(news) + lines_of(creation->take_news());
        if (result != nullptr)
            text += *result ? last_lines(**result) : error_body(problem_of(result->error(), from)) + '\n';
        opened = co_await exchange.write(std::move(text));
        if (result != nullptr) break;
        static_cast<void>(co_await creation->changed_within(services.options.ping_interval));
        news = creation->take_news();
    }
    co_await exchange.end_stream();
}

net::Task<void> answer_when_over(Services& services, http::Exchange& exchange,
                                 std::shared_ptr<library::Creation> creation, std::string from) {
    while (creation->result() == nullptr && !exchange.disconnected())
        static_cast<void>(co_await creation->changed_within(services.options.ping_interval));
    auto const* const result = creation->result();
    if (result == nullptr) co_return;
    if (!*result) {
        co_await refuse(services, exchange, problem_of(result->error(), from));
        co_return;
    }
    http::Response response;
    response.body = status_line("success");
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
    auto const& order = call.order;
    if (order.name.empty()) return model_required();
    if (order.modelfile.from.empty() && order.files.empty())
        return invalid_value("from", "neither 'from' or 'files' was specified");
    if (!order.modelfile.from.empty() && !order.files.empty())
        return invalid_value("files", "a model is made 'from' another one or of 'files', not of both");
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
    if (problem) {
        co_await refuse(services, exchange, *std::move(problem));
        co_return;
    }
    auto from = call.order.modelfile.from;
    auto const creation = co_await (*library)->create(std::move(call.order));
    if (!creation) {
        co_await refuse(services, exchange, problem_of(creation.error(), from));
        co_return;
    }
    exchange.on_disconnect([creation = *creation] { creation->cancel(); });
    if (call.stream) co_await stream_creation(services, exchange, *creation, std::move(from));
    else co_await answer_when_over(services, exchange, *creation, std::move(from));
}

}  // namespace hearth::api::ollama
