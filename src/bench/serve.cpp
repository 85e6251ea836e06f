#include "bench/serve.h"

#include <algorithm>
#include <ctime>
#include <map>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "bench/session.h"
#include "bench/workload.h"
#include "traffic/trace.h"

namespace hearth::bench {

namespace {

constexpr auto kPollMax = std::chrono::seconds(1);
constexpr std::uint64_t kWarmupSeed = 0x7761726D7570ULL;
// The interference scenario: each stream has produced so much before the long
// prompt is sent, and again after it was answered.
constexpr std::uint64_t kSettleChunks = 16;
constexpr std::uint64_t kAfterChunks = 8;

Instant now() { return std::chrono::steady_clock::now(); }
Duration seconds(double s) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s)); }

std::string utc_now() {
    auto const t = std::time(nullptr);
    std::tm parts{};
    ::gmtime_r(&t, &parts);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text.data();
}

// ---- planning

Result<Plan> make_plan(ServeOptions const& o, Session& session, Report& report) {
    if (o.mode == Mode::replay) {
        HEARTH_TRY(auto const rows, traffic::read_trace(o.trace, o.trace_format, o.requests));
        HEARTH_TRY(auto const words_max, session.words_for_tokens(o.prompt_tokens_max));
        ReplayShape shape;
        shape.time_scale = o.time_scale;
        shape.length_scale = o.length_scale;
        shape.words_per_token = session.words_per_token();
        shape.prompt_words_max = words_max;
        shape.output_tokens_max = o.output_tokens_max;
        shape.seed = o.seed;
        auto replay = replay_plan(rows, shape);
        report.prompts_cut = replay.prompts_cut;
        report.outputs_cut = replay.outputs_cut;
        return std::move(replay.plan);
    }
    UniqueShape unique{o.requests, o.prompt_words, o.output_tokens, o.seed};
    if (o.prompt_tokens > 0) {
        HEARTH_TRY(unique.words, session.words_for_tokens(o.prompt_tokens));
    }
    auto plan =
        o.prefix_groups > 0 ? shared_prefix_plan({unique, o.prefix_groups, o.prefix_words}) : unique_plan(unique);
    if (o.mode == Mode::poisson) arrive_poisson(plan, o.rate_per_s, o.seed);
    return plan;
}

// Without what would arrive after the last send.
void cut_at(double duration_s, Plan& plan) {
    if (duration_s > 0) std::erase_if(plan, [=](auto const& request) { return request.at_s >= duration_s; });
}

// ---- the modes

// Keeps what the client has in flight and remembers the highest of it.
void note_peak(Session& session, Report& report) {
    report.streams_peak = std::max(report.streams_peak, static_cast<std::uint32_t>(session.client().active()));
}

// After this moment nothing is sent.
Instant last_send(double duration_s) { return duration_s > 0 ? now() + seconds(duration_s) : Instant::max(); }

void run_closed(Plan const& plan, std::uint32_t concurrency, Instant until, Session& session, Report& report) {
    auto& client = session.client();
    std::size_t next = 0;
    auto const more = [&] { return next < plan.size() && now() < until; };
    while (more() || client.active() > 0) {
        while (more() && client.active() < concurrency) {
            session.send(plan[next], next);
            ++next;
            note_peak(session, report);
        }
        client.poll(kPollMax);
    }
}

void run_open(Plan const& plan, Session& session, Report& report) {
    auto& client = session.client();
    auto const start = now();
    auto const until = last_send(report.options.duration_s);
    std::size_t next = 0;
    auto const more = [&] { return next < plan.size() && now() < until; };
    while (more() || client.active() > 0) {
        auto wait = Duration(kPollMax);
        while (more()) {
            auto const due = start + seconds(plan[next].at_s);
            auto const late = now() - due;
            if (late < Duration::zero()) {
                wait = std::min(wait, -late);
                break;
            }
            if (client.active() >= report.options.streams_max) break;
            report.send_lag_ms_max = std::max(report.send_lag_ms_max, to_ms(late));
            session.send(plan[next], next);
            ++next;
            note_peak(session, report);
        }
        client.poll(wait);
    }
}

// True once every one of `streams` has at least `wanted(i)` chunks; false when
// one of them ended before.
template <typename Wanted>
bool all_reach(LoadClient& client, std::vector<std::size_t> const& streams, Wanted wanted) {
    for (;;) {
        bool all = true;
        for (std::size_t i = 0; i < streams.size(); ++i) {
            auto const& r = client.result(streams[i]);
            if (r.chunks >= wanted(i)) continue;
            if (r.outcome != Outcome::pending) return false;
            all = false;
        }
        if (all) return true;
        client.poll(kPollMax);
    }
}

float worst_of(std::vector<float> const& gaps, std::size_t from, std::size_t to) {
    float worst = 0;
    for (auto i = from; i < std::min(to, gaps.size()); ++i) worst = std::max(worst, gaps[i]);
    return worst;
}

InterferenceRound run_round(Plan const& streams_plan, PlannedRequest const& long_request, Session& session) {
    auto& client = session.client();
    InterferenceRound round;
    std::vector<std::size_t> streams;
    streams.reserve(streams_plan.size());
    for (std::size_t i = 0; i < streams_plan.size(); ++i) streams.push_back(session.send(streams_plan[i], i));
    round.valid = all_reach(client, streams, [](std::size_t) { return kSettleChunks; });

    std::vector<std::size_t> gaps_before;
    gaps_before.reserve(streams.size());
    for (auto index : streams) gaps_before.push_back(client.result(index).gaps_ms.size());
    auto const arriving = session.send(long_request, 0);
    auto const answered = all_reach(client, {arriving}, [](std::size_t) { return std::uint64_t{1}; });
    std::vector<std::uint64_t> chunks_then;
    for (auto index : streams) {
        round.valid = round.valid && client.result(index).outcome == Outcome::pending;
        chunks_then.push_back(client.result(index).chunks);
    }
    auto const went_on = all_reach(client, streams, [&](std::size_t i) { return chunks_then[i] + kAfterChunks; });
    round.valid = round.valid && answered && went_on;
    for (std::size_t i = 0; i < streams.size(); ++i) {
        auto const& gaps = client.result(streams[i]).gaps_ms;
        auto const settled = gaps_before[i] - std::min<std::size_t>(gaps_before[i], kSettleChunks / 2);
        round.base_gap_ms = std::max<double>(round.base_gap_ms, worst_of(gaps, settled, gaps_before[i]));
        round.worst_gap_ms = std::max<double>(round.worst_gap_ms, worst_of(gaps, gaps_before[i], gaps.size()));
        client.cancel(streams[i]);
    }
    while (client.result(arriving).outcome == Outcome::pending) client.poll(kPollMax);
    auto const& result = client.result(arriving);
    if (answered) round.long_ttft_ms = to_ms(result.first - result.sent);
    if (result.usage) round.long_prompt_tokens = result.usage->prompt_tokens;
    return round;
}

Status run_interference(ServeOptions const& o, Session& session, Report& report) {
    HEARTH_TRY(auto const long_words, session.words_for_tokens(o.long_prompt_tokens));
    // The outputs of the streams are cut by cancelling; the long one is short.
    constexpr std::uint32_t kLongOutput = 8;
    report.streams_peak = o.concurrency + 1;
    for (std::uint32_t i = 0; i < o.rounds; ++i) {
        auto const seed = o.seed + 1000 * std::uint64_t{i};
        auto const streams = unique_plan({o.concurrency, o.prompt_words, o.output_tokens, seed});
        auto const arriving = unique_plan({1, long_words, kLongOutput, seed + 1});
        report.rounds.push_back(run_round(streams, arriving.front(), session));
    }
    return ok();
}

Status warm_up(ServeOptions const& o, Session& session) {
    if (o.warmup == 0) return ok();
    auto const plan =
        unique_plan({o.warmup, o.prompt_words, std::min<std::uint32_t>(o.output_tokens, 32), o.seed ^ kWarmupSeed});
    Report ignored;
    ignored.options = o;
    run_closed(plan, std::min<std::uint32_t>(o.mode == Mode::closed ? o.concurrency : 1, o.warmup), Instant::max(),
               session, ignored);
    auto const results = session.client().take_results();
    for (auto const& r : results) {
        if (r.outcome != Outcome::connect) return ok();
    }
    return Error{Code::unavailable, fmt::format("{}: {}", o.url, results.front().problem), "url"};
}

// ---- the report

std::uint64_t output_tokens(RequestResult const& r) { return r.usage ? r.usage->completion_tokens : r.chunks; }

// What is gathered from completed requests, before it is summarised.
struct Samples {
    std::vector<double> ttft, tpot, itl, e2el, prefill;
    std::uint64_t after_first = 0;  // output tokens after each request's first
    std::size_t good = 0;
    Instant first_output = Instant::max();
    Instant last_output = Instant::min();
};

void add_sample(RequestResult const& r, ServeOptions const& o, Samples& s) {
    auto const ttft = to_ms(r.first - r.sent);
    auto const e2el = to_ms(r.last - r.sent);
    auto const tokens = output_tokens(r);
    auto const tpot = tokens > 1 ? (e2el - ttft) / static_cast<double>(tokens - 1) : 0;
    s.ttft.push_back(ttft);
    s.e2el.push_back(e2el);
    if (tokens > 1) s.tpot.push_back(tpot);
    s.itl.insert(s.itl.end(), r.gaps_ms.begin(), r.gaps_ms.end());
    if (r.usage && r.usage->prompt_tokens > r.usage->cached_tokens && ttft > 0) {
        s.prefill.push_back(static_cast<double>(r.usage->prompt_tokens - r.usage->cached_tokens) / ttft * 1000);
    }
    s.after_first += tokens > 0 ? tokens - 1 : 0;
    s.first_output = std::min(s.first_output, r.first);
    s.last_output = std::max(s.last_output, r.last);
    auto const meets = [](double limit, double value) { return limit <= 0 || value <= limit; };
    if (meets(o.slo_ttft_ms, ttft) && meets(o.slo_tpot_ms, tpot) && meets(o.slo_e2el_ms, e2el)) ++s.good;
}

void count_failure(RequestResult const& r, std::map<Outcome, Failures>& failures) {
    auto& f = failures[r.outcome];
    f.outcome = r.outcome;
    if (f.count++ == 0) f.example = r.problem;
}

void summarise_into(Report& report, Samples const& s) {
    report.ttft_ms = traffic::summarise(s.ttft);
    report.tpot_ms = traffic::summarise(s.tpot);
    report.itl_ms = traffic::summarise(s.itl);
    report.e2el_ms = traffic::summarise(s.e2el);
    report.prefill_per_s = traffic::summarise(s.prefill);
    report.itl_quantiles_ms = traffic::quantiles(s.itl, 201);
    report.ttft_quantiles_ms = traffic::quantiles(s.ttft, 201);
    auto const window_s = to_ms(s.last_output - s.first_output) / 1000;
    if (report.completed > 0 && window_s > 0) report.decode_per_s = static_cast<double>(s.after_first) / window_s;
    if (report.duration_s <= 0) return;
    report.output_per_s = static_cast<double>(report.output_tokens) / report.duration_s;
    report.total_per_s = static_cast<double>(report.output_tokens + report.prompt_tokens) / report.duration_s;
    report.requests_per_s = static_cast<double>(report.completed) / report.duration_s;
    auto const& o = report.options;
    if (o.slo_ttft_ms > 0 || o.slo_tpot_ms > 0 || o.slo_e2el_ms > 0)
        report.goodput_per_s = static_cast<double>(s.good) / report.duration_s;
}

void digest(Report& report, std::vector<RequestResult> results) {
    Samples samples;
    std::map<Outcome, Failures> failures;
    report.tokens_from_usage = true;
    report.requests = results.size();
    Instant begin = Instant::max(), end = Instant::min();
    for (auto const& r : results) {
        begin = std::min(begin, r.sent);
        end = std::max(end, r.end);
        report.chunks += r.chunks;
        report.output_tokens += output_tokens(r);
        if (r.usage) {
            report.prompt_tokens += r.usage->prompt_tokens;
            report.cached_tokens += r.usage->cached_tokens;
        }
        if (r.outcome == Outcome::completed) {
            ++report.completed;
            report.tokens_from_usage = report.tokens_from_usage && r.usage.has_value();
            add_sample(r, report.options, samples);
        } else if (r.outcome != Outcome::cancelled) {
            count_failure(r, failures);
        }
    }
    report.begin = begin;
    if (!results.empty()) report.duration_s = to_ms(end - begin) / 1000;
    for (auto& [outcome, f] : failures) report.failures.push_back(std::move(f));
    summarise_into(report, samples);
    if (report.options.detailed || report.options.keep_text) report.results = std::move(results);
}

}  // namespace

Result<Report> run_serve(ServeOptions const& options) {
    HEARTH_CHECK(check(options));
    Report report;
    report.options = options;
    report.options.api_key.clear();  // a report is passed around
    report.date = utc_now();
    HEARTH_TRY(auto const session, Session::create(options));
    report.model = session->model();
    Plan plan;
    if (options.mode != Mode::interference) {
        HEARTH_TRY(plan, make_plan(options, *session, report));
        cut_at(options.duration_s, plan);
    }
    [[maybe_unused]] auto const probes = session->client().take_results();
    HEARTH_CHECK(warm_up(options, *session));
    report.has_server = options.server_pid > 0;
    if (report.has_server) {
        HEARTH_TRY(report.server_before, sample_tree(options.server_pid));
    }
    auto const cpu_before = own_cpu_s();
    switch (options.mode) {
        case Mode::closed:
            run_closed(plan, options.concurrency, last_send(options.duration_s), *session, report);
            break;
        case Mode::poisson:
        case Mode::replay: run_open(plan, *session, report); break;
        case Mode::interference: HEARTH_CHECK(run_interference(options, *session, report)); break;
    }
    report.client_cpu_s = own_cpu_s() - cpu_before;
    if (report.has_server) {
        // A server that died during the run has no tree any more: its requests
        // are counted as failed, and `after` stays empty.
        auto after = sample_tree(options.server_pid);
        if (after) report.server_after = std::move(after).value();
    }
    report.words_per_token = session->words_per_token();
    report.gaps_cut = session->client().gaps_cut();
    report.reconnects = session->client().reconnects();
    digest(report, session->client().take_results());
    return report;
}

}  // namespace hearth::bench
