// The options of `bench serve`: their limits and their spelling.
#include <array>
#include <charconv>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/serve.h"
#include "bench/workload.h"

namespace hearth::bench {

namespace {

constexpr std::uint64_t kGapsMax = 64'000'000;  // output tokens of one run

Error bad(std::string_view option, std::string const& why) {
    return {Code::invalid_argument, fmt::format("--{} {}", option, why), std::string(option)};
}

template <typename T>
Status in_range(std::string_view option, T value, T low, T high) {
    if (value >= low && value <= high) return ok();
    return bad(option, fmt::format("must be {} to {}, got {}", low, high, value));
}

Status check_workload(ServeOptions const& o) {
    HEARTH_CHECK(in_range<std::uint32_t>("concurrency", o.concurrency, 1, kStreamsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("streams-max", o.streams_max, 1, kStreamsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("requests", o.requests, 1, kRequestsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("warmup", o.warmup, 0, kRequestsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("prompt-words", o.prompt_words, 1, kPromptWordsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("prompt-tokens", o.prompt_tokens, 0, kPromptWordsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("output-tokens", o.output_tokens, 1, kOutputTokensMax));
    HEARTH_CHECK(in_range<std::uint32_t>("prefix-groups", o.prefix_groups, 0, kRequestsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("prefix-words", o.prefix_words, 1, kPromptWordsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("rounds", o.rounds, 1, 1000));
    HEARTH_CHECK(in_range<std::uint32_t>("long-prompt-tokens", o.long_prompt_tokens, 1, kPromptWordsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("prompt-tokens-max", o.prompt_tokens_max, 1, kPromptWordsMax));
    HEARTH_CHECK(in_range<std::uint32_t>("output-tokens-max", o.output_tokens_max, 1, kOutputTokensMax));
    auto const output = std::uint64_t{o.mode == Mode::replay ? o.output_tokens_max : o.output_tokens} * o.requests;
    if (output > kGapsMax) {
        return bad("requests", fmt::format("times the output length is {} tokens, the limit is {}", output, kGapsMax));
    }
    return ok();
}

Status check_combinations(ServeOptions const& o) {
    if (o.mode == Mode::replay && o.trace.empty()) return bad("trace", "is needed to replay one");
    if (o.mode != Mode::replay && !o.trace.empty()) return bad("trace", "is read with --mode replay only");
    if (o.prefix_groups > 0 && (o.mode == Mode::replay || o.mode == Mode::interference)) {
        return bad("prefix-groups", "goes with --mode closed or poisson");
    }
    if (!o.prompts_file.empty() && (o.prefix_groups > 0 || o.mode == Mode::replay || o.mode == Mode::interference)) {
        return bad("prompts", "goes with --mode closed or poisson, without --prefix-groups");
    }
    if (!o.extra_body.empty() && !nlohmann::json::parse(o.extra_body, nullptr, false).is_object()) {
        return bad("extra-body", fmt::format("must be a JSON object, got {}", o.extra_body.substr(0, 80)));
    }
    if (o.duration_s > 0 && o.mode == Mode::interference)
        return bad("duration", "does not go with --mode interference");
    if (o.api_key.find_first_of("\r\n") != std::string::npos) return bad("api-key", "must be one line");
    return ok();
}

template <typename T>
Status parse_number(std::string_view option, std::string const& text, T& value) {
    T parsed{};
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
    if (error != std::errc{} || end != text.data() + text.size()) {
        return bad(option, fmt::format("must be a {} number, got \"{}\"", std::is_integral_v<T> ? "whole" : "decimal",
                                       text.substr(0, 80)));
    }
    value = parsed;
    return ok();
}

Status set_mode(ServeOptions& o, std::string const& v) {
    if (v == "closed") o.mode = Mode::closed;
    else if (v == "poisson") o.mode = Mode::poisson;
    else if (v == "replay") o.mode = Mode::replay;
    else if (v == "interference") o.mode = Mode::interference;
    else return bad("mode", fmt::format("must be closed, poisson, replay or interference, got \"{}\"", v));
    return ok();
}

Status set_endpoint(ServeOptions& o, std::string const& v) {
    if (v == "chat") o.endpoint = Endpoint::chat;
    else if (v == "completions") o.endpoint = Endpoint::completions;
    else return bad("endpoint", fmt::format("must be chat or completions, got \"{}\"", v));
    return ok();
}

#define NUMBER(spelling, member, unit, help)                                                          \
    OptionSpec {                                                                                      \
        spelling, unit, help,                                                                         \
            [](ServeOptions& o, std::string const& v) { return parse_number(spelling, v, o.member); } \
    }
#define TEXT(spelling, member, unit, help)                                \
    OptionSpec {                                                          \
        spelling, unit, help, [](ServeOptions& o, std::string const& v) { \
            o.member = v;                                                 \
            return ok();                                                  \
        }                                                                 \
    }
#define SWITCH(spelling, member, state, help)                         \
    OptionSpec {                                                      \
        spelling, "", help, [](ServeOptions& o, std::string const&) { \
            o.member = state;                                         \
            return ok();                                              \
        }                                                             \
    }

constexpr auto kTable = std::to_array<OptionSpec>({
    TEXT("url", url, "URL", "the server, http://127.0.0.1:8080 if not given"),
    TEXT("model", model, "ID", "the model; the first that /v1/models lists if not given"),
    TEXT("api-key", api_key, "KEY", "sent as a bearer token"),
    {"endpoint", "NAME", "chat (default) or completions", set_endpoint},
    NUMBER("ready-timeout", ready_timeout_s, "SECONDS", "wait so long for /health before starting"),
    NUMBER("request-timeout", request_timeout_s, "SECONDS", "a request without an end by then has failed (120)"),
    {"mode", "NAME",
     "closed (default): N at any time; poisson: arrivals at --rate; replay: as in --trace; interference: "
     "N streams run, then one long prompt arrives",
     set_mode},
    NUMBER("concurrency", concurrency, "N", "streams at once (1)"),
    NUMBER("streams-max", streams_max, "N",
           "streams at once of an open loop; a later request waits, which is reported (1024)"),
    NUMBER("requests", requests, "N", "requests to send, or the most rows of a trace (32)"),
    NUMBER(
        "duration", duration_s, "SECONDS",
        "send nothing later than this, even if fewer than --requests were sent (0: no limit; not with interference)"),
    NUMBER("warmup", warmup, "N", "requests sent first and not counted (1)"),
    NUMBER("rate", rate_per_s, "R", "arrivals per second of --mode poisson (1)"),
    NUMBER("seed", seed, "N", "names the prompts and arrival times (1)"),
    NUMBER("prompt-words", prompt_words, "N", "words per prompt (64)"),
    NUMBER("prompt-tokens", prompt_tokens, "N",
           "tokens per prompt instead, about: the server is asked how long its words are"),
    NUMBER("output-tokens", output_tokens, "N", "tokens per output (128)"),
    SWITCH("stop-at-eos", ignore_eos, false, "let the model end an output earlier"),
    NUMBER("temperature", temperature, "T", "sampling temperature (0: greedy)"),
    TEXT("extra-body", extra_body, "JSON", "an object whose members are added to every request"),
    TEXT("prompts", prompts_file, "FILE", "one prompt per line, a JSON string or plain text"),
    NUMBER("prefix-groups", prefix_groups, "N", "prompts begin with one of N shared prefixes"),
    NUMBER("prefix-words", prefix_words, "N", "words of a shared prefix (512)"),
    TEXT("trace", trace, "FILE", "the trace of --mode replay"),
    TEXT("trace-format", trace_format, "NAME", "azure or mooncake; by the file's ending (.csv, .jsonl) if not given"),
    NUMBER("time-scale", time_scale, "X", "multiplies the trace's arrival times (1)"),
    NUMBER("length-scale", length_scale, "X", "multiplies the trace's lengths (1)"),
    NUMBER("prompt-tokens-max", prompt_tokens_max, "N", "cuts longer prompts of a trace (1024)"),
    NUMBER("output-tokens-max", output_tokens_max, "N", "cuts longer outputs of a trace (256)"),
    NUMBER("rounds", rounds, "N", "rounds of --mode interference (3)"),
    NUMBER("long-prompt-tokens", long_prompt_tokens, "N",
           "tokens, about, of the long prompt of --mode interference (2000)"),
    NUMBER("slo-ttft", slo_ttft_ms, "MS", "goodput counts requests with a TTFT up to this"),
    NUMBER("slo-tpot", slo_tpot_ms, "MS", "goodput counts requests with a TPOT up to this"),
    NUMBER("slo-e2el", slo_e2el_ms, "MS", "goodput counts requests that end within this"),
    NUMBER("server-pid", server_pid, "PID", "measure CPU time and memory of this process and its children"),
    SWITCH("keep-text", keep_text, true, "list every output's text in the JSON"),
    SWITCH("detailed", detailed, true, "list every request's times in the JSON"),
});

#undef NUMBER
#undef TEXT
#undef SWITCH

}  // namespace

Status check(ServeOptions const& o) {
    HEARTH_CHECK(check_workload(o));
    HEARTH_CHECK(in_range("request-timeout", o.request_timeout_s, 0.001, 86400.0));
    HEARTH_CHECK(in_range("ready-timeout", o.ready_timeout_s, 0.0, 3600.0));
    HEARTH_CHECK(in_range("duration", o.duration_s, 0.0, 86400.0));
    HEARTH_CHECK(in_range("rate", o.rate_per_s, 0.001, 1e6));
    HEARTH_CHECK(in_range("temperature", o.temperature, 0.0, 100.0));
    HEARTH_CHECK(in_range("time-scale", o.time_scale, 0.0, 1e6));
    HEARTH_CHECK(in_range("length-scale", o.length_scale, 1e-6, 1e3));
    HEARTH_CHECK(in_range("slo-ttft", o.slo_ttft_ms, 0.0, 1e9));
    HEARTH_CHECK(in_range("slo-tpot", o.slo_tpot_ms, 0.0, 1e9));
    HEARTH_CHECK(in_range("slo-e2el", o.slo_e2el_ms, 0.0, 1e9));
    HEARTH_CHECK(in_range("server-pid", o.server_pid, 0, std::numeric_limits<int>::max()));
    HEARTH_CHECK(check_combinations(o));
    HEARTH_TRY([[maybe_unused]] auto const target, parse_url(o.url));
    return ok();
}

std::span<OptionSpec const> serve_option_table() { return kTable; }

Status set_option(ServeOptions& options, std::string_view name, std::string const& value) {
    for (auto const& spec : kTable) {
        if (spec.name == name) return spec.set(options, value);
    }
    return Error{Code::invalid_argument, fmt::format("there is no option --{}; see hearth bench serve --help", name),
                 std::string(name)};
}

}  // namespace hearth::bench
