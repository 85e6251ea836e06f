// Random traffic by seed against an engine with hardly any room, every
// invariant looked at after every step.
//
// A seed makes a model (cells, ids, batch, recurrent or not, failures), sometimes a draft
// model that guesses for it and is short of room and fails, too, engine options, and some
// forty requests: shared prefixes, chats, several choices, tenants, classes, cancels, slow
// readers, contexts that shift. Checked at every step:
//   - the engine's cells are the backend's; a sequence id has one owner; the
//     tree's and the engine's books agree (EngineCore::check_integrity);
//   - a batch is within its budget;
//   - no request that could go on is left out for longer than the work that was
//     in before it, and a bounded number of tokens for others, take;
// and at the end:
//   - every request has ended, exactly once, its events in their order;
//   - greedy text is what the model says to that prompt, computed without any
//     engine; sampled text is what the same request says alone;
//   - nothing is held any more, in the engine or the backend.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::sim {

// What was exercised; sums.
struct CheckTally {
    std::uint64_t requests = 0;
    std::uint64_t done = 0;
    std::uint64_t failed = 0;
    std::uint64_t cancelled = 0;
    std::uint64_t cached_tokens = 0;
    std::uint64_t preemptions = 0;
    std::uint64_t model_drafted = 0;  // tokens a draft model guessed,
    std::uint64_t model_accepted = 0;  // and those of them that came true
    std::uint64_t shifts = 0;  // of full contexts
    std::uint64_t interruptions = 0;  // of steps
    std::uint64_t steps = 0;
    double simulated_s = 0;
    void operator+=(CheckTally const& more);
};

// Fails with `internal` when an invariant does not hold; some end the process
// instead (HEARTH_ASSERT).
[[nodiscard]] Result<CheckTally> check_seed(std::uint64_t seed);

struct CheckOptions {
    std::uint64_t first = 1;
    std::uint64_t count = 1;
    std::uint32_t threads = 1;
    std::size_t failures_max = 10;  // then it stops
};

struct CheckReport {
    CheckTally tally;
    std::vector<std::string> failures;  // each with its replay command
    double wall_s = 0;
};

// Seeds first .. first + count - 1. When a seed ends the process its replay
// command is written to stderr (a handler of SIGABRT, for the time of the call).
[[nodiscard]] CheckReport check_seeds(CheckOptions const& options);

[[nodiscard]] std::string replay_command(std::uint64_t seed);

}  // namespace hearth::sim
