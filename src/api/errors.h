// The error catalogue: every error a client can see, one line each.
//
// A Kind fixes the HTTP status, OpenAI's `type`, our stable `code`, the hint
// that says how to recover, and whether a retry makes sense. A Problem is one
// occurrence. Bodies, headers, the page /docs/errors and docs/api/errors.md all
// come from the same table.
//
// Internal errors never carry their message to a client: it goes to the log
// under the request id.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/server.h"

namespace hearth::telemetry {
class Log;
}

namespace hearth::api {

enum class Kind : std::uint8_t {
    malformed_http,
    invalid_json,
    missing_required_parameter,
    invalid_type,
    invalid_value,
    unsupported_parameter,
    unsupported_value,
    unsupported_content,
    unsupported_by_model,
    context_length_exceeded,
    forbidden,
    forbidden_host,
    forbidden_origin,
    model_not_found,
    not_found,
    method_not_allowed,
    read_timeout,
    request_too_large,
    url_too_long,
    unsupported_media_type,
    expectation_failed,
    overloaded,
    header_too_large,
    shutting_down,
    model_loading,
    model_unavailable,
    too_many_connections,
    engine_lost,
    not_implemented,
    http_version,
    server_error,
    request_timeout,
    queue_timeout,
    deadline_exceeded,
    request_cancelled,
    request_not_found,
    endpoint_disabled,
    no_slot_available,
    insufficient_memory,
    template_changed,
    job_not_found,
    no_library,
    model_damaged,
    source_refused,
};

enum class Retry : std::uint8_t {
    useless,   // x-should-retry: false; the same request fails again
    later,     // Retry-After
    undecided  // neither header
};

struct CatalogueEntry {
    Kind kind;
    unsigned status;
    std::string_view type;  // OpenAI's error.type
    std::string_view code;  // stable, the anchor of its documentation
    Retry retry;
    std::string_view hint;     // what the caller can do, one sentence
    std::string_view meaning;  // for the documentation
};

// In the order of Kind.
[[nodiscard]] std::span<CatalogueEntry const> catalogue();
[[nodiscard]] CatalogueEntry const& entry(Kind kind);

struct Problem {
    Kind kind = Kind::server_error;
    std::string message;  // for the client
    std::string param;    // the offending field, empty if none
    std::optional<std::uint32_t> n_prompt_tokens;  // context_length_exceeded
    std::optional<std::uint32_t> n_ctx;
    std::optional<std::uint32_t> retry_after_s;  // overrides the catalogue's; at least 1 is said
    std::string internal;                        // for the log only
};

// `param` names the offending field, if there is one.
[[nodiscard]] Problem make_problem(Kind kind, std::string message, std::string_view param = {});

// An error from below, met while serving a generation. Messages of internal
// codes move to `internal`.
[[nodiscard]] Problem to_problem(Error const& error);

// {"error":{...}}: the body of an HTTP error, and the payload of an in-band one.
[[nodiscard]] std::string error_body(Problem const& problem, std::string_view request_id);

// Status, body and the retry headers.
[[nodiscard]] http::Response error_response(Problem const& problem, std::string_view request_id);

// One line: client errors at info, ours at warning or error with `internal`.
void log_problem(telemetry::Log& log, Problem const& problem, std::string_view request_id);

// The catalogue as a page with one anchor per code, and as Markdown.
[[nodiscard]] std::string catalogue_html();
[[nodiscard]] std::string catalogue_markdown();

}  // namespace hearth::api
