#include <array>
#include <charconv>
#include <fstream>
#include <thread>

#include <fmt/format.h>

#include "app/cli.h"
#include "app/commands.h"
#include "app/environment.h"
#include "sim/baselines.h"
#include "sim/check.h"
#include "sim/costs.h"
#include "sim/policy.h"
#include "sim/report.h"
#include "traffic/trace.h"

namespace hearth::app {
namespace {

struct CostName {
    std::string_view name;
    double sim::Costs::* field;
};

constexpr std::array kCosts{
    CostName{"step-ms", &sim::Costs::step_ms},
    CostName{"row-ms", &sim::Costs::row_ms},
    CostName{"prompt-token-ms", &sim::Costs::prompt_token_ms},
    CostName{"attended-us", &sim::Costs::attended_us},
    CostName{"save-us-per-cell", &sim::Costs::save_us_per_cell},
    CostName{"restore-us-per-cell", &sim::Costs::restore_us_per_cell},
    CostName{"copy-us-per-cell", &sim::Costs::copy_us_per_cell},
    CostName{"noise", &sim::Costs::noise},
};

Status set_cost(sim::Costs& costs, std::string_view assignment) {
    auto const equals = std::min(assignment.find('='), assignment.size());
    auto const name = assignment.substr(0, equals);
    auto const text = assignment.substr(std::min(equals + 1, assignment.size()));
    double value = -1;
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    bool const number = error == std::errc{} && end == text.data() + text.size();
    double const most = name == "noise" ? 1 : 1e6;
    if (!number || !(value >= 0 && value <= most)) {
        return Error(Code::invalid_argument,
                     fmt::format("--cost wants NAME=NUMBER with a number from 0 to {}, got '{}'", most, assignment),
                     "cost");
    }
    std::string known;
    for (auto const& cost : kCosts) {
        if (cost.name == name) {
            costs.*cost.field = value;
            return ok();
        }
        known += fmt::format("{}{}", known.empty() ? "" : ", ", cost.name);
    }
    return Error(Code::invalid_argument, fmt::format("there is no cost '{}'; there are {}", name, known), "cost");
}

Result<sim::Workload> workload_of(SimFlags const& flags) {
    if (flags.trace.empty()) {
        return sim::shape_workload(flags.shape,
                                   {.requests = flags.requests, .rate_per_s = flags.rate_per_s, .seed = flags.seed});
    }
    HEARTH_TRY(auto const rows, traffic::read_trace(flags.trace, flags.trace_format, flags.requests));
    auto workload = sim::trace_workload(rows, {.time_scale = flags.time_scale,
                                               .length_scale = flags.length_scale,
                                               .context = flags.context,
                                               .seed = flags.seed});
    workload.name = flags.trace;
    return workload;
}

Result<sim::Setup> setup_of(SimFlags const& flags) {
    sim::Setup setup;
    setup.engine.requests_max = flags.queue;
    setup.engine.seed = flags.seed;
    setup.model.seed = flags.seed;
    setup.model.context_request = flags.context;
    setup.model.kv_cells = flags.kv_cells;
    setup.model.sequences_max = flags.sequences;
    setup.model.sequences_kept = flags.kept_sequences;
    setup.model.batch_max = flags.batch;
    HEARTH_TRY(auto const memory, parse_size(flags.cache_memory, "--cache-memory"));
    // As many tokens as the bytes would hold of real ones.
    setup.engine.tiers.memory_bytes = memory / flags.cell_bytes * sim::kSavedBytesPerCell;
    if (!flags.cost_from.empty()) {
        HEARTH_TRY(setup.model.costs, sim::read_costs(flags.cost_from, setup.model.costs));
    }
    for (auto const& cost : flags.costs) HEARTH_CHECK(set_cost(setup.model.costs, cost));
    return setup;
}

void add_baselines(sim::Report& result, sim::Workload const& workload, SimFlags const& flags) {
    sim::LlamaServer server{.slots = flags.peer_slots, .kv_cells = flags.kv_cells};
    result.baselines.push_back({"an unbounded cache", sim::unbounded_cache(workload)});
    result.baselines.push_back({fmt::format("llama-server, {} slots, no cache in RAM", flags.peer_slots),
                                sim::llama_server(workload, server)});
    server.ram_cells = flags.peer_ram_cells;
    result.baselines.push_back(
        {fmt::format("llama-server, {} slots, {} tokens in RAM", flags.peer_slots, flags.peer_ram_cells),
         sim::llama_server(workload, server)});
}

int export_to(std::string const& path, sim::Workload const& workload) {
    std::ofstream file(path);
    file << sim::to_json(workload) << '\n';
    file.flush();
    return file ? int{kExitOk} : report(Error(Code::io, fmt::format("cannot write {}", path)));
}

int check(SimFlags const& flags) {
    auto const result = sim::check_seeds(
        {.first = flags.seed, .count = flags.seeds, .threads = std::max(1U, std::thread::hardware_concurrency())});
    std::string out;
    for (auto const& failure : result.failures) out += failure + '\n';
    auto const& tally = result.tally;
    out += fmt::format(
        "{} seeds, {} failures, {:.1f} s: {} requests in {} steps and {:.0f} simulated s; {} done, {} failed, {} "
        "cancelled, "
        "{} preemptions, {} steps interrupted, {} prompt tokens from the cache, {} of {} guesses of a draft model "
        "right\n",
        flags.seeds, result.failures.size(), result.wall_s, tally.requests, tally.steps, tally.simulated_s, tally.done,
        tally.failed, tally.cancelled, tally.preemptions, tally.interruptions, tally.cached_tokens,
        tally.model_accepted, tally.model_drafted);
    int const written = write_out(out);
    return result.failures.empty() ? written : int{kExitError};
}

}  // namespace

int sim(SimFlags const& flags) {
    if (flags.check) return check(flags);
    auto const workload = workload_of(flags);
    if (!workload) return report(workload.error());
    if (!flags.export_file.empty()) return export_to(flags.export_file, *workload);
    auto const setup = setup_of(flags);
    if (!setup) return report(setup.error());
    std::vector<std::string> names = flags.policies;
    if (names.empty()) names = {"hearth", "no-cache", "fifo"};
    sim::Report result;
    result.workload = workload->name;
    result.requests = workload->jobs.size();
    result.cut = workload->cut;
    result.objectives = {.ttft_ms = flags.good_ttft_ms, .gap_ms = flags.good_gap_ms};
    for (auto const& name : names) {
        auto const policy = sim::find_policy(name);
        if (!policy) return report(policy.error());
        auto adapted = *setup;
        policy->apply(adapted, *workload);
        result.policies.push_back(sim::simulate(*workload, adapted, name, result.objectives));
    }
    add_baselines(result, *workload, flags);
    return write_out(flags.json ? sim::to_json(result) + '\n' : sim::to_text(result));
}

}  // namespace hearth::app
