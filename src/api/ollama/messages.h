// Messages of /api/chat. Private to the dialect.
#pragma once

#include "api/json_document.h"
#include "api/ollama/draft.h"

namespace hearth::api::ollama {

// Role and text of each message; notes in `draft` what no model can do here.
[[nodiscard]] Verdict read_messages(JsonView value, Draft& draft);

}  // namespace hearth::api::ollama
