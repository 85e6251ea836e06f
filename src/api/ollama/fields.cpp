#include "api/ollama/fields.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "api/field_table.h"
#include "api/keep_alive.h"
#include "api/ollama/messages.h"
#include "base/ascii.h"

namespace hearth::api::ollama {
namespace {

using enum Surface;
using enum Action;

template <bool Draft::* Member>
Verdict flag(Field const& field, JsonView value, Draft& draft) {
    return read_boolean(field.name, value, draft.*Member);
}

template <std::optional<bool> Draft::* Member>
Verdict maybe(Field const& field, JsonView value, Draft& draft) {
    return read_boolean(field.name, value, (draft.*Member).emplace());
}

template <std::string Draft::* Member>
Verdict text(Field const& field, JsonView value, Draft& draft) {
    return read_string(field.name, value, draft.*Member);
}

Verdict messages(Field const&, JsonView value, Draft& draft) { return read_messages(value, draft); }

// What no model can do here; only an empty value passes.
Verdict lacking(std::string_view capability, Field const& field, JsonView value, Draft& draft) {
    bool const list = value.kind() == JsonKind::array;
    bool const word = value.kind() == JsonKind::string;
    if (!list && !word) return wrong_type(field.name, "an array", value);
    bool const empty = list ? value.size() == 0 : value.as_string().empty();
    if (!empty && draft.lacks.empty()) draft.lacks = capability;
    return std::nullopt;
}

Verdict tools(Field const& field, JsonView value, Draft& draft) { return lacking("tools", field, value, draft); }
Verdict images(Field const& field, JsonView value, Draft& draft) { return lacking("vision", field, value, draft); }

Verdict think(Field const&, JsonView value, Draft& draft) {
    constexpr std::array<std::string_view, 4> kEfforts{"low", "medium", "high", "max"};
    bool const word =
        value.kind() == JsonKind::string && std::ranges::find(kEfforts, value.as_string()) != kEfforts.end();
    if (value.kind() != JsonKind::boolean && !word) {
        return invalid_value(
            "think",
            fmt::format("invalid think value: {} (must be \"low\", \"medium\", \"high\", \"max\", true, or false)",
                        quote(value)));
    }
    bool const wanted = word || value.as_boolean();
    if (wanted && draft.lacks.empty()) draft.lacks = "thinking";
    return std::nullopt;
}

Verdict format(Field const&, JsonView value, Draft&) {
    bool const word = value.kind() == JsonKind::string;
    if (word && value.as_string().empty()) return std::nullopt;
    if (value.kind() == JsonKind::object || (word && value.as_string() == "json")) {
        return make_problem(
            Kind::unsupported_parameter,
            "\"format\" is not supported by this server: answers cannot be held to JSON or to a schema yet", "format");
    }
    return invalid_value("format", fmt::format("invalid format: {}; expected \"json\" or a JSON schema", quote(value)));
}

Verdict context(Field const& field, JsonView value, Draft& draft) {
    if (value.kind() != JsonKind::array) return wrong_type(field.name, "an array", value);
    if (auto problem = read_array(field.name, value, domain::kContextTokensMax, "tokens")) return problem;
    draft.request.context.clear();
    for (std::size_t i = 0; i < value.size(); ++i) {
        std::int64_t token = 0;
        auto problem = read_integer(fmt::format("{}[{}]", field.name, i), value.at(i), 0,
                                    std::numeric_limits<domain::Token>::max(), token);
        if (problem) return problem;
        draft.request.context.push_back(static_cast<domain::Token>(token));
    }
    return std::nullopt;
}

Verdict keep_alive(Field const& field, JsonView value, Draft& draft) {
    return read_keep_alive(field.name, value, draft.request.keep_alive);
}

Verdict top_logprobs(Field const& field, JsonView value, Draft& draft) {
    std::int64_t count = 0;
    if (auto problem = read_integer(field.name, value, 0, domain::kLogprobsMax, count)) return problem;
    draft.top_logprobs = static_cast<std::uint32_t>(count);
    return std::nullopt;
}

// A string or strings; "" is none where it stands alone.
Verdict inputs(Field const& field, JsonView value, Draft& draft) {
    if (value.kind() == JsonKind::string) {
        if (!value.as_string().empty()) draft.inputs.emplace_back(value.as_string());
        return std::nullopt;
    }
    if (value.kind() != JsonKind::array) return invalid_value(field.name, "invalid input type");
    for (std::size_t i = 0; i < value.size(); ++i) {
        if (value.at(i).kind() != JsonKind::string) return invalid_value(field.name, "invalid input type");
        draft.inputs.emplace_back(value.at(i).as_string());
    }
    return std::nullopt;
}

Verdict one_input(Field const& field, JsonView value, Draft& draft) {
    std::string text;
    if (auto problem = read_string(field.name, value, text)) return problem;
    if (!text.empty()) draft.inputs.emplace_back(std::move(text));
    return std::nullopt;
}

Verdict dimensions(Field const& field, JsonView value, Draft& draft) {
    std::int64_t count = 0;
    if (auto problem = read_integer(field.name, value, 0, domain::kEmbeddingWidthMax, count)) return problem;
    if (count > 0) draft.dimensions = static_cast<std::uint32_t>(count);
    return std::nullopt;
}

// Entries that are not known are Ollama's warning, not its error.
Verdict read_options(Field const& field, JsonView value, Draft& draft) {
    if (auto problem = read_object(field.name, value)) return problem;
    for (auto const& option : options()) {
        auto const entry = value.find(option.name);
        if (!entry) continue;
        if (auto problem = option.read(option, *entry, draft)) return problem;
    }
    value.for_each_member([&](std::string const& name, JsonView) {
        bool const known = std::ranges::find(options(), name, &Field::name) != options().end();
        if (!known) add_unknown(draft.unknown_options, name);
    });
    return std::nullopt;
}

// clang-format off
constexpr Field kFields[] = {
    {"model",        all,      honoured, "string",  "a served model, by its id or by Ollama's name of it: NAME, NAME:latest, any case", text<&Draft::model>},
    {"messages",     chat,     honoured, "array",   "at most 4096 of role system, user or assistant with `content` as text; none or an empty list loads the model. `thinking` "
                                                    "makes no difference; `images`, `tool_calls` and role tool are refused unless empty", messages},
    {"prompt",       generate, honoured, "string",  "put into the model's chat template as a user message (as it is where the model has none); none or \"\" loads the model",
     text<&Draft::prompt>},
    {"input",        embed,    honoured, "string or array", "a text or texts, as many as fit in a body; none or \"\" loads the model", inputs},
    {"prompt",       embeddings, honoured, "string", "one text; none or \"\" loads the model", one_input},
    {"dimensions",   embed,    honoured, "integer", "the first of each vector, scaled to length 1 again; 0, the default, and more than there are: all", dimensions},
    {"truncate",     embed,    honoured, "boolean", "default true: a text that is too long loses its end; false: \"the input length exceeds the context length\"",
     maybe<&Draft::truncate>},
    {"system",       generate, honoured, "string",  "a system message before it; an error where the model has no chat template", text<&Draft::system>},
    {"raw",          generate, honoured, "boolean", "default false; true: the prompt as it is, without a template. Names of special tokens in it are "
                                                    "those tokens, which they are in no other text",
     flag<&Draft::raw>},
    {"template",     generate, honoured, "string",  "a template in Go's language that is known (docs/modelfiles.md), in place of the model's own; any other is an error. "
                                                    "Not with `raw` or `suffix`", text<&Draft::custom_template>},
    {"context",      generate, honoured, "array",   "what an earlier answer's `context` was, at most 1048576 tokens: the prompt goes on behind it", context},
    {"suffix",       generate, honoured, "string",  "not empty: what stands between `prompt` and it is written. Not with `raw`, `system`, `template` or `context`; \"does not "
                                                    "support insert\" where the model's vocabulary has no tokens for that", text<&Draft::suffix>},
    {"images",       generate, refused,  "array",   "empty: \"does not support vision\"", images},
    {"tools",        chat,     refused,  "array",   "empty: \"does not support tools\"", tools},
    {"think",        both,     refused,  "boolean or string", "false: \"does not support thinking\"", think},
    {"format",       both,     refused,  "string or object", "\"\": answers cannot be held to a format yet", format},
    {"options",      all,      honoured, "object",  "see below; entries that are not known are named in a warning of the log", read_options},
    {"stream",       both,     honoured, "boolean", "default true: application/x-ndjson, one object a line; false: one object", flag<&Draft::stream>},
    {"keep_alive",   all,      honoured, "string or number", "how long the model stays loaded once it is idle (Go's durations, seconds, negative for ever), until a "
                                                    "request says otherwise; default: --keep-alive. 0 with nothing to answer unloads it", keep_alive},
    {"truncate",     both,     honoured, "boolean", "default true: a prompt that is too long loses tokens from its middle; false: it is an error", maybe<&Draft::truncate>},
    {"shift",        both,     honoured, "boolean", "default as `truncate`: a full context makes room and the answer goes on; false: it ends with done_reason length. "
                                                    "true with truncate false is an error", maybe<&Draft::shift>},
    {"logprobs",     both,     honoured, "boolean", "default false", flag<&Draft::logprobs>},
    {"top_logprobs", both,     honoured, "integer", "0 to 20 alternatives per token, needs logprobs", top_logprobs},
};
// clang-format on

std::string_view spell(Surface surface) {
    switch (surface) {
        case chat: return "chat";
        case generate: return "generate";
        case both: return "both";
        case embed: return "embed";
        case embeddings: return "embeddings";
        case all: return "all";
    }
    return "";
}

std::string row(Field const& field, std::string_view prefix) {
    constexpr std::array<std::string_view, 3> kBefore{"", "ignored: ", "an error unless "};
    return fmt::format("| `{}{}` | {} | {} | {}{} |\n", prefix, field.name, spell(field.surface), field.type,
                       kBefore[static_cast<std::size_t>(field.action)], field.what);
}

}  // namespace

std::span<Field const> fields() { return kFields; }

std::string fields_markdown() {
    std::string out = "| field | endpoint | type | what Hearth does |\n|---|---|---|---|\n";
    for (auto const& field : fields()) out += row(field, "");
    for (auto const& option : options()) out += row(option, "options.");
    return out;
}

}  // namespace hearth::api::ollama
