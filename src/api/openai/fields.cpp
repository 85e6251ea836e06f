#include "api/openai/fields.h"

#include <array>

#include <fmt/format.h>

#include "api/openai/field_readers.h"
#include "api/openai/rerank.h"

namespace hearth::api::openai {
namespace {

using P = domain::SamplingParams;
using D = domain::Deadlines;
using enum Surface;
using enum Action;

constexpr std::array<std::string_view, 2> kNoneAuto{"none", "auto"};
constexpr std::array<std::string_view, 1> kNone{"none"};
constexpr std::array<std::string_view, 1> kMedium{"medium"};

constexpr std::string_view kOff = "absent";
constexpr std::string_view kEmpty = "absent or empty";

// clang-format off
constexpr Field kFields[] = {
    // what to run and what to read
    {"model",                all,      honoured, "string",  "id or alias of a served model; the first model if absent", read_model},
    {"messages",             chat,     honoured, "array",   "required, 1 to 4096 messages of role system, developer (read as system), user or assistant; "
                                                    "content is text, null (assistant) or an array of text parts, joined by line breaks", read_messages_field},
    {"prompt",               text,     honoured, "string, [string], [int] or [[int]]", "required, at most 64 prompts; choice index = prompt * n + i", read_prompt_field},
    {"input",                embed,    honoured, "string, [string], [int] or [[int]]", "required; as many as the body holds, computed 64 at a time", read_input_field},
    {"query",                rank,     honoured, "string",  "required, 1 to 16384 bytes", read_query},
    {"documents",            rank,     honoured, "[string] or [object]", "required, 1 to 4096 of them, an object by its text; computed 64 at a time", read_documents},
    {"texts",                rank,     honoured, "[string]", "documents, as Text Embeddings Inference calls them: the answer is an array of index and score", read_texts},
    {"add_generation_prompt", chat,    honoured, "boolean", "default true", read_switch<&Draft::add_generation_prompt>},
    {"echo",                 text,     honoured, "boolean", "default false; the prompt's text precedes each answer; "
                                                    "text prompts only, not with logprobs", read_switch<&Draft::echo>},
    {"echo",                 chat,     refused,  "boolean", "false", refuse_unless<false>},

    // how much to write
    {"n_predict",            both,     honoured, "integer", "llama-server's name of max_tokens", read_max_tokens},
    {"max_tokens",           both,     honoured, "integer", "1 to 16777216, -1 = until the context is full; "
                                                    "default: chat until the context is full, completions 16", read_max_tokens},
    {"max_completion_tokens", both,    honoured, "integer", "as max_tokens, which it overrides", read_max_tokens},
    {"n_cmpl",               both,     honoured, "integer", "llama-server's name of n", read_choices},
    {"n",                    both,     honoured, "integer", "1 to 16, default 1; at most 128 choices over all prompts", read_choices},
    {"best_of",              text,     honoured, "integer", "must equal n: candidates are not ranked", read_best_of},
    {"stop",                 both,     honoured, "string or array", "at most 16 strings of 1 to 256 bytes", read_stop},
    {"ignore_eos",           both,     honoured, "boolean", "default false", read_sampling<&P::ignore_eos>},

    // how to choose tokens
    {"temperature",          both,     honoured, "number",  "0 (greedy) to 100, default 1", read_sampling<&P::temperature>},
    {"top_k",                both,     honoured, "integer", "0 (off) to 16777216, default 0; -1 = off", read_top_k},
    {"top_p",                both,     honoured, "number",  "0 to 1 (off), default 1", read_sampling<&P::top_p>},
    {"min_p",                both,     honoured, "number",  "0 (off) to 1, default 0", read_sampling<&P::min_p>},
    {"typical_p",            both,     honoured, "number",  "0 to 1 (off), default 1", read_sampling<&P::typical_p>},
    {"repetition_penalty",   both,     honoured, "number",  "vLLM's name of repeat_penalty", read_repetition_penalty},
    {"repeat_penalty",       both,     honoured, "number",  "0.01 to 100, default 1 (off)", read_sampling<&P::repeat_penalty>},
    {"repeat_last_n",        both,     honoured, "integer", "-1 (whole context) to 16777216, default 64", read_sampling<&P::repeat_last_n>},
    {"frequency_penalty",    both,     honoured, "number",  "-2 to 2, default 0", read_sampling<&P::frequency_penalty>},
    {"presence_penalty",     both,     honoured, "number",  "-2 to 2, default 0", read_sampling<&P::presence_penalty>},
    {"dry_multiplier",       both,     honoured, "number",  "0 (off) to 100, default 0", read_sampling<&P::dry_multiplier>},
    {"dry_base",             both,     honoured, "number",  "0 to 100, default 1.75", read_sampling<&P::dry_base>},
    {"dry_allowed_length",   both,     honoured, "integer", "0 to 16777216, default 2", read_sampling<&P::dry_allowed_length>},
    {"dry_penalty_last_n",   both,     honoured, "integer", "-1 (whole context) to 16777216, default -1", read_sampling<&P::dry_penalty_last_n>},
    {"dry_sequence_breakers", both,    honoured, "array",   "at most 16 strings; default line break, colon, double quote, asterisk", read_dry_breakers},
    {"xtc_probability",      both,     honoured, "number",  "0 (off) to 1, default 0", read_sampling<&P::xtc_probability>},
    {"xtc_threshold",        both,     honoured, "number",  "0 to 1, default 0.1; above 0.5 = off", read_sampling<&P::xtc_threshold>},
    {"mirostat",             both,     honoured, "integer", "0 (off), 1 or 2, default 0", read_mirostat},
    {"mirostat_tau",         both,     honoured, "number",  "0 to 100, default 5", read_sampling<&P::mirostat_tau>},
    {"mirostat_eta",         both,     honoured, "number",  "0 to 1, default 0.1", read_sampling<&P::mirostat_eta>},
    {"logit_bias",           both,     honoured, "object or array", "at most 1024 entries, token id to -100..100; llama-server's [[id, bias or false]] too", read_logit_bias},
    {"seed",                 both,     honoured, "integer", "any 64-bit integer; -1 = drawn by the server, the default", read_seed},

    // how to answer vectors
    {"encoding_format",      embed,    honoured, "string",  "float (default) or base64 (float32, little-endian)", read_encoding_format},
    {"dimensions",           embed,    honoured, "integer", "1 to the model's width, the default: the first of them, normalized", read_dimensions},
    {"normalize",            embed,    honoured, "boolean", "default true: vectors have length 1", read_vectors<&VectorShape::normalize>},
    {"truncate",             embed,    honoured, "boolean", "default false: an input that is too long is a 400; true: it loses its end, "
                                                    "and usage.left_out_tokens says how much", read_switch<&Draft::truncate>},
    {"top_n",                rank,     honoured, "integer", "1 to 16777216 of the best; default: all", read_top_n},
    {"return_documents",     rank,     honoured, "boolean", "default false; true: each result has the document's text", read_return_documents},
    {"return_text",          rank,     honoured, "boolean", "the same, with texts", read_return_documents},
    {"max_tokens_per_doc",   rank,     refused,  "integer", kOff, refuse},
    {"add_special_tokens",   embed,    refused,  "boolean", "true", refuse_unless<true>},

    // what to tell
    {"logprobs",             chat,     honoured, "boolean", "default false", read_logprobs},
    {"logprobs",             text,     honoured, "integer", "0 to 20 alternatives per token", read_logprobs},
    {"top_logprobs",         chat,     honoured, "integer", "0 to 20 alternatives per token, needs logprobs", read_top_logprobs},
    {"stream",               both,     honoured, "boolean", "default false", read_switch<&Draft::stream>},
    {"stream_options",       both,     honoured, "object",  "include_usage: boolean; include_obfuscation: false only", read_stream_options},
    {"return_progress",      both,     honoured, "boolean", "default false; streams carry prompt_progress chunks", read_return_progress},
    {"sse_ping_interval",    both,     honoured, "integer", "1 to 3600 seconds between comment pings of a silent stream, -1 = none; default: the server's", read_ping_interval},
    {"response_format",      both,     refused,  "object",  "{\"type\":\"text\"}", read_response_format},
    {"modalities",           chat,     refused,  "array",   "[\"text\"]", read_modalities},
    {"store",                both,     refused,  "boolean", "false", refuse_unless<false>},

    // when to compute it, and on what
    {"service_tier",         both,     honoured, "string",  "auto and default: priority normal; priority, scale and fast: interactive; flex: batch; the answer names what it got",
     read_service_tier},
    {"priority",             all,      honoured, "string or integer", "interactive, normal (default) or batch; vLLM's integers: below 0 interactive, 0 normal, above "
                                                    "0 batch; overrides service_tier", read_priority},
    {"queue_timeout_ms",     all,      honoured, "integer", "1 to 86400000 from arrival to the start of computing, 0 = none; default: the server's --queue-timeout",
     read_deadline<&D::queue_ms>},
    {"prefill_timeout_ms",   all,      honoured, "integer", "1 to 86400000 from the start of computing to the first token, 0 = none; default: the server's "
                                                    "--prefill-timeout", read_deadline<&D::prefill_ms>},
    {"decode_timeout_ms",    both,     honoured, "integer", "1 to 86400000 from the first token to the last, 0 = none; default: the server's --decode-timeout",
     read_deadline<&D::decode_ms>},
    {"cache_prompt",         both,     honoured, "boolean", "default true; false: computed from its start, and nothing of it is kept for others",
     read_request<&domain::GenerateRequest::cache_prompt>},
    {"cache_salt",           both,     honoured, "string",  "1 to 256 bytes; prefixes are shared only among requests of equal salt", read_cache_salt},
    {"context_overflow",     both,     honoured, "string",  "what does not fit: error (default), a long prompt is a 400 and an output ends; truncate_middle, head and tail "
                                                    "of the prompt are kept; shift, of the output's context too, as often as it is full", read_context_overflow},
    {"n_keep",               both,     honoured, "integer", "0 to 16777216 tokens of the head that truncate_middle and shift keep; -1, the default: its first message, "
                                                    "between a quarter and a half of what fits, with shift at most a half", read_keep_tokens},
    {"n_discard",            both,     honoured, "integer", "1 to 16777216 tokens that each shift drops; 0, the default: half of those behind the head",
     read_discard_tokens},
    {"speculate",            both,     honoured, "boolean", "default true; false: no token is guessed ahead; the answer is the same",
     read_request<&domain::GenerateRequest::speculate>},
    {"deterministic",        both,     honoured, "boolean", "default false; true: what is said does not depend on what else is computed; refused where the model's kernels cannot",
     read_request<&domain::GenerateRequest::deterministic>},

    {"ttl",                  all,      honoured, "number",  "LM Studio's: keep_alive in seconds", read_ttl},
    {"keep_alive",           all,      honoured, "string or number", "how long the model stays loaded once it is idle, until a request says otherwise: Ollama's durations (5m, "
                                                    "1h30m) or seconds; 0: it goes at once, negative: it stays; default: --keep-alive", read_keep_alive_field},

    // makes no difference here
    {"user",                 all,      ignored,  "string",  "", ignore<JsonKind::string>},
    {"metadata",             both,     ignored,  "object",  "", ignore<JsonKind::object>},
    {"safety_identifier",    both,     ignored,  "string",  "", ignore<JsonKind::string>},
    {"prompt_cache_key",     both,     ignored,  "string",  "prefixes are found without a hint", ignore<JsonKind::string>},
    {"prompt_cache_retention", both,   ignored,  "string",  "", ignore<JsonKind::string>},
    {"prompt_cache_options", both,     ignored,  "object",  "", ignore<JsonKind::object>},
    {"parallel_tool_calls",  both,     ignored,  "boolean", "tools are refused, so there is nothing to run in parallel", ignore<JsonKind::boolean>},
    {"n_cache_reuse",        both,     ignored,  "integer", "reuse never changes an answer", ignore<JsonKind::integer>},
    {"request_id",           all,      ignored,  "string",  "send the header x-request-id", ignore<JsonKind::string>},
    {"backend_sampling",     both,     ignored,  "boolean", "", ignore<JsonKind::boolean>},
    {"dynatemp_exponent",    both,     ignored,  "number",  "dynatemp_range is refused", ignore_any},
    {"adaptive_decay",       both,     ignored,  "number",  "adaptive_target is refused", ignore_any},
    {"verbose",              both,     ignored,  "boolean", "", ignore<JsonKind::boolean>},

    // tools and structure
    {"tools",                both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"tool_choice",          both,     refused,  "string or object", "'none' and 'auto'", refuse_unless_word<kNoneAuto>},
    {"functions",            both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"function_call",        both,     refused,  "string or object", "'none' and 'auto'", refuse_unless_word<kNoneAuto>},
    {"grammar",              both,     refused,  "string",  kEmpty, refuse_unless_empty},
    {"grammar_lazy",         both,     refused,  "boolean", "false", refuse_unless<false>},
    {"grammar_triggers",     both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"preserved_tokens",     both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"json_schema",          both,     refused,  "object",  kOff, refuse},
    {"structured_outputs",   both,     refused,  "object",  kEmpty, refuse_unless_empty},
    {"guided_json",          both,     refused,  "object",  kOff, refuse},
    {"guided_regex",         both,     refused,  "string",  kOff, refuse},
    {"guided_choice",        both,     refused,  "array",   kOff, refuse},
    {"guided_grammar",       both,     refused,  "string",  kOff, refuse},
    {"guided_json_object",   both,     refused,  "boolean", "false", refuse_unless<false>},
    {"guided_decoding_backend", both,  ignored,  "string",  "guided decoding itself is refused", ignore<JsonKind::string>},
    {"guided_whitespace_pattern", both, refused, "string",  kOff, refuse},

    // other input and output
    {"audio",                chat,     refused,  "object",  kOff, refuse},
    {"prediction",           chat,     refused,  "object",  kOff, refuse},
    {"web_search_options",   chat,     refused,  "object",  kOff, refuse},
    {"moderation",           both,     refused,  "object",  kOff, refuse},
    {"documents",            both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"mm_processor_kwargs",  both,     refused,  "object",  kEmpty, refuse_unless_empty},
    {"suffix",               text,     refused,  "string",  kEmpty, refuse_unless_empty},

    // reasoning and template
    {"reasoning_effort",     both,     refused,  "string",  "'none'", refuse_unless_word<kNone>},
    {"reasoning",            both,     refused,  "object",  kEmpty, refuse_unless_empty},
    {"reasoning_format",     both,     refused,  "string",  "'none' and 'auto'", refuse_unless_word<kNoneAuto>},
    {"reasoning_control",    both,     refused,  "boolean", "false", refuse_unless<false>},
    {"include_reasoning",    both,     refused,  "boolean", "true", refuse_unless<true>},
    {"thinking_token_budget", both,    refused,  "integer", "-1", refuse_above<-1>},
    {"thinking_budget_tokens", both,   refused,  "integer", "-1", refuse_above<-1>},
    {"reasoning_budget_tokens", both,  refused,  "integer", "-1", refuse_above<-1>},
    {"reasoning_budget_message", both, refused,  "string",  kEmpty, refuse_unless_empty},
    {"verbosity",            both,     refused,  "string",  "'medium'", refuse_unless_word<kMedium>},
    {"chat_template",        both,     refused,  "string",  kEmpty, refuse_unless_empty},
    {"chat_template_kwargs", both,     refused,  "object",  kEmpty, refuse_unless_empty},
    {"continue_final_message", both,   refused,  "boolean", "false", refuse_unless<false>},

    // sampling and output of other servers
    {"min_tokens",           both,     refused,  "integer", "0", refuse_above<0>},
    {"stop_token_ids",       both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"bad_words",            both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"allowed_token_ids",    both,     refused,  "array",   kOff, refuse},
    {"skip_special_tokens",  both,     refused,  "boolean", "true", refuse_unless<true>},
    {"spaces_between_special_tokens", both, ignored, "boolean", "special tokens are not written", ignore<JsonKind::boolean>},
    {"include_stop_str_in_output", both, refused, "boolean", "false", refuse_unless<false>},
    {"truncate_prompt_tokens", all,    refused,  "integer", kOff, refuse},
    {"prompt_logprobs",      both,     refused,  "integer", kOff, refuse},
    {"return_token_ids",     both,     refused,  "boolean", "false", refuse_unless<false>},
    {"return_tokens",        both,     refused,  "boolean", "false", refuse_unless<false>},
    {"return_tokens_as_token_ids", both, refused, "boolean", "false", refuse_unless<false>},
    {"use_beam_search",      both,     refused,  "boolean", "false", refuse_unless<false>},
    {"logits_processors",    both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"n_probs",              both,     refused,  "integer", "0; use logprobs", refuse_above<0>},
    {"post_sampling_probs",  both,     refused,  "boolean", "false", refuse_unless<false>},
    {"min_keep",             both,     refused,  "integer", "0", refuse_above<0>},
    {"top_n_sigma",          both,     refused,  "number",  "-1", refuse_above<0>},
    {"dynatemp_range",       both,     refused,  "number",  "0", refuse_above<0>},
    {"adaptive_target",      both,     refused,  "number",  "-1", refuse_above<-1>},
    {"samplers",             both,     refused,  "array",   kOff, refuse},
    {"timings_per_token",    both,     refused,  "boolean", "false; timings ride on the last chunk", refuse_unless<false>},
    {"response_fields",      both,     refused,  "array",   kEmpty, refuse_unless_empty},
    {"n_indent",             both,     refused,  "integer", "0", refuse_above<0>},
    {"t_max_predict_ms",     both,     refused,  "integer", "0", refuse_above<0>},
    {"t_max_prompt_ms",      both,     refused,  "integer", "0", refuse_above<0>},
    {"id_slot",              both,     refused,  "integer", "-1", refuse_above<-1>},
    {"lora",                 both,     refused,  "array",   kEmpty, refuse_unless_empty},
};
// clang-format on

std::string_view spell(Surface surface) {
    switch (surface) {
        case chat: return "chat";
        case text: return "completions";
        case both: return "both";
        case embed: return "embeddings";
        case rank: return "rerank";
        case all: return "all";
    }
    return "";
}

std::string spell(Field const& field) {
    switch (field.action) {
        case honoured: return std::string(field.range);
        case ignored: return fmt::format("ignored{}{}", field.range.empty() ? "" : ": ", field.range);
        case refused: return fmt::format("400 unless {}", field.range);
    }
    return {};
}

}  // namespace

std::span<Field const> fields() { return kFields; }

std::string fields_markdown() {
    std::string out = "| field | endpoint | type | what Hearth does |\n|---|---|---|---|\n";
    for (auto const& field : kFields)
        out += fmt::format("| `{}` | {} | {} | {} |\n", field.name, spell(field.surface), field.type, spell(field));
    return out;
}

}  // namespace hearth::api::openai
