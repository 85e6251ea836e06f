// Residency: which models are loaded, under one budget of bytes.
//
// Pure policy: it looks at the models and says whom to load, to park, to let go and to
// drain. A model is loaded when somebody waits for it and its cost fits beside
// those that are there. Room is made by letting go whoever is idle, the one first
// whose idle time is longest for the time it takes to load it again; when nobody is
// idle, the one that is longest there is drained: it takes no new request, and goes
// when those that run have ended. Nothing that computes is ever interrupted. Who waits
// longest goes first, and is not passed by others who would fit.
//
// Who makes room for another is parked, where it can be: its worker keeps what is slow
// to make and gives back the rest, so that it is there again in a fraction of the time.
// What it keeps counts. Parked models are ended when what they keep is all that lacks,
// when there would be more than `parked_max`, and when their time is up: the one first
// that was used longest ago. Before room would lack for want of that, nobody is parked.
//
// Costs are bytes; a budget of 0 is no bound. The cost of a model that is being
// loaded (or restarts), parked or let go counts until that is done.
//
// Threads: none; a pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"

namespace hearth::serving {

struct Resident {
    enum class State : std::uint8_t {
        cold,      // not loaded
        loading,
        restarting,  // between two workers: it costs what it did
        ready,
        draining,  // ready, but takes nothing new
        leaving,   // told to go
        parking,   // told to park
        parked,
        failed,    // costs nothing
    };
    State state = State::cold;
    std::uint64_t cost = 0;         // loaded; of one that leaves what it takes until then
    std::uint64_t parked_cost = 0;  // parked; 0: it cannot be
    Duration reload_cost{};         // what loading it again takes
    bool busy = false;                      // requests are with its worker
    bool pinned = false;                    // once loaded it stays
    std::optional<Instant> wanted_since;    // somebody waits for it
    Instant used{};                         // the end of its last request, or when it was ready
    Instant ready{};                        // since when it is there
    std::optional<Duration> keep_alive;     // idle for so long, it goes; absent: it stays until room is wanted
};

// It takes all that it costs.
[[nodiscard]] bool is_there(Resident const& model);

// What counts of it at this moment.
[[nodiscard]] std::uint64_t charge(Resident const& model);

struct ResidencyPlan {
    std::vector<std::size_t> load, let_go, drain, park;  // indexes; who is parked is let go, too, and loaded
    std::optional<Instant> again{};  // when to look again if nothing changes before
    bool operator==(ResidencyPlan const&) const = default;
};

// A model that was loaded for somebody is there at least so long before it is drained for another.
inline constexpr Duration kResidentMin = std::chrono::seconds(2);

// Loads that take less are alike: what they differ by is chance.
inline constexpr Duration kReloadMin = std::chrono::milliseconds(50);

// Of the models that are idle and not pinned the one whose idle time is longest for the time it takes
// to load it again; nothing if there is none.
[[nodiscard]] std::optional<std::size_t> least_valuable(std::span<Resident const> models, Instant now);

[[nodiscard]] ResidencyPlan plan_residency(std::span<Resident const> models, std::uint64_t budget, Instant now,
                                           std::uint32_t parked_max = 0);

}  // namespace hearth::serving
