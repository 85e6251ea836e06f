#include "api/openai/messages.h"

#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "api/openai/billing_line.h"
#include "api/values.h"

namespace hearth::api::openai {
namespace {

constexpr std::int64_t kTokenMax = std::numeric_limits<domain::Token>::max();

Problem unsupported_content(std::string_view field, std::string message) {
    return make_problem(Kind::unsupported_content, std::move(message), field);
}

Verdict read_role(std::string const& path, JsonView message, std::string& role) {
    auto const field = path + ".role";
    auto const value = message.find("role");
    if (!value) return missing(field);
    if (auto problem = read_string(field, *value, role)) return problem;
    if (role == "developer") role = "system";
    if (role == "system" || role == "user" || role == "assistant") return std::nullopt;
    if (role == "tool" || role == "function") {
        return make_problem(
            Kind::unsupported_value,
            fmt::format(
                "'{}' is '{}': tool calls are not supported by this server; use system, developer, user or assistant.",
                field, role),
            field);
    }
    return invalid_value(
        field, fmt::format("'{}' must be one of system, developer, user and assistant, got {}.", field, quote(*value)));
}

// Text of one content part. A refusal is what the assistant said.
Verdict read_part(std::string const& field, JsonView part, std::string const& role, std::string& text) {
    if (part.kind() == JsonKind::string) {
        text += part.as_string();
        return std::nullopt;
    }
    if (auto problem = read_object(field, part)) return problem;
    auto const type = part.find("type");
    if (!type) return missing(field + ".type");
    if (type->kind() != JsonKind::string) return wrong_type(field + ".type", "a string", *type);
    auto const& name = type->as_string();
    bool const is_text = name == "text" || (name == "refusal" && role == "assistant");
    if (!is_text)
        return unsupported_content(
            field + ".type",
            fmt::format("'{}.type' is {}: only text parts are supported by this server.", field, quote(*type)));
    auto const value = part.find(name);
    if (!value) return missing(fmt::format("{}.{}", field, name));
    std::string piece;
    if (auto problem = read_string(fmt::format("{}.{}", field, name), *value, piece)) return problem;
    if (role == "system") settle_billing_line(piece);
    text += piece;
    return std::nullopt;
}

// Parts are joined with a line break, as llama-server joins them for templates that take plain text.
Verdict read_parts(std::string const& field, JsonView parts, std::string const& role, std::string& text) {
    if (auto problem = read_array(field, parts, kPartsMax, "parts")) return problem;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        if (!text.empty()) text += '\n';
        if (auto problem = read_part(fmt::format("{}[{}]", field, i), parts.at(i), role, text)) return problem;
    }
    return std::nullopt;
}

Verdict read_content(std::string const& path, JsonView message, domain::Message& out) {
    auto const field = path + ".content";
    auto const content = message.find("content");
    if (!content) {
        if (out.role != "assistant") return missing(field);
        if (auto const refusal = message.find("refusal")) return read_string(path + ".refusal", *refusal, out.content);
        return std::nullopt;
    }
    if (content->kind() == JsonKind::string) {
        out.content = content->as_string();
        if (out.role == "system") settle_billing_line(out.content);
        return std::nullopt;
    }
    if (content->kind() != JsonKind::array) return wrong_type(field, "a string or an array of parts", *content);
    return read_parts(field, *content, out.role, out.content);
}

// History that the prompt would need and cannot hold yet.
Verdict refuse_history(std::string const& path, JsonView message) {
    for (std::string_view const name : {"tool_calls", "function_call", "audio", "tool_call_id"}) {
        auto const value = message.find(name);
        bool const empty =
            value && (value->kind() == JsonKind::array || value->kind() == JsonKind::object) && value->size() == 0;
        if (value && !empty) return unsupported(fmt::format("{}.{}", path, name), *value, "absent or empty");
    }
    return std::nullopt;
}

Verdict read_message(std::size_t index, JsonView message, domain::Message& out) {
    auto const path = fmt::format("messages[{}]", index);
    if (auto problem = read_object(path, message)) return problem;
    if (auto problem = read_role(path, message, out.role)) return problem;
    if (auto problem = refuse_history(path, message)) return problem;
    if (auto const name = message.find("name"); name && name->kind() != JsonKind::string)
        return wrong_type(path + ".name", "a string", *name);
    return read_content(path, message, out);
}

Verdict read_tokens(std::string const& field, JsonView value, std::vector<domain::Token>& tokens) {
    if (auto problem = read_array(field, value, domain::kPromptBytesMax / sizeof(domain::Token), "tokens"))
        return problem;
    tokens.reserve(value.size());
    for (std::size_t i = 0; i < value.size(); ++i) {
        auto const element = value.at(i);
        if (element.kind() != JsonKind::integer)
            return wrong_type(fmt::format("{}[{}]", field, i), "a token id", element);
        auto const token = element.as_integer();
        if (!token || *token < 0 || *token > kTokenMax)
            return invalid_value(
                field, fmt::format("'{}[{}]' must be between 0 and {}, got {}.", field, i, kTokenMax, quote(element)));
        tokens.push_back(static_cast<domain::Token>(*token));
    }
    return std::nullopt;
}

Verdict read_one_prompt(std::string const& field, JsonView value, Draft& draft) {
    if (value.kind() == JsonKind::string) {
        draft.prompts.emplace_back(domain::TextPrompt{value.as_string()});
        return std::nullopt;
    }
    if (value.kind() != JsonKind::array) return wrong_type(field, "a string or an array of token ids", value);
    domain::TokenPrompt prompt;
    if (auto problem = read_tokens(field, value, prompt.tokens)) return problem;
    draft.prompts.emplace_back(std::move(prompt));
    return std::nullopt;
}

}  // namespace

Verdict read_messages(JsonView value, Draft& draft) {
    if (auto problem = read_array("messages", value, domain::kMessagesMax, "messages")) return problem;
    if (value.size() == 0) return invalid_value("messages", "'messages' must hold at least one message.");
    domain::ChatPrompt prompt;
    prompt.messages.resize(value.size());
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_message(i, value.at(i), prompt.messages[i])) return problem;
    draft.prompts.emplace_back(std::move(prompt));
    return std::nullopt;
}

Verdict read_prompt(JsonView value, Draft& draft) {
    if (value.kind() == JsonKind::string) return read_one_prompt("prompt", value, draft);
    if (value.kind() != JsonKind::array) return wrong_type("prompt", "a string or an array", value);
    if (value.size() == 0) return invalid_value("prompt", "'prompt' must hold at least one prompt.");
    if (value.at(0).kind() == JsonKind::integer) return read_one_prompt("prompt", value, draft);
    if (auto problem = read_array("prompt", value, kPromptsMax, "prompts")) return problem;
    for (std::size_t i = 0; i < value.size(); ++i)
        if (auto problem = read_one_prompt(fmt::format("prompt[{}]", i), value.at(i), draft)) return problem;
    return std::nullopt;
}

}  // namespace hearth::api::openai
