// What handlers are given, around a pool that a test brings: a loop and a clock of its own, no log, fixed ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include <gtest/gtest.h>

#include "api/routes.h"
#include "base/clock.h"
#include "net/loop.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::api {

// `Workers`: made of the clock, if it can be.
template <typename Workers>
class WithServices : public ::testing::Test {
protected:
    ManualClock clock;
    net::Loop loop;
    Workers pool = make_pool(clock);
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
    telemetry::Registry metrics;
    Services services{loop,
                      pool,
                      *log,
                      metrics,
                      clock,
                      {},
                      [] { return std::int64_t{1}; },
                      [] { return std::string("x"); },
                      [] { return false; }};

private:
    static Workers make_pool(ManualClock& clock) {
        if constexpr (std::is_constructible_v<Workers, ManualClock&>) return Workers(clock);
        else return Workers();
    }
};

}  // namespace hearth::api
