// What a run was like, as tables for a person and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/baselines.h"
#include "sim/run.h"
#include "traffic/stats.h"

namespace hearth::sim {

struct Objectives {  // of a request that counts as good
    double ttft_ms = 5000;
    double gap_ms = 500;  // the longest between two of its tokens
};

// Requests of one class, one tenant, or all.
struct Group {
    std::string name;
    std::uint64_t requests = 0;
    std::uint64_t done = 0;
    std::uint64_t good = 0;       // done within the objectives
    std::uint64_t prompt_tokens = 0;  // of those that were admitted
    std::uint64_t cached_tokens = 0;  // of those, found in the cache
    double wait_ms_max = 0;       // arrival to admission, or to the end of those never admitted
    traffic::Summary ttft_ms;     // arrival to the first token
    traffic::Summary queue_ms;    // arrival to admission
    traffic::Summary gap_ms;      // between tokens; of tenants not measured
};

struct PolicyResult {
    std::string policy;
    bool stuck = false;
    double simulated_s = 0;
    double wall_s = 0;
    std::uint64_t cancelled = 0, failed = 0, refused = 0, skipped = 0, open = 0;
    std::uint64_t prompt_tokens = 0;    // of requests that were admitted
    std::uint64_t cached_tokens = 0;    // of those, found in the cache
    std::uint64_t computed_tokens = 0;  // what the engine computed of prompts
    std::uint64_t said_tokens = 0;
    std::uint64_t good_tokens = 0;      // of good requests
    std::uint64_t steps = 0;
    std::uint64_t preemptions = 0;
    std::vector<Group> groups;          // all, then each class and each tenant that there is
};

// Runs `workload` to its end.
[[nodiscard]] PolicyResult simulate(Workload const& workload, Setup const& setup, std::string policy,
                                    Objectives const& objectives);

struct Baseline {
    std::string name;
    PromptTokens tokens;
};

struct Report {
    std::string workload;
    std::uint64_t requests = 0;
    std::uint64_t cut = 0;
    Objectives objectives;
    std::vector<PolicyResult> policies;
    std::vector<Baseline> baselines;  // the first: an unbounded cache
};

[[nodiscard]] std::string to_text(Report const& report);
[[nodiscard]] std::string to_json(Report const& report);

}  // namespace hearth::sim
