// POST /api/create. Private to the dialect.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "api/errors.h"
#include "api/routes.h"
#include "http/server.h"
#include "library/creation.h"
#include "net/task.h"

namespace hearth::api::ollama {

struct CreateCall {
    library::CreateOrder order;
    bool stream = true;
};

// Parameters are known by name and of their type when it succeeds.
[[nodiscard]] std::variant<CreateCall, Problem> parse_create(std::string_view body);

// Lines of progress, or with "stream": false the last one. A client that leaves ends it.
net::Task<void> create_model(Services& services, http::Exchange& exchange);

}  // namespace hearth::api::ollama
