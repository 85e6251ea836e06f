// run_serve(): measures a server that speaks OpenAI's dialect, Hearth or peer.
//
// Definitions. TTFT: arrival of the first event with non-empty output minus
// send. E2EL: arrival of the last such event minus send. TPOT: (E2EL - TTFT) /
// (output tokens - 1). ITL: each gap between reads with output. Output tokens
// are the server's own count (usage.completion_tokens), or events where it
// gives none; the report says which. Goodput: requests per second that meet
// every limit given.
//
// The client runs on one thread of the calling process and its CPU time is in
// the report, as is the server's when its pid is given: on a small machine both
// share the cores.
//
// Threads: blocks the calling thread for the whole run. Limits: those in
// check(), all quoted in its errors.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "bench/load_client.h"
#include "bench/process_usage.h"
#include "traffic/stats.h"

namespace hearth::bench {

using traffic::Summary;

enum class Mode : std::uint8_t {
    closed,        // `concurrency` requests at any time, until `requests` are done
    poisson,       // requests arrive at `rate_per_s`, whatever the server does
    replay,        // requests arrive as in `trace`
    interference,  // `concurrency` streams run; then one long prompt arrives
};
enum class Endpoint : std::uint8_t { chat, completions };

struct ServeOptions {
    std::string url = "http://127.0.0.1:8080";
    std::string model;    // empty: the first one that /v1/models lists
    std::string api_key;  // sent as a bearer token if not empty
    Endpoint endpoint = Endpoint::chat;
    double ready_timeout_s = 0;     // wait this long for /health to answer 200 first; 0: do not ask
    double request_timeout_s = 120;

    Mode mode = Mode::closed;
    std::uint32_t concurrency = 1;
    std::uint32_t streams_max = 1024;  // of an open loop; beyond it a request waits, and the report shows how long
    std::uint32_t requests = 32;
    double duration_s = 0;           // above 0: nothing is sent after it, even if fewer than `requests` were
    std::uint32_t warmup = 1;        // requests sent first and not counted
    double rate_per_s = 1;
    std::uint64_t seed = 1;

    std::uint32_t prompt_words = 64;
    std::uint32_t prompt_tokens = 0;  // above 0: instead of prompt_words; the server is asked how long its words are
    std::uint32_t output_tokens = 128;
    bool ignore_eos = true;           // so that every output has the length asked for
    double temperature = 0;
    std::string extra_body;           // JSON object, its members are added to every request
    std::string prompts_file;  // one prompt per line (JSON string or plain text), sent in order, again from the top
    std::uint32_t prefix_groups = 0;  // above 0: prompts begin with one of so many shared prefixes
    std::uint32_t prefix_words = 512;

    std::string trace;
    std::string trace_format;  // azure or mooncake; empty: by the file's ending
    double time_scale = 1;
    double length_scale = 1;
    std::uint32_t prompt_tokens_max = 1024;  // longer prompts of a trace are cut
    std::uint32_t output_tokens_max = 256;  // longer outputs of a trace are cut

    std::uint32_t rounds = 3;  // of the interference scenario
    std::uint32_t long_prompt_tokens = 2000;

    double slo_ttft_ms = 0;  // 0: no limit
    double slo_tpot_ms = 0;
    double slo_e2el_ms = 0;

    int server_pid = 0;  // above 0: its tree's CPU time and memory are measured
    bool keep_text = false;  // the report lists every output's text
    bool detailed = false;  // the report lists every request's times and gaps
};

// Every limit on the options; the error names the option in `param`.
[[nodiscard]] Status check(ServeOptions const& options);

// One command-line option: how it is spelled and what it sets. The table is the
// only list of them, for the option parser, its help and its tests.
struct OptionSpec {
    std::string_view name;  // without the dashes
    std::string_view value;  // what it takes, e.g. "N"; empty for a switch
    std::string_view help;
    Status (*set)(ServeOptions&, std::string const& value);  // a switch ignores `value`
};
[[nodiscard]] std::span<OptionSpec const> serve_option_table();

// Finds `name` in the table and sets it. Fails with invalid_argument, quoting
// what is accepted, if there is no such option or the value does not fit.
[[nodiscard]] Status set_option(ServeOptions& options, std::string_view name, std::string const& value);

// One round of the interference scenario.
struct InterferenceRound {
    bool valid = false;  // all streams were running before, during and after
    double worst_gap_ms = 0;  // of any running stream, from the long prompt's sending until each had gone on
    double base_gap_ms = 0;  // the worst gap of the same streams before that
    double long_ttft_ms = 0;
    std::uint64_t long_prompt_tokens = 0;
};

struct Failures {
    Outcome outcome = Outcome::pending;
    std::size_t count = 0;
    std::string example;
};

struct Report {
    ServeOptions options;
    std::string model;
    std::string date;  // UTC, ISO 8601
    double words_per_token = 0;  // 0: not asked
    double duration_s = 0;  // first send to last end
    std::size_t requests = 0;
    std::size_t completed = 0;
    std::vector<Failures>
        failures;  // by outcome, what did not complete; cancelled ones of the scenario are not failures
    std::uint64_t prompt_tokens = 0;
    std::uint64_t cached_tokens = 0;
    std::uint64_t output_tokens = 0;
    bool tokens_from_usage = false;  // false: at least one count is of events
    std::uint64_t chunks = 0;
    double output_per_s = 0;  // output tokens / duration
    double decode_per_s = 0;  // output tokens after each first / (last output - first output of the run)
    double requests_per_s = 0;
    double total_per_s = 0;  // prompt and output tokens / duration
    double goodput_per_s = -1;  // -1: no limits were given
    Summary ttft_ms, tpot_ms, itl_ms, e2el_ms;
    Summary prefill_per_s;  // prompt tokens not cached / TTFT, per request
    std::vector<double> itl_quantiles_ms;  // at 0, 1/200, ... 1
    std::vector<double> ttft_quantiles_ms;
    double send_lag_ms_max = 0;  // open loop: how late a request was sent
    std::uint32_t streams_peak = 0;
    std::uint64_t reconnects = 0;
    bool gaps_cut = false;
    std::uint32_t prompts_cut = 0;  // of a trace
    std::uint32_t outputs_cut = 0;
    double client_cpu_s = 0;
    bool has_server = false;
    TreeUsage server_before, server_after;
    std::vector<InterferenceRound> rounds;
    Instant begin{};  // the first send
    std::vector<RequestResult> results;  // in the order of sending; kept if detailed or keep_text
};

// Fails before the first counted request only: bad options, no server, no such
// process. What goes wrong later is counted in the report.
[[nodiscard]] Result<Report> run_serve(ServeOptions const& options);

// With the field names of vLLM's serving benchmark where it has one.
[[nodiscard]] std::string to_json(Report const& report);
[[nodiscard]] std::string to_text(Report const& report);

}  // namespace hearth::bench
