#include "domain/generate.h"

#include <cmath>

#include <fmt/format.h>

namespace hearth::domain {
namespace {

// In the value's own type: the nearest float of 0.01 is below the double, and 1.1 as a double has a long tail.
template <typename Number>
Status in_range(Number value, double low, double high, char const* field) {
    bool const inside = value >= static_cast<Number>(low) && value <= static_cast<Number>(high);  // false for a NaN
    if (inside) return ok();
    return Error(Code::invalid_argument, fmt::format("'{}' must be between {} and {}, got {}", field, low, high, value),
                 field);
}

Status at_most(std::size_t value, std::size_t limit, char const* field, char const* what) {
    if (value <= limit) return ok();
    return Error(Code::invalid_argument, fmt::format("'{}' has {} {}, the limit is {}", field, value, what, limit),
                 field);
}

Status validate_sampling(SamplingParams const& p) {
    HEARTH_CHECK(in_range(p.temperature, 0, 100, "temperature"));
    HEARTH_CHECK(in_range(p.top_k, 0, 1 << 24, "top_k"));
    HEARTH_CHECK(in_range(p.top_p, 0, 1, "top_p"));
    HEARTH_CHECK(in_range(p.min_p, 0, 1, "min_p"));
    HEARTH_CHECK(in_range(p.typical_p, 0, 1, "typical_p"));
    HEARTH_CHECK(in_range(p.repeat_penalty, 0.01, 100, "repeat_penalty"));
    HEARTH_CHECK(in_range(p.frequency_penalty, -2, 2, "frequency_penalty"));
    HEARTH_CHECK(in_range(p.presence_penalty, -2, 2, "presence_penalty"));
    HEARTH_CHECK(in_range(p.repeat_last_n, -1, 1 << 24, "repeat_last_n"));
    HEARTH_CHECK(in_range(p.dry_multiplier, 0, 100, "dry_multiplier"));
    HEARTH_CHECK(in_range(p.dry_base, 0, 100, "dry_base"));
    HEARTH_CHECK(in_range(p.dry_allowed_length, 0, 1 << 24, "dry_allowed_length"));
    HEARTH_CHECK(in_range(p.dry_penalty_last_n, -1, 1 << 24, "dry_penalty_last_n"));
    HEARTH_CHECK(at_most(p.dry_sequence_breakers.size(), kDryBreakersMax, "dry_sequence_breakers", "strings"));
    for (auto const& breaker : p.dry_sequence_breakers) {
        HEARTH_CHECK(at_most(breaker.size(), kStopBytesMax, "dry_sequence_breakers", "bytes in one string"));
        if (breaker.empty())
            return Error(Code::invalid_argument, "'dry_sequence_breakers' must not hold an empty string",
                         "dry_sequence_breakers");
    }
    HEARTH_CHECK(in_range(p.xtc_probability, 0, 1, "xtc_probability"));
    HEARTH_CHECK(in_range(p.xtc_threshold, 0, 1, "xtc_threshold"));
    HEARTH_CHECK(in_range(p.mirostat_tau, 0, 100, "mirostat_tau"));
    HEARTH_CHECK(in_range(p.mirostat_eta, 0, 1, "mirostat_eta"));
    HEARTH_CHECK(at_most(p.logit_bias.size(), kLogitBiasMax, "logit_bias", "entries"));
    for (auto const& bias : p.logit_bias) {
        bool const forbids = std::isinf(bias.bias) && bias.bias < 0;
        if (!forbids) HEARTH_CHECK(in_range(bias.bias, -100, 100, "logit_bias"));
    }
    return ok();
}

Status validate_prompt(ChatPrompt const& prompt) {
    if (prompt.messages.empty())
        return Error(Code::invalid_argument, "'messages' must hold at least one message", "messages");
    HEARTH_CHECK(at_most(prompt.messages.size(), kMessagesMax, "messages", "messages"));
    std::size_t bytes = 0;
    for (auto const& message : prompt.messages) bytes += message.content.size();
    HEARTH_CHECK(at_most(prompt.jinja.size(), kTemplateBytesMax, "template", "bytes"));
    return at_most(bytes, kPromptBytesMax, "messages", "bytes");
}

Status validate_prompt(TextPrompt const& prompt) {
    return at_most(prompt.text.size(), kPromptBytesMax, "prompt", "bytes");
}

Status validate_prompt(TokenPrompt const& prompt) {
    if (prompt.tokens.empty()) return Error(Code::invalid_argument, "'prompt' must hold at least one token", "prompt");
    return at_most(prompt.tokens.size(), kPromptBytesMax / sizeof(Token), "prompt", "tokens");
}

Status validate_prompt(InfillPrompt const& prompt) {
    return at_most(prompt.prefix.size() + prompt.suffix.size(), kPromptBytesMax, "prompt", "bytes with its suffix");
}

Status validate_prompt(EmbedPrompt const& prompt) {
    if (prompt.inputs.empty()) return Error(Code::invalid_argument, "'input' must hold at least one input", "input");
    HEARTH_CHECK(at_most(prompt.inputs.size(), kEmbedInputsMax, "input", "inputs"));
    std::size_t bytes = 0;
    for (auto const& input : prompt.inputs) {
        auto const size = bytes_of(input);
        if (size == 0) return Error(Code::invalid_argument, "'input' must not hold an empty input", "input");
        bytes += size;
    }
    return at_most(bytes, kPromptBytesMax, "input", "bytes");
}

Status validate_deadline(std::optional<std::uint32_t> ms, char const* field) {
    return ms ? in_range(*ms, 1, kDeadlineMsMax, field) : ok();
}

}  // namespace

std::size_t bytes_of(EmbedPrompt::Input const& input) {
    if (auto const* tokens = std::get_if<std::vector<Token>>(&input)) return tokens->size() * sizeof(Token);
    if (auto const* pair = std::get_if<RankPair>(&input)) return pair->query.size() + pair->document.size();
    return std::get<std::string>(input).size();
}

Status validate(GenerateRequest const& request) {
    HEARTH_CHECK(std::visit([](auto const& prompt) { return validate_prompt(prompt); }, request.prompt));
    HEARTH_CHECK(at_most(request.context.size(), kContextTokensMax, "context", "tokens"));
    HEARTH_CHECK(validate_sampling(request.sampling));
    HEARTH_CHECK(in_range(request.choices, 1, kChoicesMax, "n"));
    HEARTH_CHECK(at_most(request.tenant.size(), kTenantBytesMax, "tenant", "bytes"));
    HEARTH_CHECK(at_most(request.cache_salt.size(), kCacheSaltBytesMax, "cache_salt", "bytes"));
    HEARTH_CHECK(validate_deadline(request.deadlines.queue_ms, "queue_timeout_ms"));
    HEARTH_CHECK(validate_deadline(request.deadlines.prefill_ms, "prefill_timeout_ms"));
    HEARTH_CHECK(validate_deadline(request.deadlines.decode_ms, "decode_timeout_ms"));
    if (request.keep_tokens) HEARTH_CHECK(in_range(*request.keep_tokens, 0, 1 << 24, "n_keep"));
    if (request.discard_tokens) {
        HEARTH_CHECK(in_range(*request.discard_tokens, 1, 1 << 24, "n_discard"));
        if (request.overflow != Overflow::shift)
            return Error(Code::invalid_argument,
                         fmt::format("'n_discard' is {}, but only 'context_overflow': 'shift' discards tokens",
                                     *request.discard_tokens),
                         "n_discard");
    }
    HEARTH_CHECK(in_range(request.context_tokens, 0, 1 << 24, "num_ctx"));
    if (request.max_tokens) HEARTH_CHECK(in_range(*request.max_tokens, 1, 1 << 24, "max_tokens"));
    if (request.top_logprobs) HEARTH_CHECK(in_range(*request.top_logprobs, 0, kLogprobsMax, "top_logprobs"));
    HEARTH_CHECK(at_most(request.stop.size(), kStopStringsMax, "stop", "strings"));
    for (auto const& stop : request.stop) {
        if (stop.empty()) return Error(Code::invalid_argument, "'stop' must not hold an empty string", "stop");
        HEARTH_CHECK(at_most(stop.size(), kStopBytesMax, "stop", "bytes in one string"));
    }
    return ok();
}

}  // namespace hearth::domain
