// What every request for a model begins with: its body, its tenant, and the model it
// asks for. Private to the dialect.
//
// `C` is Call or EmbedCall; both are opened alike.
//
// Threads: the loop's.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "api/content.h"
#include "api/ollama/errors.h"
#include "api/ollama/lookup.h"
#include "api/ollama/request.h"
#include "api/tenant.h"
#include "api/values.h"

namespace hearth::api::ollama {

[[nodiscard]] inline std::span<domain::GenerateRequest> requests_of(Call& call) { return {&call.request, 1}; }
[[nodiscard]] inline std::span<domain::GenerateRequest> requests_of(EmbedCall& call) { return call.generations; }

// Everything the body alone tells, as `parse` reads it; its requests know deadlines and tenant.
template <typename C, typename Parse>
std::variant<C, Problem> read_call(Services& services, http::Request const& request, Parse parse) {
    if (auto problem = check_content(request)) return *std::move(problem);
    auto const tenant = tenant_of(services.options, request);
    if (auto const* problem = std::get_if<Problem>(&tenant)) return *problem;
    std::variant<C, Problem> parsed = parse(std::string_view(request.body));
    if (std::holds_alternative<Problem>(parsed)) return parsed;
    auto& call = std::get<C>(parsed);
    log_unknown(services, request, call.unknown_fields, call.unknown_options);
    if (call.model.empty()) return model_required();
    for (auto& each : requests_of(call)) {
        each.deadlines = services.options.deadlines;
        each.tenant = std::get<std::string>(tenant);
    }
    return parsed;
}

// The model it asks for, which is among those of the pool then, and named in its requests.
template <typename C>
net::Task<std::variant<serving::ModelStatus, Problem>> open_for(Services& services, C& call,
                                                                library::Onlooker* onlooker) {
    auto opened = co_await open(services, call.model, onlooker);
    if (auto const* model = std::get_if<serving::ModelStatus>(&opened))
        for (auto& each : requests_of(call)) each.model = model->id;
    co_return opened;
}

}  // namespace hearth::api::ollama
