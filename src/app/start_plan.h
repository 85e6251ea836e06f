// StartPlan: which models are loaded at the start, which stay, and for how long, and which have several
// workers, of those that only the library knows; and names that were moved to another file before.
//
// Flags may mean a model by any of its names: spelt in another way, by what the catalog calls the file
// that --model serves, or by an alias.
//
// Threads: the functions before the loop runs; preload() on the loop's, make_spec() on the library's, which
// asks for it after somebody wanted a model, and who preloads is the first to want any. Private to app.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "app/commands.h"
#include "base/clock.h"
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

// The models that --model names, on their way into the pool.
struct Given {
    std::vector<serving::ModelSpec> specs;
    std::map<std::string, std::string> made_of{};  // by id, of those whose file was made: what of
    std::vector<std::shared_ptr<void>> holds{};    // keep what was made where it is
};

// How long models stay when nobody uses them; absent: until room is wanted.
struct KeepAlives {
    std::optional<Duration> all{};
    std::vector<std::pair<std::string, std::optional<Duration>>> named{};  // instead, of these
    bool operator==(KeepAlives const&) const = default;
};

// What --keep-alive says; where it says nothing of all models, with --ollama what Ollama does. Fails with
// `invalid_argument` for what is neither SECONDS nor NAME=SECONDS, for seconds that are none or more than a
// year, and for a second number for all models.
[[nodiscard]] Result<KeepAlives> read_keep_alives(ServeFlags const& flags);

struct StartPlan {
    std::vector<std::string> pins;      // names the library is to know
    std::vector<std::string> preloads;  // likewise
    std::uint32_t most_used = 0;        // of its models: so many of those used most in the last days
    std::vector<std::pair<std::string, std::uint32_t>> instances{};  // of names the library is to know
    std::vector<std::string> given{};  // ids of --model: nothing of them is left to the plan
    KeepAlives keep_alives{};          // named: names the library is to know
    // What preload() found those names to mean, by the library's ids.
    std::set<std::string> pinned{};
    std::map<std::string, std::uint32_t> workers{};
    std::map<std::string, std::optional<Duration>> kept{};
    bool operator==(StartPlan const&) const = default;
};

// Makes the specs of --model lazy, pinned, of several instances, loaded at the start or kept for so long
// as the flags say; what they say of other names is given back. Fails as read_keep_alives(), and with
// `invalid_argument` for such a name where there is no library, for `most-used:N` with another N than 1 to
// kMostUsedMax, for `NAME=N` with another N than 1 to serving::kInstancesMax, and for a second number (of
// workers, or of seconds) for the same model, of the library's only where the name is spelt alike.
[[nodiscard]] Result<StartPlan> plan_start(Given& given, ServeFlags const& flags);

// How many workers are to serve it, and with how many threads where nobody said.
void set_instances(serving::ModelSpec& spec, std::uint32_t count);

// How a model of the library is served. Fails as spec_of().
[[nodiscard]] Result<serving::ModelSpec> make_spec(library::SpecOrder const& order, ServeFlags const& flags,
                                                   StartPlan const& plan);

// The file or folder a name was moved to takes the place of the one --model names, if both are as
// they were then; it is served in the form that the flags ask for. One that cannot be served any
// more, or may not be by this server, is said, and not taken.
void apply_swaps(Given& given, ServeFlags const& flags, std::vector<std::string> const& folders,
                 library::Permits const& permits);

// Finds out which models the plan's names mean, before it waits for anything, then has the library's
// models loaded. Ends when those that were named are ready or cannot be; those used most come later, as
// many as fit into the budget beside what is there.
// Fails with `invalid_argument` for a name the library does not know, for two that say how many
// workers one model has or how long it stays, and for one of a model that --model gave, if it came to be
// that only now.
net::Task<Status> preload(library::Library& library, serving::Pool& pool, telemetry::Log& log, net::Loop& loop,
                          StartPlan& plan);

}  // namespace hearth::app
