// StartPlan: which models are loaded at the start and which stay, of those that only
// the library knows; and names that were moved to another file before.
//
// Threads: the functions before the loop runs, preload() on the loop's. Private to app.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/commands.h"
#include "base/result.h"
#include "library/library.h"
#include "library/permits.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/launcher.h"
#include "serving/pool.h"
#include "telemetry/log.h"

namespace hearth::app {

inline constexpr std::uint32_t kMostUsedDefault = 3;
inline constexpr std::uint32_t kMostUsedMax = 16;

struct StartPlan {
    std::vector<std::string> pins;      // names the library is to know
    std::vector<std::string> preloads;  // likewise
    std::uint32_t most_used = 0;        // of its models: so many of those used most in the last days
    std::vector<std::pair<std::string, std::uint32_t>> instances{};  // of names the library is to know
    bool operator==(StartPlan const&) const = default;
};

// Makes the specs of --model lazy, pinned, of several instances or loaded at the start as
// the flags say; what they say of other names is given back. Fails with `invalid_argument`
// for such a name where there is no library, for `most-used:N` with another N than 1 to
// kMostUsedMax, and for `NAME=N` with another N than 1 to serving::kInstancesMax.
[[nodiscard]] Result<StartPlan> plan_start(std::vector<serving::ModelSpec>& specs, ServeFlags const& flags);

// How many workers are to serve it, and with how many threads where nobody said.
void set_instances(serving::ModelSpec& spec, std::uint32_t count);
[[nodiscard]] std::uint32_t instances_of(StartPlan const& plan, std::string_view id);

[[nodiscard]] bool is_pinned(StartPlan const& plan, std::string_view id);

// The file a name was moved to takes the place of the one --model names, if both are as
// they were then. One that cannot be served any more, or may not be by this server, is said,
// and not taken.
void apply_swaps(std::vector<serving::ModelSpec>& specs, ServeFlags const& flags,
                 std::vector<std::string> const& folders, library::Permits const& permits);

// Has the library's models loaded. Ends when those that were named are ready or cannot
// be; those used most come later, as many as fit into the budget beside what is there.
// Fails with `invalid_argument` for a name the library does not know.
net::Task<Status> preload(library::Library& library, serving::Pool& pool, telemetry::Log& log, net::Loop& loop,
                          StartPlan const& plan);

}  // namespace hearth::app
