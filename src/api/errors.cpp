#include "api/errors.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include <fmt/format.h>

#include "api/json_writer.h"
#include "api/ollama/errors.h"
#include "api/routes.h"
#include "base/assert.h"
#include "domain/context_overflow.h"
#include "library/permits.h"
#include "telemetry/log.h"

namespace hearth::api {
namespace {

constexpr std::string_view kInvalid = "invalid_request_error";
constexpr std::string_view kServer = "server_error";
constexpr std::string_view kUnavailable = "unavailable_error";
constexpr std::uint32_t kRetryAfterS = 5;  // where nothing better is known

// clang-format off
constexpr std::array kCatalogue{
    CatalogueEntry{Kind::malformed_http, 400, kInvalid, "malformed_http", Retry::useless,
        "Send a well-formed HTTP/1.1 request.",
        "The bytes received are no HTTP request: a broken request line, header or chunk."},
    CatalogueEntry{Kind::invalid_json, 400, kInvalid, "invalid_json", Retry::useless,
        "Send one JSON object, encoded in UTF-8.",
        "The body is not a JSON object in UTF-8, is nested too deeply or holds too many values. The message names line and column."},
    CatalogueEntry{Kind::missing_required_parameter, 400, kInvalid, "missing_required_parameter", Retry::useless,
        "Add the field named in param.",
        "A field that the request needs is absent or null."},
    CatalogueEntry{Kind::invalid_type, 400, kInvalid, "invalid_type", Retry::useless,
        "Send the field named in param with the type the message asks for.",
        "A field has the wrong JSON type."},
    CatalogueEntry{Kind::invalid_value, 400, kInvalid, "invalid_value", Retry::useless,
        "Change the field named in param to a value within the limit the message quotes.",
        "A field has the right type and a value outside its limits."},
    CatalogueEntry{Kind::unsupported_parameter, 400, kInvalid, "unsupported_parameter", Retry::useless,
        "Leave out the field named in param; docs/api/openai.md lists what is supported.",
        "A known field that would change the answer and that this server cannot honour. It is refused rather than dropped."},
    CatalogueEntry{Kind::unsupported_value, 400, kInvalid, "unsupported_value", Retry::useless,
        "Use one of the values the message lists.",
        "A supported field asks for something this server cannot honour."},
    CatalogueEntry{Kind::unsupported_content, 400, kInvalid, "unsupported_content", Retry::useless,
        "Send text only.",
        "A message holds an image, audio, file or other part that is not text."},
    CatalogueEntry{Kind::unsupported_by_model, 400, kInvalid, "unsupported_by_model", Retry::useless,
        "Choose another model, or an endpoint this model can serve.",
        "The model lacks what the request needs, for example a chat template."},
    CatalogueEntry{Kind::context_length_exceeded, 400, kInvalid, "context_length_exceeded", Retry::useless,
        "Shorten the prompt, or start the server with a larger --ctx.",
        "The prompt does not fit the model's context. n_prompt_tokens and n_ctx hold both numbers."},
    CatalogueEntry{Kind::forbidden, 403, "permission_error", "forbidden", Retry::useless,
        "Ask the operator of this server for access.",
        "The server refuses this caller."},
    CatalogueEntry{Kind::forbidden_host, 403, "permission_error", "forbidden_host", Retry::useless,
        "Use the address the server listens on, or have the operator allow this host name.",
        "The Host header names a host this server does not answer for: the defence against DNS rebinding."},
    CatalogueEntry{Kind::forbidden_origin, 403, "permission_error", "forbidden_origin", Retry::useless,
        "Have the operator allow this origin.",
        "A web page of another origin called the server, and that origin is not allowed."},
    CatalogueEntry{Kind::model_not_found, 404, kInvalid, "model_not_found", Retry::useless,
        "GET /v1/models lists the models that are served.",
        "No model of that name or alias is served."},
    CatalogueEntry{Kind::not_found, 404, kInvalid, "not_found", Retry::useless,
        "Check the path and the base URL of the client, which often needs to end in /v1.",
        "No route has this path."},
    CatalogueEntry{Kind::method_not_allowed, 405, kInvalid, "method_not_allowed", Retry::useless,
        "Use a method that the Allow header lists.",
        "The path exists, the method does not."},
    CatalogueEntry{Kind::read_timeout, 408, kInvalid, "read_timeout", Retry::undecided,
        "Send the whole request without long pauses.",
        "The request did not arrive in time."},
    CatalogueEntry{Kind::request_too_large, 413, kInvalid, "request_too_large", Retry::useless,
        "Send less; the message quotes the limit.",
        "The body is larger than the route allows."},
    CatalogueEntry{Kind::url_too_long, 414, kInvalid, "url_too_long", Retry::useless,
        "Use a shorter path and query; the message quotes the limit.",
        "The request target is longer than the server allows."},
    CatalogueEntry{Kind::unsupported_media_type, 415, kInvalid, "unsupported_media_type", Retry::useless,
        "Send Content-Type: application/json and no Content-Encoding.",
        "The body is compressed, or a web page sent it with a content type that browsers let through unchecked."},
    CatalogueEntry{Kind::expectation_failed, 417, kInvalid, "expectation_failed", Retry::useless,
        "Leave out the Expect header.",
        "The Expect header asks for something other than 100-continue."},
    CatalogueEntry{Kind::overloaded, 429, "rate_limit_error", "overloaded", Retry::later,
        "Wait for the time in Retry-After, then send the request again.",
        "The queue of the model is full, or the wait is predicted to be half of what a request may take. The server says so at once instead of letting the request wait in vain."},
    CatalogueEntry{Kind::header_too_large, 431, kInvalid, "header_too_large", Retry::useless,
        "Send fewer or shorter headers; the message quotes the limit.",
        "The request line and headers are larger than the server allows."},
    CatalogueEntry{Kind::shutting_down, 503, kUnavailable, "shutting_down", Retry::later,
        "Send the request again after the time in Retry-After.",
        "The server is shutting down and takes no new work."},
    CatalogueEntry{Kind::model_loading, 503, kUnavailable, "model_loading", Retry::later,
        "Wait until /readyz answers 200. Requests sent meanwhile wait for the model.",
        "The model is still being loaded; told by /health and /readyz only."},
    CatalogueEntry{Kind::model_unavailable, 503, kUnavailable, "model_unavailable", Retry::later,
        "See the server's log for why the model cannot run, and GET /health for its state.",
        "The model could not be loaded or does not run at the moment."},
    CatalogueEntry{Kind::too_many_connections, 503, kUnavailable, "too_many_connections", Retry::later,
        "Reuse connections, or wait and connect again.",
        "The server holds as many connections as it allows."},
    CatalogueEntry{Kind::engine_lost, 500, kServer, "engine_lost", Retry::useless,
        "Send the request once more; if it fails again, report it with its request id and the server's log.",
        "The process that runs the model died or hung while it worked on this request. It is restarted; other requests go on."},
    CatalogueEntry{Kind::not_implemented, 501, kInvalid, "not_implemented", Retry::useless,
        "Send the body with Content-Length or with Transfer-Encoding: chunked.",
        "The server does not know this transfer coding. In Ollama's dialect: it does not know this endpoint's work yet."},
    CatalogueEntry{Kind::http_version, 505, kInvalid, "http_version", Retry::useless,
        "Speak HTTP/1.1.",
        "The server speaks HTTP/1.0 and HTTP/1.1."},
    CatalogueEntry{Kind::server_error, 500, kServer, "server_error", Retry::undecided,
        "Look for the request id in the server's log, and report it.",
        "Something went wrong inside the server. The cause is in its log under the request id and nowhere else."},
    CatalogueEntry{Kind::request_timeout, 504, "timeout_error", "request_timeout", Retry::useless,
        "Ask for fewer tokens (max_tokens), or have the operator raise --request-timeout.",
        "The answer was not complete within the time one request may take. The server dropped it and freed its memory."},
    CatalogueEntry{Kind::queue_timeout, 429, "rate_limit_error", "queue_timeout", Retry::later,
        "Wait for the time in Retry-After, then send the request again; or allow it a longer queue_timeout_ms or a better priority.",
        "Computing did not begin, or is predicted not to begin, within the request's queue_timeout_ms. What is predicted is said at once."},
    CatalogueEntry{Kind::deadline_exceeded, 504, "timeout_error", "deadline_exceeded", Retry::useless,
        "Ask for less, or allow it more time in the field named in param.",
        "The prompt was not read within prefill_timeout_ms, or the answer not written within decode_timeout_ms."},
    CatalogueEntry{Kind::request_cancelled, 499, "cancelled_error", "request_cancelled", Retry::useless,
        "Nothing: somebody asked for it.",
        "The request was ended by DELETE /api/v1/requests/{id}. Status 499 is nginx's; within a stream the error is its last event."},
    CatalogueEntry{Kind::request_not_found, 404, kInvalid, "request_not_found", Retry::useless,
        "GET /api/v1/requests lists what is inside; an answer that is complete is not.",
        "No request of that id is inside the server, or it is another tenant's."},
    CatalogueEntry{Kind::endpoint_disabled, 501, kInvalid, "endpoint_disabled", Retry::useless,
        "Have the operator start the server without the flag that the message names.",
        "The operator switched this endpoint off."},
    CatalogueEntry{Kind::no_slot_available, 503, kUnavailable, "no_slot_available", Retry::later,
        "Ask again after the time in Retry-After, or leave out fail_on_no_slot.",
        "GET /slots?fail_on_no_slot=1 found every sequence of the model in use, as llama-server tells it."},
    CatalogueEntry{Kind::insufficient_memory, 507, kUnavailable, "insufficient_memory", Retry::useless,
        "Use a smaller model or context, or start the server with more --memory; where the message speaks of a disk, make room there. It quotes both sizes.",
        "The model takes more memory than the server may use for all models: alone, or beside those that stay while it takes a name over. Or a disk has no room for a file."},
    CatalogueEntry{Kind::template_changed, 403, "permission_error", "template_changed", Retry::useless,
        "Look at the model with `hearth show NAME`, then accept its new chat template with `hearth trust NAME`.",
        "The chat template of the model's file is another one than at its first use. It decides what the model is made to read, so somebody has to agree."},
    CatalogueEntry{Kind::job_not_found, 404, kInvalid, "job_not_found", Retry::useless,
        "GET /api/v1/jobs lists the jobs there are.",
        "No job has that id. Of jobs that have ended the last thousand are kept."},
    CatalogueEntry{Kind::no_library, 503, kUnavailable, "no_library", Retry::later,
        "Start the server with a models folder and a data folder of its own (--models-dir, --data-dir).",
        "This server does not get, copy, move or remove models: it has no folder to do so, or another process keeps that folder."},
    CatalogueEntry{Kind::model_damaged, 503, kUnavailable, "model_damaged", Retry::later,
        "Send the request again once the model is fetched again (GET /api/v1/jobs?kind=restore); if nothing fetches it, do what the message says.",
        "A file of the model holds other bytes than those that were recorded, or changed and is being read to see. It is not opened before it is whole."},
    CatalogueEntry{Kind::source_refused, 403, "permission_error", "source_refused", Retry::useless,
        "Check the name; have the operator give the server a token that the source accepts (HF_TOKEN), or take another source.",
        "The hub, registry or server that the model is pulled from or pushed to refuses it: it is not for everybody, or not there."},
};
// clang-format on

constexpr bool in_order() {
    for (std::size_t i = 0; i < kCatalogue.size(); ++i)
        if (static_cast<std::size_t>(kCatalogue[i].kind) != i) return false;
    return true;
}
static_assert(kCatalogue.size() == static_cast<std::size_t>(Kind::source_refused) + 1 && in_order());

Kind kind_of(Code code) {
    switch (code) {
        case Code::invalid_argument: return Kind::invalid_value;
        case Code::not_found: return Kind::model_not_found;
        case Code::overloaded: return Kind::overloaded;
        case Code::cancelled: return Kind::shutting_down;  // nobody hears of a cancel of their own
        case Code::deadline_exceeded: return Kind::request_timeout;
        case Code::unsupported: return Kind::unsupported_by_model;
        case Code::context_overflow: return Kind::context_length_exceeded;
        case Code::unavailable: return Kind::model_unavailable;
        case Code::engine_lost: return Kind::engine_lost;
        case Code::too_large: return Kind::request_too_large;
        case Code::exhausted: return Kind::insufficient_memory;
        case Code::internal:
        case Code::corrupt:
        case Code::io: return Kind::server_error;
    }
    return Kind::server_error;
}

// A deadline of the request is its own error, told by the field that set it.
Kind kind_of(Error const& error) {
    bool const late = error.code == Code::deadline_exceeded;
    if (late && (error.param == "prefill_timeout_ms" || error.param == "decode_timeout_ms"))
        return Kind::deadline_exceeded;
    if ((late || error.code == Code::overloaded) && error.param == "queue_timeout_ms") return Kind::queue_timeout;
    if (error.code == Code::unavailable && error.param == library::kDamaged) return Kind::model_damaged;
    return kind_of(error.code);
}

// Statuses the HTTP server sets on its own.
Kind kind_of_status(unsigned status, std::string_view param) {
    switch (status) {
        case 400: return Kind::malformed_http;
        case 403:
            if (param == "host") return Kind::forbidden_host;
            if (param == "origin") return Kind::forbidden_origin;
            return Kind::forbidden;
        case 404: return Kind::not_found;
        case 405: return Kind::method_not_allowed;
        case 408: return Kind::read_timeout;
        case 413: return Kind::request_too_large;
        case 414: return Kind::url_too_long;
        case 415: return Kind::unsupported_media_type;
        case 417: return Kind::expectation_failed;
        case 429: return Kind::overloaded;
        case 431: return Kind::header_too_large;
        case 501: return Kind::not_implemented;
        case 503: return Kind::too_many_connections;
        case 505: return Kind::http_version;
        default: return status < 500 ? Kind::malformed_http : Kind::server_error;
    }
}

// Messages from below are clauses; clients see sentences.
std::string sentence(std::string_view clause) {
    std::string out(clause);
    if (out.empty()) return out;
    if (out.front() >= 'a' && out.front() <= 'z') out.front() = static_cast<char>(out.front() - 32);
    if (out.back() != '.' && out.back() != '!' && out.back() != '?') out += '.';
    return out;
}

constexpr std::string_view kInternalMessage = "The server failed to answer this request.";

bool keeps_message(Kind kind) {
    return kind != Kind::server_error && kind != Kind::engine_lost && kind != Kind::model_unavailable;
}

std::string_view public_message(Kind kind) {
    if (kind == Kind::engine_lost) return "The model's process was lost while it worked on this request.";
    if (kind == Kind::model_unavailable) return "The model is not available at the moment.";
    return kInternalMessage;
}

std::string_view describe(Retry retry) {
    switch (retry) {
        case Retry::useless: return "no (x-should-retry: false)";
        case Retry::later: return "yes, after Retry-After";
        case Retry::undecided: return "may help";
    }
    return "";
}

}  // namespace

std::span<CatalogueEntry const> catalogue() { return kCatalogue; }

CatalogueEntry const& entry(Kind kind) {
    auto const index = static_cast<std::size_t>(kind);
    HEARTH_ASSERT(index < kCatalogue.size(), "every kind has a catalogue entry");
    return kCatalogue[index];
}

Problem make_problem(Kind kind, std::string message, std::string_view param) {
    Problem problem;
    problem.kind = kind;
    problem.message = std::move(message);
    problem.param = param;
    return problem;
}

Problem to_problem(Error const& error) {
    Problem problem;
    problem.kind = kind_of(error);
    problem.param = problem.kind == Kind::model_damaged ? std::string() : error.param;
    if (keeps_message(problem.kind)) {
        problem.message = sentence(error.message);
    } else {
        problem.message = public_message(problem.kind);
        problem.internal = error.message;
        problem.param.clear();
    }
    if (auto const numbers = domain::parse_context_overflow(error)) {
        problem.n_prompt_tokens = numbers->prompt_tokens;
        problem.n_ctx = numbers->context;
    }
    return problem;
}

std::string error_body(Problem const& problem, std::string_view request_id) {
    auto const& row = entry(problem.kind);
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("error").begin_object();
    json.key("message").string(problem.message);
    json.key("type").string(row.type);
    json.key("param");
    if (problem.param.empty()) json.null();
    else json.string(problem.param);
    json.key("code").string(row.code);
    if (problem.n_prompt_tokens) json.key("n_prompt_tokens").number(*problem.n_prompt_tokens);
    if (problem.n_ctx) json.key("n_ctx").number(*problem.n_ctx);
    json.key("request_id").string(request_id);
    json.key("hint").string(row.hint);
    json.key("doc").string(fmt::format("/docs/errors#{}", row.code));
    json.end_object().end_object();
    return out;
}

http::Response error_response(Problem const& problem, std::string_view request_id) {
    auto const& row = entry(problem.kind);
    http::Response response;
    response.status = row.status;
    response.body = error_body(problem, request_id);
    if (row.retry == Retry::useless) response.headers.emplace_back("x-should-retry", "false");
    if (row.retry == Retry::later)
        response.headers.emplace_back("Retry-After",
                                      std::to_string(std::max(1U, problem.retry_after_s.value_or(kRetryAfterS))));
    return response;
}

void log_problem(telemetry::Log& log, Problem const& problem, std::string_view request_id) {
    auto const& row = entry(problem.kind);
    if (row.status < 500) {
        log.info(
            "request refused",
            {{"request_id", request_id}, {"code", row.code}, {"status", row.status}, {"message", problem.message}});
        return;
    }
    auto const level = problem.kind == Kind::server_error ? telemetry::Level::error : telemetry::Level::warning;
    log.write(level, "request failed",
              {{"request_id", request_id},
               {"code", row.code},
               {"status", row.status},
               {"message", problem.internal.empty() ? problem.message : problem.internal}});
}

http::Response render_error(http::Request const& request, unsigned status, Error const& error) {
    Problem problem;
    problem.kind = kind_of_status(status, error.param);
    bool const internal = entry(problem.kind).status == 500;
    problem.message = internal ? std::string(kInternalMessage) : sentence(error.message);
    bool const by_ollama = ollama::speaks(request.path);
    auto response = (by_ollama ? ollama::error_response : error_response)(problem, request.id);
    response.status = status;
    return response;
}

std::string catalogue_html() {
    std::string out =
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Hearth: errors</title>\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
        "h2{font-family:monospace;margin-top:2rem}:target{background:#fff3bf}</style></head>\n<body>\n<h1>Errors</h1>\n"
        "<p>Every error body holds one of these codes, and a <code>request_id</code> that stands in the server's log "
        "too.</p>\n";
    for (auto const& row : kCatalogue) {
        out += fmt::format(
            "<h2 id=\"{0}\">{0}</h2>\n<p>HTTP {1}, type <code>{2}</code>. Retry: {3}.</p>\n<p>{4}</p>\n<p><b>What to "
            "do:</b> {5}</p>\n",
            row.code, row.status, row.type, describe(row.retry), row.meaning, row.hint);
    }
    return out + "</body>\n</html>\n";
}

std::string catalogue_markdown() {
    std::string out = "| code | HTTP | type | retry | meaning | what to do |\n|---|---|---|---|---|---|\n";
    for (auto const& row : kCatalogue)
        out += fmt::format("| <a id=\"{0}\"></a>`{0}` | {1} | `{2}` | {3} | {4} | {5} |\n", row.code, row.status,
                           row.type, describe(row.retry), row.meaning, row.hint);
    return out;
}

}  // namespace hearth::api
