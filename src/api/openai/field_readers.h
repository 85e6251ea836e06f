// What one line of the field table can do with a value. Private to the dialect.
//
// Generic readers are templates over the member they fill; refusals are
// templates over the neutral value they let pass.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "api/json_document.h"
#include "api/openai/draft.h"
#include "api/openai/fields.h"
#include "api/values.h"

namespace hearth::api::openai {

// --- honoured ---

// A member of SamplingParams; validate() checks its range.
template <auto Member>
Verdict read_sampling(Field const& field, JsonView value, Draft& draft) {
    auto& target = draft.request.sampling.*Member;
    using Target = std::remove_reference_t<decltype(target)>;
    if constexpr (std::is_same_v<Target, float>) {
        return read_float(field.name, value, target);
    } else if constexpr (std::is_same_v<Target, bool>) {
        return read_boolean(field.name, value, target);
    } else {
        std::int64_t number = 0;
        auto problem = read_integer(field.name, value, std::numeric_limits<Target>::min(),
                                    std::numeric_limits<Target>::max(), number);
        if (!problem) target = static_cast<Target>(number);
        return problem;
    }
}

template <bool Draft::* Member>
Verdict read_switch(Field const& field, JsonView value, Draft& draft) {
    return read_boolean(field.name, value, draft.*Member);
}

template <bool VectorShape::* Member>
Verdict read_vectors(Field const& field, JsonView value, Draft& draft) {
    return read_boolean(field.name, value, draft.vectors.*Member);
}

template <bool domain::GenerateRequest::* Member>
Verdict read_request(Field const& field, JsonView value, Draft& draft) {
    return read_boolean(field.name, value, draft.request.*Member);
}

// Milliseconds; 0: none, whatever the server's default.
[[nodiscard]] Verdict read_timeout(Field const& field, JsonView value, std::optional<std::uint32_t>& ms);

template <std::optional<std::uint32_t> domain::Deadlines::* Member>
Verdict read_deadline(Field const& field, JsonView value, Draft& draft) {
    return read_timeout(field, value, draft.request.deadlines.*Member);
}

[[nodiscard]] Verdict read_input_field(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_encoding_format(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_dimensions(Field const& field, JsonView value, Draft& draft);
// How long the model stays loaded.
[[nodiscard]] Verdict read_keep_alive_field(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_ttl(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_service_tier(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_priority(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_context_overflow(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_discard_tokens(Field const& field, JsonView value, Draft& draft);  // 0: the engine's choice
[[nodiscard]] Verdict read_keep_tokens(Field const& field, JsonView value, Draft& draft);  // -1: the engine's choice
[[nodiscard]] Verdict read_cache_salt(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_model(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_messages_field(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_prompt_field(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_max_tokens(Field const& field, JsonView value, Draft& draft);  // -1: no limit
[[nodiscard]] Verdict read_choices(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_best_of(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_stop(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_seed(Field const& field, JsonView value, Draft& draft);  // -1: drawn
[[nodiscard]] Verdict read_logit_bias(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_logprobs(Field const& field, JsonView value, Draft& draft);  // chat: a switch; text: a count
[[nodiscard]] Verdict read_top_logprobs(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_repetition_penalty(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_dry_breakers(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_top_k(Field const& field, JsonView value, Draft& draft);  // -1: off
[[nodiscard]] Verdict read_mirostat(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_stream_options(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_return_progress(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_ping_interval(Field const& field, JsonView value, Draft& draft);  // seconds; -1: none
[[nodiscard]] Verdict read_response_format(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_modalities(Field const& field, JsonView value, Draft& draft);

// --- ignored: type checked ---

template <JsonKind Kind>
Verdict ignore(Field const& field, JsonView value, Draft&) {
    if (value.kind() != Kind) return wrong_type(field.name, describe(Kind), value);
    return std::nullopt;
}
[[nodiscard]] Verdict ignore_any(Field const& field, JsonView value, Draft& draft);

// --- refused unless neutral ---

[[nodiscard]] Verdict refuse(Field const& field, JsonView value, Draft& draft);  // neutral: absent or null
[[nodiscard]] Verdict refuse_unless_empty(Field const& field, JsonView value, Draft& draft);  // neutral: [], {}, ""

template <bool Neutral>
Verdict refuse_unless(Field const& field, JsonView value, Draft&) {
    bool given = false;
    if (auto problem = read_boolean(field.name, value, given)) return problem;
    if (given != Neutral) return unsupported(field.name, value, field.range);
    return std::nullopt;
}

// Numbers that switch a feature off when they are at most `Off`.
template <int Off>
Verdict refuse_above(Field const& field, JsonView value, Draft&) {
    float number = 0;
    if (auto problem = read_float(field.name, value, number)) return problem;
    if (number > static_cast<float>(Off)) return unsupported(field.name, value, field.range);
    return std::nullopt;
}

[[nodiscard]] Verdict refuse_word(Field const& field, JsonView value, std::span<std::string_view const> neutral);

// Words that ask for nothing: `field.range` quotes them for the documentation.
template <auto const& Words>
Verdict refuse_unless_word(Field const& field, JsonView value, Draft&) {
    return refuse_word(field, value, Words);
}

}  // namespace hearth::api::openai
