// Policies: named ways to run the same workload, to be laid side by side.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "sim/run.h"

namespace hearth::sim {

struct Policy {
    std::string_view name;
    std::string_view help;
    void (*apply)(Setup& setup, Workload const& workload);  // to a setup that flags have filled
};

[[nodiscard]] std::span<Policy const> policies();

// Fails with invalid_argument for a name that is none of policies().
[[nodiscard]] Result<Policy> find_policy(std::string_view name);

}  // namespace hearth::sim
