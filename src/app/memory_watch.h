// MemoryWatch: how short memory is, from what the kernel says of the control group the
// process runs in (version 1 or 2, and those above it) and of the whole machine.
//
//   pressure  of the memory that may be used   tasks stalled for memory (PSI, avg10)
//   some      less than 10 % is left           some of them for 20 % of the time
//   high      less than 5 %                    all of them for 10 %
//
// Page cache that was not used of late counts as left. Pressure rises at once. `high` is said
// only as long as it is so, for each time it is said a model goes; what stalls tell goes
// back kStallWindow, so by them alone it is said no more often than that. `some` holds until it
// was calm for kCalm, or caches would come and go at its edge.
//
// Threads: one. Reads a few small files of /proc and /sys, which never block.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/clock.h"
#include "serving/pool.h"

namespace hearth::app {

// A file's content; nothing if it cannot be read. A parameter, so that tests play the kernel.
using ReadFile = std::function<std::optional<std::string>(std::string const& path)>;
[[nodiscard]] std::optional<std::string> read_small_file(std::string const& path);

struct MemorySigns {
    std::uint64_t limit = 0;  // bytes, of the control group; 0: none
    std::uint64_t used = 0;   // of those
    std::uint64_t machine_total = 0, machine_available = 0;  // 0: not known
    double stalled_some = 0, stalled_full = 0;               // percent of the last ten seconds
    bool operator==(MemorySigns const&) const = default;
};
[[nodiscard]] MemorySigns read_memory_signs(ReadFile const& read);

[[nodiscard]] serving::Pressure judge(MemorySigns const& signs);

// What models may take together when nobody says: nine tenths of what the control group
// allows, and at most four fifths of the machine's memory, for it has other things to do; 0,
// no bound, where the kernel says neither.
[[nodiscard]] std::uint64_t automatic_budget(MemorySigns const& signs);

// What one more model may take at most: what the machine has available, what is left of
// the control group's limit, and `budget`, that of all models (0: none), whichever is
// least; 0 where nobody says anything.
[[nodiscard]] std::uint64_t free_for_models(MemorySigns const& signs, std::uint64_t budget);

class MemoryWatch {
public:
    static constexpr Duration kCalm = std::chrono::seconds(10);
    static constexpr Duration kStallWindow = std::chrono::seconds(10);  // of avg10

    explicit MemoryWatch(ReadFile read) : read_(std::move(read)) {}

    [[nodiscard]] serving::Pressure look(Instant now);
    [[nodiscard]] MemorySigns const& signs() const { return signs_; }  // of the last look

private:
    ReadFile read_;
    MemorySigns signs_;
    serving::Pressure pressure_ = serving::Pressure::none;
    Instant pressed_{};  // when there was any, last
    std::optional<Instant> stalled_;  // when it was said to be high for stalls alone, last
};

}  // namespace hearth::app
