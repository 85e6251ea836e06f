#include "api/definition.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <variant>

#include "api/defined_request.h"
#include "api/json_document.h"
#include "api/ollama/draft.h"
#include "api/ollama/fields.h"

namespace hearth::api {

Verdict apply_parameters(modelfile::Definition const& definition, domain::GenerateRequest& request) {
    if (definition.options.empty()) return std::nullopt;
    auto const document = JsonDocument::parse(definition.options);
    if (!document || document->root().kind() != JsonKind::object)
        return to_problem(Error(Code::corrupt, "the model's parameters are no JSON object"));
    ollama::Draft draft;
    draft.request = std::move(request);
    for (auto const& option : ollama::options()) {
        auto const value = document->root().find(option.name);
        if (!value || option.name == "num_ctx") continue;
        if (auto problem = option.read(option, *value, draft)) {
            problem->message = "the model's own parameters: " + problem->message;
            return problem;
        }
    }
    request = std::move(draft.request);
    return std::nullopt;
}

void open_conversation(modelfile::Definition const& definition, Opening opening,
                       std::vector<domain::Message>& messages) {
    std::vector<domain::Message> opened;
    if (!definition.system.empty() && messages.front().role != "system")
        opened.push_back({"system", definition.system});
    if (opening == Opening::all)
        for (auto const& [role, content] : definition.messages) opened.push_back({role, content});
    std::ranges::move(messages, std::back_inserter(opened));
    messages = std::move(opened);
}

Status apply_definition(modelfile::Definition const& definition, domain::GenerateRequest& request) {
    if (auto problem = apply_parameters(definition, request)) {
        auto const code = problem->internal.empty() ? Code::invalid_argument : Code::corrupt;
        auto& said = problem->internal.empty() ? problem->message : problem->internal;
        return Error(code, std::move(said), std::move(problem->param));
    }
    auto* const chat = std::get_if<domain::ChatPrompt>(&request.prompt);
    if (chat != nullptr && !chat->messages.empty()) open_conversation(definition, Opening::all, chat->messages);
    return ok();
}

}  // namespace hearth::api
