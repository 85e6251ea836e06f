#include "sim/policy.h"

#include <algorithm>
#include <array>
#include <string>

#include <fmt/format.h>

namespace hearth::sim {
namespace {

void as_it_is(Setup&, Workload const&) {}

void no_cache(Setup& setup, Workload const&) { setup.engine.prefix_cache = false; }

// Prompts in order of arrival, as many tokens in a step as a batch holds.
void fifo(Setup& setup, Workload const&) {
    constexpr std::uint32_t kBatch = 2048;
    setup.plain = true;
    setup.engine.prefix_cache = false;
    setup.model.batch_max = kBatch;
    setup.engine.prompt_tokens = kBatch;
    setup.engine.mixed_tokens_max = kBatch;
    setup.engine.step_ms_target = 1'000'000;
    setup.engine.reserve_output = false;
}

// The longest target that `hearth serve` takes.
void long_steps(Setup& setup, Workload const&) { setup.engine.step_ms_target = 10'000; }

void plain(Setup& setup, Workload const&) { setup.plain = true; }

// Room for everything the workload could ever put into the cache.
void unbounded(Setup& setup, Workload const& workload) {
    constexpr std::uint64_t kCellsMax = 1U << 28U;
    std::uint64_t cells = setup.model.kv_cells;
    std::uint64_t kept = setup.model.sequences_kept;
    for (auto const& job : workload.jobs) {
        for (auto const& segment : job.prompt) cells += segment.tokens;
        cells += std::uint64_t{job.output_tokens} * job.choices;
        kept += job.choices;
    }
    setup.model.kv_cells = static_cast<std::uint32_t>(std::min(cells, kCellsMax));
    setup.model.sequences_kept = static_cast<std::uint32_t>(kept);
}

// clang-format off
constexpr std::array kPolicies{
    Policy{"hearth", "the engine as it serves", as_it_is},
    Policy{"no-cache", "every prompt is computed from its start (--no-prefix-cache)", no_cache},
    Policy{"long-steps", "as hearth, but steps are not kept short for running streams (--step-target-ms 10000)", long_steps},
    Policy{"plain", "as hearth, with one tenant and one class for all", plain},
    Policy{"fifo", "in order of arrival, prompts fill batches of 2,048 tokens beside running streams, nothing is shared", fifo},
    Policy{"unbounded", "as hearth, with a cache that never has to evict", unbounded},
};
// clang-format on

}  // namespace

std::span<Policy const> policies() { return kPolicies; }

Result<Policy> find_policy(std::string_view name) {
    for (auto const& policy : kPolicies) {
        if (policy.name == name) return policy;
    }
    std::string known;
    for (auto const& policy : kPolicies) known += fmt::format("{}{}", known.empty() ? "" : ", ", policy.name);
    return Error(Code::invalid_argument, fmt::format("there is no policy '{}'; there are {}", name, known), "policy");
}

}  // namespace hearth::sim
