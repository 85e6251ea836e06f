// The report of `bench serve`, as JSON and as text.
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/serve.h"

namespace hearth::bench {

namespace {

using Json = nlohmann::ordered_json;

std::string_view to_string(Mode mode) {
    switch (mode) {
        case Mode::closed: return "closed";
        case Mode::poisson: return "poisson";
        case Mode::replay: return "replay";
        case Mode::interference: return "interference";
    }
    return "?";
}

// vLLM's names: mean_x_ms, median_x_ms, std_x_ms, p99_x_ms; the rest in their manner.
void add_summary(Json& out, std::string const& name, Summary const& s) {
    out["mean_" + name] = s.mean;
    out["median_" + name] = s.median;
    out["std_" + name] = s.stddev;
    out["min_" + name] = s.min;
    out["p90_" + name] = s.p90;
    out["p95_" + name] = s.p95;
    out["p99_" + name] = s.p99;
    out["max_" + name] = s.max;
}

Json tree_json(TreeUsage const& tree) {
    Json processes = Json::array();
    for (auto const& p : tree.processes) {
        processes.push_back({{"pid", p.pid},
                             {"name", p.name},
                             {"cpu_s", p.cpu_s},
                             {"threads", p.threads},
                             {"rss_kib", p.rss_kib},
                             {"pss_kib", p.pss_kib},
                             {"private_kib", p.private_kib}});
    }
    return {{"cpu_s", tree.cpu_s()},
            {"rss_kib", tree.rss_kib()},
            {"pss_kib", tree.pss_kib()},
            {"private_kib", tree.private_kib()},
            {"processes", std::move(processes)}};
}

double server_cpu_s(Report const& r) { return r.server_after.cpu_s() - r.server_before.cpu_s(); }

bool server_measured(Report const& r) { return r.has_server && !r.server_after.processes.empty(); }

double per_token_us(double cpu_s, Report const& r) {
    return r.output_tokens > 0 ? cpu_s * 1e6 / static_cast<double>(r.output_tokens) : 0;
}

Json config_json(ServeOptions const& o) {
    return {{"url", o.url},
            {"mode", to_string(o.mode)},
            {"endpoint", o.endpoint == Endpoint::chat ? "chat" : "completions"},
            {"concurrency", o.concurrency},
            {"requests", o.requests},
            {"duration_s", o.duration_s},
            {"warmup", o.warmup},
            {"rate_per_s", o.rate_per_s},
            {"seed", o.seed},
            {"prompt_words", o.prompt_words},
            {"prompt_tokens", o.prompt_tokens},
            {"output_tokens", o.output_tokens},
            {"ignore_eos", o.ignore_eos},
            {"temperature", o.temperature},
            {"extra_body", o.extra_body},
            {"prompts_file", o.prompts_file},
            {"prefix_groups", o.prefix_groups},
            {"prefix_words", o.prefix_words},
            {"trace", o.trace},
            {"time_scale", o.time_scale},
            {"length_scale", o.length_scale},
            {"prompt_tokens_max", o.prompt_tokens_max},
            {"output_tokens_max", o.output_tokens_max},
            {"rounds", o.rounds},
            {"long_prompt_tokens", o.long_prompt_tokens},
            {"streams_max", o.streams_max},
            {"request_timeout_s", o.request_timeout_s},
            {"slo_ttft_ms", o.slo_ttft_ms},
            {"slo_tpot_ms", o.slo_tpot_ms},
            {"slo_e2el_ms", o.slo_e2el_ms}};
}

void add_server(Json& out, Report const& r) {
    out["client_cpu_s"] = r.client_cpu_s;
    out["client_cpu_us_per_token"] = per_token_us(r.client_cpu_s, r);
    if (!r.has_server) return;
    out["server_before"] = tree_json(r.server_before);
    out["server_after"] = tree_json(r.server_after);
    out["server_cpu_s"] = server_measured(r) ? Json(server_cpu_s(r)) : Json();
    out["server_cpu_us_per_token"] = server_measured(r) ? Json(per_token_us(server_cpu_s(r), r)) : Json();
}

void add_rounds(Json& out, Report const& r) {
    if (r.rounds.empty()) return;
    Json rounds = Json::array();
    for (auto const& round : r.rounds) {
        rounds.push_back({{"valid", round.valid},
                          {"worst_gap_ms", round.worst_gap_ms},
                          {"base_gap_ms", round.base_gap_ms},
                          {"long_ttft_ms", round.long_ttft_ms},
                          {"long_prompt_tokens", round.long_prompt_tokens}});
    }
    out["interference_rounds"] = std::move(rounds);
}

// When each request was sent, refused or accepted, and over: seconds since the first was sent.
void add_times(Json& out, Report const& r) {
    auto const since_begin = [&](Instant at) { return to_ms(at - r.begin) / 1000; };
    Json sent = Json::array(), heads = Json::array(), ends = Json::array(), statuses = Json::array();
    Json retry_after = Json::array();
    for (auto const& q : r.results) {
        sent.push_back(since_begin(q.sent));
        heads.push_back(q.head ? Json(since_begin(*q.head)) : Json());
        ends.push_back(since_begin(q.end));
        statuses.push_back(q.status);
        retry_after.push_back(q.retry_after_s ? Json(*q.retry_after_s) : Json());
    }
    out["sent_times"] = std::move(sent);
    out["head_times"] = std::move(heads);
    out["end_times"] = std::move(ends);
    out["statuses"] = std::move(statuses);
    out["retry_after_s"] = std::move(retry_after);
}

// Lists by request, in the order of sending; vLLM's units are seconds.
void add_requests(Json& out, Report const& r) {
    if (r.results.empty()) return;
    Json outcomes = Json::array(), input = Json::array(), output = Json::array(), errors = Json::array();
    Json ttfts = Json::array(), itls = Json::array(), texts = Json::array(), reasons = Json::array();
    for (auto const& q : r.results) {
        outcomes.push_back(to_string(q.outcome));
        input.push_back(q.usage ? q.usage->prompt_tokens : 0);
        output.push_back(q.usage ? q.usage->completion_tokens : q.chunks);
        errors.push_back(q.problem);
        ttfts.push_back(q.chunks > 0 ? to_ms(q.first - q.sent) / 1000 : 0.0);
        reasons.push_back(q.finish_reason);
        texts.push_back(q.text);
        Json gaps = Json::array();
        for (auto gap : q.gaps_ms) gaps.push_back(static_cast<double>(gap) / 1000);
        itls.push_back(std::move(gaps));
    }
    out["outcomes"] = std::move(outcomes);
    out["finish_reasons"] = std::move(reasons);
    out["input_lens"] = std::move(input);
    out["output_lens"] = std::move(output);
    out["errors"] = std::move(errors);
    if (r.options.keep_text) out["generated_texts"] = std::move(texts);
    if (!r.options.detailed) return;
    out["ttfts"] = std::move(ttfts);
    out["itls"] = std::move(itls);
    add_times(out, r);
}

std::string row(std::string_view name, Summary const& s) {
    return fmt::format("{:<18}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}{:>10.2f}\n", name, s.mean, s.min, s.median,
                       s.p90, s.p99, s.max);
}

std::string failures_text(Report const& r) {
    std::string out;
    for (auto const& f : r.failures) {
        out += fmt::format("  {} x {}, e.g.: {}\n", f.count, hearth::bench::to_string(f.outcome),
                           f.example.substr(0, 200));
    }
    return out;
}

std::string server_text(Report const& r) {
    auto out = fmt::format("client CPU        {:.2f} s, {:.1f} us per token\n", r.client_cpu_s,
                           per_token_us(r.client_cpu_s, r));
    if (!r.has_server) return out;
    if (!server_measured(r)) return out + "server CPU        unknown: the process ended during the run\n";
    out += fmt::format("server CPU        {:.2f} s, {:.1f} us per token\n", server_cpu_s(r),
                       per_token_us(server_cpu_s(r), r));
    out += fmt::format("server memory     RSS {:.1f} MiB, PSS {:.1f} MiB, private {:.1f} MiB in {} process(es)\n",
                       static_cast<double>(r.server_after.rss_kib()) / 1024,
                       static_cast<double>(r.server_after.pss_kib()) / 1024,
                       static_cast<double>(r.server_after.private_kib()) / 1024, r.server_after.processes.size());
    return out;
}

std::string rounds_text(Report const& r) {
    std::string out;
    for (auto const& round : r.rounds) {
        out += fmt::format(
            "long prompt       {} tokens, TTFT {:.0f} ms: worst gap of the running streams {:.1f} ms (before: {:.1f} "
            "ms){}\n",
            round.long_prompt_tokens, round.long_ttft_ms, round.worst_gap_ms, round.base_gap_ms,
            round.valid ? "" : "  INVALID: a stream ended early, raise --output-tokens");
    }
    return out;
}

}  // namespace

std::string to_json(Report const& r) {
    Json out;
    out["date"] = r.date;
    out["backend"] = "openai";
    out["model_id"] = r.model;
    out["config"] = config_json(r.options);
    out["num_prompts"] = r.requests;
    out["request_rate"] = r.options.mode == Mode::poisson ? Json(r.options.rate_per_s) : Json("inf");
    out["max_concurrency"] = r.options.mode == Mode::closed ? r.options.concurrency : r.options.streams_max;
    out["duration"] = r.duration_s;
    out["completed"] = r.completed;
    std::size_t failed = 0;
    Json failures = Json::object();
    for (auto const& f : r.failures) {
        failed += f.count;
        failures[std::string(hearth::bench::to_string(f.outcome))] = {{"count", f.count}, {"example", f.example}};
    }
    out["failed"] = failed;
    out["failures"] = std::move(failures);
    out["total_input_tokens"] = r.prompt_tokens;
    out["total_cached_tokens"] = r.cached_tokens;
    out["total_output_tokens"] = r.output_tokens;
    out["tokens_from_usage"] = r.tokens_from_usage;
    out["output_events"] = r.chunks;
    out["request_throughput"] = r.requests_per_s;
    out["request_goodput"] = r.goodput_per_s >= 0 ? Json(r.goodput_per_s) : Json();
    out["output_throughput"] = r.output_per_s;
    out["decode_throughput"] = r.decode_per_s;
    out["total_token_throughput"] = r.total_per_s;
    add_summary(out, "ttft_ms", r.ttft_ms);
    add_summary(out, "tpot_ms", r.tpot_ms);
    add_summary(out, "itl_ms", r.itl_ms);
    add_summary(out, "e2el_ms", r.e2el_ms);
    add_summary(out, "prefill_per_s", r.prefill_per_s);
    out["itl_quantiles_ms"] = r.itl_quantiles_ms;
    out["ttft_quantiles_ms"] = r.ttft_quantiles_ms;
    out["words_per_token"] = r.words_per_token;
    out["streams_peak"] = r.streams_peak;
    out["send_lag_ms_max"] = r.send_lag_ms_max;
    out["reconnects"] = r.reconnects;
    out["itl_cut"] = r.gaps_cut;
    out["trace_prompts_cut"] = r.prompts_cut;
    out["trace_outputs_cut"] = r.outputs_cut;
    add_server(out, r);
    add_rounds(out, r);
    add_requests(out, r);
    return out.dump(1, ' ', false, Json::error_handler_t::replace);
}

std::string to_text(Report const& r) {
    auto out = fmt::format("{} at {}, {} mode\n", r.model, r.options.url, to_string(r.options.mode));
    out += fmt::format("requests          {} sent, {} completed, {:.2f}/s in {:.2f} s, at most {} at once\n",
                       r.requests, r.completed, r.requests_per_s, r.duration_s, r.streams_peak);
    out += failures_text(r);
    out += fmt::format("tokens            {} in ({} cached), {} out in {} events{}\n", r.prompt_tokens, r.cached_tokens,
                       r.output_tokens, r.chunks,
                       r.tokens_from_usage ? "" : " (events counted: the server gives no usage)");
    out += fmt::format("output            {:.1f} tokens/s, {:.1f} while decoding; with prompts {:.1f} tokens/s\n",
                       r.output_per_s, r.decode_per_s, r.total_per_s);
    if (r.goodput_per_s >= 0)
        out += fmt::format("goodput           {:.2f} requests/s within the limits\n", r.goodput_per_s);
    if (r.send_lag_ms_max > 0) out += fmt::format("send lag          {:.1f} ms at most\n", r.send_lag_ms_max);
    out += rounds_text(r);
    out +=
        fmt::format("{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "", "mean", "min", "median", "p90", "p99", "max");
    out += row("TTFT ms", r.ttft_ms) + row("TPOT ms", r.tpot_ms) + row("ITL ms", r.itl_ms) + row("E2EL ms", r.e2el_ms);
    out += row("prefill tokens/s", r.prefill_per_s);
    return out + server_text(r);
}

}  // namespace hearth::bench
