#include "api/ollama/errors.h"

#include <fmt/format.h>

#include "api/json_writer.h"

namespace hearth::api::ollama {
namespace {

constexpr std::size_t kNameShown = 128;

bool is_busy(Kind kind) { return kind == Kind::overloaded || kind == Kind::queue_timeout; }

}  // namespace

bool speaks(std::string_view path) {
    return (path == "/api" || path.starts_with("/api/")) && path != "/api/v1" && !path.starts_with("/api/v1/");
}

std::string error_body(Problem const& problem) {
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("error");
    if (is_busy(problem.kind)) json.string("server busy, please try again: " + problem.message);
    else json.string(problem.message);
    json.end_object();
    return out;
}

http::Response error_response(Problem const& problem, std::string_view request_id) {
    auto response = api::error_response(problem, request_id);
    if (is_busy(problem.kind)) response.status = 503;
    response.body = error_body(problem);
    return response;
}

Problem model_not_found(std::string_view model) {
    return make_problem(Kind::model_not_found, fmt::format("model '{}' not found", model.substr(0, kNameShown)),
                        "model");
}

Problem model_to_pull(std::string_view model) {
    return make_problem(Kind::model_not_found,
                        fmt::format("model \"{}\" not found, try pulling it first", model.substr(0, kNameShown)),
                        "model");
}

Problem model_required() { return make_problem(Kind::missing_required_parameter, "model is required", "model"); }

Problem does_not_support(std::string_view model, std::string_view capability) {
    return make_problem(Kind::unsupported_by_model,
                        fmt::format("\"{}\" does not support {}", model.substr(0, kNameShown), capability));
}

}  // namespace hearth::api::ollama
