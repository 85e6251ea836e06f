// GenerateRequest and Event: one generation, as every dialect, the front and
// the engine see it.
//
// A dialect adapter fills a GenerateRequest and calls validate() once; nothing
// behind that re-checks it or sees JSON. The worker answers with Events, in
// this order for each request:
//
//   Started, then Delta* and one ChoiceDone per choice (choices interleave),
//   then one Done;  or at any point one Failed, which ends the request.
//
// A request whose prompt is an EmbedPrompt gets Started, one Embedded, one
// ChoiceDone and Done; of its other fields only those that say whose it is and
// when it is due count.
//
// Plain values; copyable; no threads of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace hearth::domain {

using RequestId = std::uint64_t;  // unique within one front process, never 0
using Token = std::int32_t;

// Limits that hold for every dialect. validate() quotes them.
inline constexpr std::uint32_t kChoicesMax = 16;
inline constexpr std::uint32_t kStopStringsMax = 16;
inline constexpr std::uint32_t kStopBytesMax = 256;
inline constexpr std::uint32_t kMessagesMax = 4096;
inline constexpr std::uint32_t kLogitBiasMax = 1024;
inline constexpr std::uint32_t kLogprobsMax = 20;
inline constexpr std::uint32_t kDryBreakersMax = 16;
inline constexpr std::uint32_t kTenantBytesMax = 128;
inline constexpr std::uint32_t kCacheSaltBytesMax = 256;
inline constexpr std::uint32_t kDeadlineMsMax = 24 * 3600 * 1000;
inline constexpr std::uint32_t kPromptBytesMax = 16U << 20;
inline constexpr std::uint32_t kTemplateBytesMax = 256U << 10;
inline constexpr std::uint32_t kEmbedInputsMax = 64;       // of one request: dialects split what is longer
inline constexpr std::uint32_t kContextTokensMax = 1U << 20;  // of GenerateRequest::context and Done::context
inline constexpr std::uint32_t kAdapterSetsMax = 64;       // of one model
inline constexpr std::uint32_t kEmbeddingWidthMax = 16384;  // numbers of one vector

struct Message {
    std::string role;     // system, user, assistant, tool (developer is mapped to system by the dialect)
    std::string content;  // text parts joined by the dialect
    bool operator==(Message const&) const = default;
};

// Rendered by the model's own chat template in the worker.
struct ChatPrompt {
    std::vector<Message> messages;
    bool add_generation_prompt = true;
    std::string jinja{};  // the template for it; "": the model's own
    bool operator==(ChatPrompt const&) const = default;
};
struct TextPrompt {
    std::string text;
    bool parse_special = false;  // names of special tokens in it are those tokens; else plain text
    bool operator==(TextPrompt const&) const = default;
};
struct TokenPrompt {
    std::vector<Token> tokens;
    bool operator==(TokenPrompt const&) const = default;
};
// What stands between two texts is to be written: fill in the middle.
struct InfillPrompt {
    std::string prefix, suffix;  // plain text, names of special tokens in it too
    bool operator==(InfillPrompt const&) const = default;
};
// A document as an answer to a query: a model that ranks says in one number how good it is.
struct RankPair {
    std::string query;
    std::string document;
    bool operator==(RankPair const&) const = default;
};
// What is to become vectors: nothing is generated. Pairs become vectors of one number.
struct EmbedPrompt {
    using Input = std::variant<std::string, std::vector<Token>, RankPair>;  // text as in TextPrompt
    std::vector<Input> inputs;
    bool truncate = false;  // an input that is too long loses its end; else the request is refused
    bool operator==(EmbedPrompt const&) const = default;
};
[[nodiscard]] std::size_t bytes_of(EmbedPrompt::Input const& input);

using Prompt = std::variant<ChatPrompt, TextPrompt, TokenPrompt, EmbedPrompt, InfillPrompt>;

struct LogitBias {
    Token token;
    float bias;  // added to the logit; -infinity forbids the token
    bool operator==(LogitBias const&) const = default;
};

enum class Mirostat : std::uint8_t { off = 0, v1 = 1, v2 = 2 };

// The sampler chain, in llama-server's vocabulary. The defaults change nothing:
// plain sampling from the model's distribution.
struct SamplingParams {
    float temperature = 1.0F;         // 0 = greedy
    std::int32_t top_k = 0;           // 0 = off
    float top_p = 1.0F;               // 1 = off
    float min_p = 0.0F;               // 0 = off
    float typical_p = 1.0F;           // 1 = off
    float repeat_penalty = 1.0F;      // 1 = off
    float frequency_penalty = 0.0F;   // 0 = off
    float presence_penalty = 0.0F;    // 0 = off
    std::int32_t repeat_last_n = 64;  // tokens the penalties look back; 0 = off, -1 = whole context
    float dry_multiplier = 0.0F;      // 0 = off
    float dry_base = 1.75F;
    std::int32_t dry_allowed_length = 2;
    std::int32_t dry_penalty_last_n = -1;  // 0 = off, -1 = whole context
    std::vector<std::string> dry_sequence_breakers{"\n", ":", "\"", "*"};
    float xtc_probability = 0.0F;  // 0 = off
    float xtc_threshold = 0.1F;    // above 0.5 = off
    Mirostat mirostat = Mirostat::off;
    float mirostat_tau = 5.0F;
    float mirostat_eta = 0.1F;
    std::vector<LogitBias> logit_bias;
    std::optional<std::uint64_t> seed;  // absent: drawn by the engine; choice i uses seed + i
    bool ignore_eos = false;
    bool operator==(SamplingParams const&) const = default;
};

// Who goes first when not all can go. A class that waits long rises, so that
// nobody starves.
enum class Priority : std::uint8_t { interactive = 0, normal = 1, batch = 2 };
inline constexpr std::uint32_t kPriorityCount = 3;

[[nodiscard]] constexpr std::string_view to_string(Priority priority) noexcept {
    switch (priority) {
        case Priority::interactive: return "interactive";
        case Priority::normal: return "normal";
        case Priority::batch: return "batch";
    }
    return "unknown";
}

// What happens when prompt and output do not fit the context.
enum class Overflow : std::uint8_t {
    error = 0,            // a prompt that is too long is refused; an output ends with `length`
    shift = 1,  // as truncate_middle, and an output goes on: tokens behind the head make room, again and again
    truncate_middle = 2,  // a prompt that is too long loses tokens from its middle, once
};

// How long each part may take, in milliseconds; absent: as long as it takes.
// A request that passes one ends with `deadline_exceeded`.
struct Deadlines {
    std::optional<std::uint32_t> queue_ms;  // arrival to admission
    std::optional<std::uint32_t> prefill_ms;  // admission to the first token
    std::optional<std::uint32_t> decode_ms;  // first token to the end
    bool operator==(Deadlines const&) const = default;
};

struct GenerateRequest {
    std::string model;  // resolved id of a resident model
    std::uint32_t adapters = 0;  // which set of its adapters is on top, as its worker numbers them; 0: none
    Prompt prompt;
    std::vector<Token> context;  // stands before a chat or text prompt: what an earlier Done said
    bool return_context = false;  // Done says what a later request may go on from
    SamplingParams sampling;
    std::uint32_t choices = 1;  // n
    std::uint32_t context_tokens = 0;  // wanted of prompt and output; what the server gives anyway is never less
    std::optional<std::uint32_t> max_tokens;  // absent: until the context is full; of those that shift, one context
    std::vector<std::string> stop;
    std::optional<std::uint32_t> top_logprobs;  // absent: no logprobs; 0: the chosen token's only
    bool return_prompt_progress = false;
    Priority priority = Priority::normal;
    std::string tenant;  // whose request: computing is shared fairly among tenants, prefixes only within one
    std::string cache_salt;  // parts a tenant further: prefixes are shared only among equal salts
    Deadlines deadlines;
    bool cache_prompt = true;  // stand on what is computed already, and leave what is computed to others
    Overflow overflow = Overflow::error;
    std::optional<std::uint32_t>
        keep_tokens;  // of the prompt's head, when something is left out; absent: the engine's choice
    std::optional<std::uint32_t> discard_tokens;  // what a shift drops; absent: half of what is behind the head
    bool speculate = true;  // guess tokens ahead where that pays; the output is the same
    bool deterministic = false;  // what is said must not depend on what else is computed
    // The front's, in no frame: how long the model stays loaded once nobody uses it, until
    // a request says otherwise; 0: not at all, negative: for ever; absent: as before.
    std::optional<Duration> keep_alive;
    bool operator==(GenerateRequest const&) const = default;
};

// Checks every range and count above; the error names the field as OpenAI
// spells it in `param`.
[[nodiscard]] Status validate(GenerateRequest const& request);

struct TokenLogprob {
    Token token = 0;
    float logprob = 0;
    std::string bytes;  // the token's exact bytes, maybe not valid UTF-8
    bool operator==(TokenLogprob const&) const = default;
};

struct SampledLogprob {
    TokenLogprob chosen;
    std::vector<TokenLogprob> top;  // best first
    bool operator==(SampledLogprob const&) const = default;
};

enum class FinishReason : std::uint8_t { stop = 0, length = 1, cancelled = 2, error = 3 };

struct Timings {  // llama-server's meaning
    std::uint32_t cache_n = 0;  // prompt tokens reused
    std::uint32_t prompt_n = 0;  // prompt tokens computed
    double prompt_ms = 0;  // admission to first sampled token
    std::uint32_t predicted_n = 0;  // tokens sampled, all choices
    double predicted_ms = 0;  // first sampled token to last
    double queue_ms = 0;  // arrival to admission
    std::uint32_t draft_n = 0;  // tokens guessed ahead and verified
    std::uint32_t draft_n_accepted = 0;  // of those, what came true
    bool operator==(Timings const&) const = default;
};

struct Usage {
    std::uint32_t prompt_tokens = 0;
    std::uint32_t cached_tokens = 0;
    std::uint32_t completion_tokens = 0;  // all choices, the end-of-sequence token included as peers do
    std::uint32_t left_out_tokens = 0;  // of the prompt, so that it fits the context: see Overflow
    std::uint32_t context_shifts = 0;  // how often tokens made room for an output, all choices,
    std::uint32_t shifted_tokens = 0;  // and how many
    bool operator==(Usage const&) const = default;
};

// The prompt was tokenised, admitted and its computation begins.
struct Started {
    std::uint32_t prompt_tokens = 0;
    std::uint32_t cached_tokens = 0;
    bool operator==(Started const&) const = default;
};
struct PromptProgress {
    std::uint32_t total = 0, cached = 0, processed = 0;
    double ms = 0;
    bool operator==(PromptProgress const&) const = default;
};
struct Delta {
    std::uint32_t choice = 0;
    std::uint32_t tokens = 0;  // tokens this delta accounts for; >= 0
    std::string text;  // valid UTF-8; may be empty while a stop string or code point is pending
    std::vector<SampledLogprob> logprobs;  // one per token when asked for
    bool operator==(Delta const&) const = default;
};
struct ChoiceDone {
    std::uint32_t choice = 0;
    FinishReason reason = FinishReason::stop;
    std::string stop_string;  // the stop string that matched, empty otherwise
    bool operator==(ChoiceDone const&) const = default;
};
struct Done {
    Usage usage;
    Timings timings;
    std::vector<Token> context{};  // if asked for: the prompt and choice 0, the last kContextTokensMax of them
    bool operator==(Done const&) const = default;
};
struct Failed {
    Error error;
    bool operator==(Failed const&) const = default;
};
// One vector per input, or one number per pair, in their order; as the model gives them, not normalised.
struct Embedded {
    std::vector<std::vector<float>> vectors;
    bool operator==(Embedded const&) const = default;
};

using Event = std::variant<Started, PromptProgress, Delta, ChoiceDone, Done, Failed, Embedded>;

[[nodiscard]] inline bool is_terminal(Event const& event) {
    return std::holds_alternative<Done>(event) || std::holds_alternative<Failed>(event);
}

}  // namespace hearth::domain
