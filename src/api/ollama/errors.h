// Errors in Ollama's shape: {"error":"text"}. Private to the dialect.
#pragma once

#include <string>
#include <string_view>

#include "api/errors.h"
#include "http/server.h"

namespace hearth::api::ollama {

// Whether a path is this dialect's, also where no route has it.
[[nodiscard]] bool speaks(std::string_view path);

// {"error":"text"}
[[nodiscard]] std::string error_body(Problem const& problem);

// As api::error_response, but the body is Ollama's, and a queue that is full is
// 503 and begins with "server busy", which its clients look for.
[[nodiscard]] http::Response error_response(Problem const& problem, std::string_view request_id);

// 404: model 'x' not found
[[nodiscard]] Problem model_not_found(std::string_view model);
// The same as the routes for vectors say it: model "x" not found, try pulling it first
[[nodiscard]] Problem model_to_pull(std::string_view model);
// 400: model is required
[[nodiscard]] Problem model_required();

// 400: "x" does not support tools
[[nodiscard]] Problem does_not_support(std::string_view model, std::string_view capability);

}  // namespace hearth::api::ollama
