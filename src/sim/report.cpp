#include "sim/report.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace hearth::sim {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kNameWidth = 34;
constexpr int kColumnWidth = 26;
constexpr std::size_t kGroupsMax = 8;

struct Samples {
    Group group;
    std::vector<double> ttft_ms, queue_ms;
};

bool is_good(Outcome const& outcome, Objectives const& objectives) {
    return outcome.end == End::done && outcome.first_ms - outcome.arrived_ms <= objectives.ttft_ms &&
           outcome.gap_ms_max <= objectives.gap_ms;
}

void add(Samples& samples, Outcome const& outcome, double now_ms, Objectives const& objectives) {
    auto& group = samples.group;
    ++group.requests;
    group.done += outcome.end == End::done ? 1 : 0;
    group.good += is_good(outcome, objectives) ? 1 : 0;
    if (outcome.arrived_ms < 0) return;
    double const left_queue = outcome.started_ms >= 0 ? outcome.started_ms
                              : outcome.ended_ms >= 0 ? outcome.ended_ms
                                                      : now_ms;
    group.wait_ms_max = std::max(group.wait_ms_max, left_queue - outcome.arrived_ms);
    if (outcome.started_ms >= 0) {
        samples.queue_ms.push_back(outcome.started_ms - outcome.arrived_ms);
        group.prompt_tokens += outcome.prompt;
        group.cached_tokens += outcome.cached;
    }
    if (outcome.first_ms >= 0) samples.ttft_ms.push_back(outcome.first_ms - outcome.arrived_ms);
}

Group summed_up(Samples samples, std::string name) {
    samples.group.name = std::move(name);
    samples.group.ttft_ms = traffic::summarise(std::move(samples.ttft_ms));
    samples.group.queue_ms = traffic::summarise(std::move(samples.queue_ms));
    return std::move(samples.group);
}

std::string_view name_of(domain::Priority priority) {
    switch (priority) {
        case domain::Priority::interactive: return "interactive";
        case domain::Priority::normal: return "normal";
        case domain::Priority::batch: return "batch";
    }
    return "?";
}

std::vector<Group> groups_of(Run const& run, Objectives const& objectives) {
    Samples all;
    std::map<domain::Priority, Samples> classes;
    std::map<std::uint32_t, Samples> tenants;
    auto const& outcomes = run.outcomes();
    for (std::uint32_t i = 0; i < outcomes.size(); ++i) {
        for (auto* samples : {&all, &classes[run.job(i).priority], &tenants[run.job(i).tenant]})
            add(*samples, outcomes[i], run.now_ms(), objectives);
    }
    std::vector<Group> groups;
    groups.push_back(summed_up(std::move(all), "all"));
    std::vector<double> gaps;
    for (auto& [priority, samples] : classes) {
        auto const& of_class = run.gaps_ms(priority);
        gaps.insert(gaps.end(), of_class.begin(), of_class.end());
        if (classes.size() < 2) continue;
        groups.push_back(summed_up(std::move(samples), std::string(name_of(priority))));
        groups.back().gap_ms = traffic::summarise(of_class);
    }
    groups.front().gap_ms = traffic::summarise(std::move(gaps));
    if (tenants.size() < 2) return groups;
    for (auto& [tenant, samples] : tenants)
        groups.push_back(summed_up(std::move(samples), fmt::format("tenant {}", tenant)));
    return groups;
}

using Cell = std::string (*)(PolicyResult const&, Report const&);

double per_s(std::uint64_t tokens, PolicyResult const& result) {
    return result.simulated_s > 0 ? static_cast<double>(tokens) / result.simulated_s : 0;
}

double times_needed(std::uint64_t computed, Report const& report) {
    auto const needed = report.baselines.empty() ? 0 : report.baselines.front().tokens.computed;
    return needed > 0 ? static_cast<double>(computed) / static_cast<double>(needed) : 0;
}

double hit_rate(std::uint64_t cached, std::uint64_t total) {
    return total > 0 ? static_cast<double>(cached) / static_cast<double>(total) : 0;
}

double times_real(PolicyResult const& result) { return result.wall_s > 0 ? result.simulated_s / result.wall_s : 0; }

struct RowOfTable {
    std::string_view name;
    Cell cell;
};

// clang-format off
constexpr RowOfTable kRows[] = {
    {"requests done", [](auto const& r, auto const&) { return fmt::format("{} of {}", r.groups[0].done, r.groups[0].requests); }},
    {"cancelled, failed, refused", [](auto const& r, auto const&) { return fmt::format("{}, {}, {}", r.cancelled, r.failed, r.refused); }},
    {"prompt tokens computed", [](auto const& r, auto const&) { return fmt::format("{}", r.computed_tokens); }},
    {"  times an unbounded cache's", [](auto const& r, auto const& report) { return fmt::format("{:.3f}", times_needed(r.computed_tokens, report)); }},
    {"output tokens/s", [](auto const& r, auto const&) { return fmt::format("{:.1f}", per_s(r.said_tokens, r)); }},
    {"goodput, output tokens/s", [](auto const& r, auto const&) { return fmt::format("{:.1f}", per_s(r.good_tokens, r)); }},
    {"good requests", [](auto const& r, auto const&) { return fmt::format("{:.1f} %", 100 * hit_rate(r.groups[0].good, r.groups[0].requests)); }},
    {"preemptions", [](auto const& r, auto const&) { return fmt::format("{}", r.preemptions); }},
    {"steps", [](auto const& r, auto const&) { return fmt::format("{}", r.steps); }},
    {"simulated s (times real time)", [](auto const& r, auto const&) { return fmt::format("{:.0f} ({:.0f} x)", r.simulated_s, times_real(r)); }},
};
// clang-format on

std::string p50_95_99(traffic::Summary const& s) {
    return s.count == 0 ? "-" : fmt::format("{:.0f} / {:.0f} / {:.0f}", s.median, s.p95, s.p99);
}

std::string p50_99_max(traffic::Summary const& s) {
    return s.count == 0 ? "-" : fmt::format("{:.1f} / {:.1f} / {:.0f}", s.median, s.p99, s.max);
}

// Groups are the same for all policies; tenants beyond a handful are left to the JSON.
std::string group_rows(Report const& report, std::string_view title, std::string (*cell)(Group const&)) {
    std::string out;
    auto const& groups = report.policies.front().groups;
    for (std::size_t i = 0; i < std::min(groups.size(), kGroupsMax); ++i) {
        auto const& name = groups[i].name;
        out += fmt::format("{:<{}}", i == 0 ? std::string(title) : "  " + name, kNameWidth);
        for (auto const& policy : report.policies) out += fmt::format("{:>{}}", cell(policy.groups[i]), kColumnWidth);
        out += '\n';
    }
    return out;
}

Json json_of(traffic::Summary const& s) {
    return {{"count", s.count}, {"mean", s.mean}, {"p50", s.median}, {"p90", s.p90},
            {"p95", s.p95},     {"p99", s.p99},   {"max", s.max}};
}

Json json_of(Group const& group) {
    return {{"name", group.name},
            {"requests", group.requests},
            {"done", group.done},
            {"good", group.good},
            {"prompt_tokens", group.prompt_tokens},
            {"cached_tokens", group.cached_tokens},
            {"hit_rate", hit_rate(group.cached_tokens, group.prompt_tokens)},
            {"wait_ms_max", group.wait_ms_max},
            {"ttft_ms", json_of(group.ttft_ms)},
            {"queue_ms", json_of(group.queue_ms)},
            {"gap_ms", json_of(group.gap_ms)}};
}

Json json_of(PolicyResult const& r, Report const& report) {
    Json groups = Json::array();
    for (auto const& group : r.groups) groups.push_back(json_of(group));
    return {{"policy", r.policy},
            {"stuck", r.stuck},
            {"simulated_s", r.simulated_s},
            {"wall_s", r.wall_s},
            {"times_real_time", times_real(r)},
            {"cancelled", r.cancelled},
            {"failed", r.failed},
            {"refused", r.refused},
            {"skipped", r.skipped},
            {"open", r.open},
            {"prompt_tokens", r.prompt_tokens},
            {"cached_tokens", r.cached_tokens},
            {"computed_tokens", r.computed_tokens},
            {"times_unbounded", times_needed(r.computed_tokens, report)},
            {"hit_rate", hit_rate(r.cached_tokens, r.prompt_tokens)},
            {"output_tokens", r.said_tokens},
            {"output_tokens_per_s", per_s(r.said_tokens, r)},
            {"goodput_tokens_per_s", per_s(r.good_tokens, r)},
            {"steps", r.steps},
            {"preemptions", r.preemptions},
            {"groups", std::move(groups)}};
}

}  // namespace

PolicyResult simulate(Workload const& workload, Setup const& setup, std::string policy, Objectives const& objectives) {
    SteadyClock const wall;
    Instant const begin = wall.now();
    Run run(workload, setup);
    while (run.advance()) {}
    PolicyResult result;
    result.policy = std::move(policy);
    result.stuck = run.stuck();
    result.simulated_s = run.now_ms() / 1000;
    result.wall_s = to_ms(wall.now() - begin) / 1000;
    for (auto const& outcome : run.outcomes()) {
        result.cancelled += outcome.end == End::cancelled ? 1 : 0;
        result.failed += outcome.end == End::failed ? 1 : 0;
        result.refused += outcome.end == End::refused ? 1 : 0;
        result.skipped += outcome.end == End::skipped ? 1 : 0;
        result.open += outcome.end == End::open ? 1 : 0;
        result.said_tokens += outcome.said;
        if (is_good(outcome, objectives)) result.good_tokens += outcome.said;
        if (outcome.started_ms < 0) continue;
        result.prompt_tokens += outcome.prompt;
        result.cached_tokens += outcome.cached;
    }
    auto const stats = run.core().stats();
    result.computed_tokens = stats.prompt_tokens_total;
    result.preemptions = stats.preemptions_total;
    result.steps = run.steps();
    result.groups = groups_of(run, objectives);
    return result;
}

std::string to_text(Report const& report) {
    std::string out = fmt::format("{}: {} requests{}; good: first token within {:.0f} ms, no gap above {:.0f} ms\n\n",
                                  report.workload, report.requests,
                                  report.cut > 0 ? fmt::format(", {} prompts cut to fit", report.cut) : "",
                                  report.objectives.ttft_ms, report.objectives.gap_ms);
    if (!report.policies.empty()) {
        out += fmt::format("{:<{}}", "", kNameWidth);
        for (auto const& policy : report.policies) out += fmt::format("{:>{}}", policy.policy, kColumnWidth);
        out += '\n';
        for (auto const& row : kRows) {
            out += fmt::format("{:<{}}", row.name, kNameWidth);
            for (auto const& policy : report.policies)
                out += fmt::format("{:>{}}", row.cell(policy, report), kColumnWidth);
            out += '\n';
        }
        out += group_rows(report, "hit rate", [](Group const& g) {
            return fmt::format("{:.1f} %", 100 * hit_rate(g.cached_tokens, g.prompt_tokens));
        });
        out += group_rows(report, "TTFT ms, p50 / p95 / p99", [](Group const& g) { return p50_95_99(g.ttft_ms); });
        out += group_rows(report, "queue ms, p50 / p95 / p99", [](Group const& g) { return p50_95_99(g.queue_ms); });
        out +=
            group_rows(report, "longest wait ms", [](Group const& g) { return fmt::format("{:.0f}", g.wait_ms_max); });
        out += group_rows(report, "gap of tokens ms, p50 / p99 / max",
                          [](Group const& g) { return p50_99_max(g.gap_ms); });
        for (auto const& policy : report.policies) {
            if (policy.stuck) out += fmt::format("{}: STUCK, {} requests never ended\n", policy.policy, policy.open);
        }
        out += '\n';
    }
    for (auto const& baseline : report.baselines) {
        out += fmt::format("{:<{}} computes {:>12} of {} prompt tokens, {:.3f} times an unbounded cache's\n",
                           baseline.name, 48, baseline.tokens.computed, baseline.tokens.total,
                           times_needed(baseline.tokens.computed, report));
    }
    return out;
}

std::string to_json(Report const& report) {
    Json out{{"workload", report.workload},
             {"requests", report.requests},
             {"cut", report.cut},
             {"good_ttft_ms", report.objectives.ttft_ms},
             {"good_gap_ms", report.objectives.gap_ms}};
    out["policies"] = Json::array();
    for (auto const& policy : report.policies) out["policies"].push_back(json_of(policy, report));
    out["baselines"] = Json::array();
    for (auto const& baseline : report.baselines) {
        out["baselines"].push_back({{"name", baseline.name},
                                    {"prompt_tokens", baseline.tokens.total},
                                    {"computed_tokens", baseline.tokens.computed},
                                    {"times_unbounded", times_needed(baseline.tokens.computed, report)}});
    }
    return out.dump(2);
}

}  // namespace hearth::sim
