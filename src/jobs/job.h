// Job: a piece of background work that outlives the process, and what is known
// of it.
//
// Threads: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::jobs {

// Where a job stands. done, failed and cancelled are final, but for retry() of
// the last two. Stored by number: append, never renumber.
enum class State : std::uint8_t { queued = 0, running = 1, paused = 2, done = 3, failed = 4, cancelled = 5 };

[[nodiscard]] std::string_view to_string(State state) noexcept;
[[nodiscard]] constexpr bool is_final(State state) noexcept { return state >= State::done; }

// Milliseconds since 1970: leases and times to retry outlive the process, so a
// steady clock cannot tell them.
using UnixMs = std::int64_t;

// One of several things a job has to do: a file, a layer.
struct Part {
    std::string name;  // of one line, at most kPartNameMax bytes
    std::uint64_t done = 0, total = 0;
    // Of one line each, and without tabs; more than kPartTextMax bytes are cut.
    std::string file{};   // where it goes; empty: into no file of its own
    std::string state{};  // a word of the kind's own; empty: not begun
    std::string note{};   // why it waits

    bool operator==(Part const&) const = default;
};

struct Progress {
    std::uint64_t done = 0, total = 0;  // bytes, or whatever the kind counts; total 0: not known
    std::string text;                   // for a person: "downloading"; at most kTextMax bytes are kept
    std::vector<Part> parts{};          // in the kind's order, so that none is missed; at most kPartsMax are kept

    bool operator==(Progress const&) const = default;
};

struct Job {
    std::string id;
    std::string kind;
    std::string key;      // two jobs of a kind with equal keys are one while it is not final
    std::string payload;  // what to do, as JSON text; the kind's own
    State state = State::queued;
    std::uint32_t attempt = 0;   // how often it was begun
    std::uint32_t failures = 0;  // in a row, without progress in between
    std::string holder;          // who has the lease, empty: nobody
    UnixMs lease_until = 0;
    UnixMs due = 0;              // not begun before
    Progress progress;
    std::string error;           // of the last failure
    std::optional<Code> code;    // of the last failure, where its handler said one
    UnixMs created = 0, updated = 0, finished = 0;  // finished 0: not final
    std::int64_t sequence = 0;   // order of creation, for paging
    std::uint64_t revision = 0;  // grows with every change this process made: tells the newer of two copies
};

}  // namespace hearth::jobs
