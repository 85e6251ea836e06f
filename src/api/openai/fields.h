// The field table: every request field of the OpenAI dialect that Hearth knows,
// one line each, with what it does about it.
//
// The table is the behaviour and the documentation: docs/api/openai.md is made
// from it. A field that is not in it is tolerated and named in the debug log. A
// field that would change the answer and cannot be honoured is refused unless
// it holds its neutral value.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "api/json_document.h"
#include "api/openai/draft.h"

namespace hearth::api::openai {

enum class Action : std::uint8_t {
    honoured,  // does what it says
    ignored,   // checked for its type; makes no difference to the answer
    refused    // 400 unless it holds the neutral value
};

struct Field {
    std::string_view name;
    Surface surface;
    Action action;
    std::string_view type;   // for the documentation
    std::string_view range;  // honoured: limits and default; refused: the neutral value
    Verdict (*read)(Field const& field, JsonView value, Draft& draft);
};

// In the order in which fields are read: where two fields mean the same, the later one wins.
[[nodiscard]] std::span<Field const> fields();

// The table for docs/api/openai.md.
[[nodiscard]] std::string fields_markdown();

}  // namespace hearth::api::openai
