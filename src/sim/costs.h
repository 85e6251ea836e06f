// Costs of steps as a machine showed them: what the scheduler of a running
// server learnt, for simulating that server.
//
// Plain values; no threads.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sim/sim_backend.h"

namespace hearth::sim {

inline constexpr std::size_t kCostFileBytesMax = std::size_t{1} << 20;

// `costs` with its four costs of a step taken from JSON: the object "cost" of GET
// /api/v1/engine (base_ms, per_decode_ms, per_prompt_token_ms,
// per_1000_attended_ms), alone or anywhere inside; the first one if there are
// several. Fails with invalid_argument when there is none, or a weight is missing
// or not a number from 0 to 1,000,000, or all are 0.
[[nodiscard]] Result<Costs> learnt_costs(std::string_view json, Costs costs);

// The same of a file. Also fails with `io`, and when it is larger than kCostFileBytesMax.
[[nodiscard]] Result<Costs> read_costs(std::string const& path, Costs costs);

}  // namespace hearth::sim
