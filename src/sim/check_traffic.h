// What a seed of check_seed() makes: a model with hardly any room, engine
// options, and requests of every kind.
#pragma once

#include <cstdint>

#include "sim/run.h"
#include "sim/workload.h"

namespace hearth::sim {

struct CheckCase {
    Setup setup;
    Workload workload;
    [[nodiscard]] bool injects() const { return setup.model.faults.decode_one_in != 0; }
};

[[nodiscard]] CheckCase check_case(std::uint64_t seed);

}  // namespace hearth::sim
