// Clock: time as a parameter, so that tests and simulations own it.
//
// Threads: now() may be called from any thread.
#pragma once

#include <chrono>

namespace hearth {

using Instant = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

class Clock {
public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual Instant now() const = 0;
};

class SteadyClock final : public Clock {
public:
    [[nodiscard]] Instant now() const override { return std::chrono::steady_clock::now(); }
};

// Stands still until told otherwise. One thread.
class ManualClock final : public Clock {
public:
    [[nodiscard]] Instant now() const override { return now_; }
    void advance(Duration by) { now_ += by; }

private:
    Instant now_{};
};

[[nodiscard]] inline double to_ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

}  // namespace hearth
