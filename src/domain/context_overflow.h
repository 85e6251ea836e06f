// The one spelling of "the prompt does not fit": made by the engine, read back
// by the dialects, whose error bodies carry both numbers as fields.
//
// The numbers travel inside the message, so that Error and the worker frames
// stay as they are.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"

namespace hearth::domain {

struct ContextOverflow {
    std::uint32_t prompt_tokens = 0;
    std::uint32_t context = 0;  // tokens one request may use, prompt and output together
    bool operator==(ContextOverflow const&) const = default;
};

// An Error{context_overflow} whose message quotes both numbers.
[[nodiscard]] Error context_overflow(ContextOverflow numbers);

// The numbers of an error made by context_overflow(); nothing for any other.
[[nodiscard]] std::optional<ContextOverflow> parse_context_overflow(Error const& error);

}  // namespace hearth::domain
