// POST /api/create. Private to the dialect.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "api/errors.h"
#include "api/routes.h"
#include "http/server.h"
#include "modelfile/modelfile.h"
#include "net/task.h"

namespace hearth::api::ollama {

struct CreateCall {
    std::string model;
    modelfile::Modelfile modelfile;  // `from` is a model's name
    bool stream = true;
};

// Parameters are known by name and of their type when it succeeds.
[[nodiscard]] std::variant<CreateCall, Problem> parse_create(std::string_view body);

net::Task<void> create_model(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::ollama
