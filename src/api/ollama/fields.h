// The field table: every field of the routes that run a model, and every entry
// of their "options", one line each, with what Hearth does about it.
//
// The table is the behaviour and the documentation: docs/api/ollama.md is made
// from it. A field that is not in it is tolerated and named in the log.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "api/json_document.h"
#include "api/ollama/draft.h"

namespace hearth::api::ollama {

enum class Action : std::uint8_t {
    honoured,  // does what it says
    ignored,   // checked for its type; makes no difference to the answer
    refused    // an error unless it holds its neutral value
};

struct Field {
    std::string_view name;
    Surface surface;
    Action action;
    std::string_view type;  // of an option as Ollama's errors name it
    std::string_view what;  // for the documentation
    Verdict (*read)(Field const& field, JsonView value, Draft& draft);
};

// In the order in which they are read.
[[nodiscard]] std::span<Field const> fields();
[[nodiscard]] std::span<Field const> options();

// The table for docs/api/ollama.md.
[[nodiscard]] std::string fields_markdown();

}  // namespace hearth::api::ollama
