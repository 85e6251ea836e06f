#include "api/ollama/messages.h"

#include <string>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::api::ollama {
namespace {

void note(Draft& draft, std::string_view capability) {
    if (draft.lacks.empty()) draft.lacks = capability;
}

Verdict read_role(std::string const& path, JsonView message, Draft& draft, std::string& role) {
    auto const value = message.find("role");
    if (!value) return missing(path + ".role");
    if (auto problem = read_string(path + ".role", *value, role)) return problem;
    role = ascii_lower(role);
    if (role == "tool") note(draft, "tools");
    if (role == "system" || role == "user" || role == "assistant" || role == "tool") return std::nullopt;
    return invalid_value(path + ".role", fmt::format("invalid role {} in {}: it must be system, user or assistant",
                                                     quote(*value), path));
}

// Lists that only a model with the capability could read.
Verdict read_list(std::string const& path, std::string_view name, std::string_view capability, JsonView message,
                  Draft& draft) {
    auto const value = message.find(name);
    if (!value) return std::nullopt;
    if (value->kind() != JsonKind::array) return wrong_type(fmt::format("{}.{}", path, name), "an array", *value);
    if (value->size() > 0) note(draft, capability);
    return std::nullopt;
}

Verdict read_message(std::size_t index, JsonView message, Draft& draft) {
    auto const path = fmt::format("messages[{}]", index);
    if (auto problem = read_object(path, message)) return problem;
    auto& out = draft.chat.messages.emplace_back();
    if (auto problem = read_role(path, message, draft, out.role)) return problem;
    if (auto problem = read_list(path, "images", "vision", message, draft)) return problem;
    if (auto problem = read_list(path, "tool_calls", "tools", message, draft)) return problem;
    // What a model thought is not part of the history of one that does not think.
    std::string thinking;
    if (auto const value = message.find("thinking"))
        if (auto problem = read_string(path + ".thinking", *value, thinking)) return problem;
    auto const content = message.find("content");
    return content ? read_string(path + ".content", *content, out.content) : std::nullopt;
}

}  // namespace

Verdict read_messages(JsonView value, Draft& draft) {
    if (auto problem = read_array("messages", value, domain::kMessagesMax, "messages")) return problem;
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_message(i, value.at(i), draft)) return problem;
    return std::nullopt;
}

}  // namespace hearth::api::ollama
