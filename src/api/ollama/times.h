// Time as Ollama's JSON spells it. Private to the dialect.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::api::ollama {

// "2026-11-22T18:22:13.123456Z", of nanoseconds since 1970.
[[nodiscard]] std::string rfc3339(std::int64_t unix_ns);

// A duration as Go writes it: "300ms", "1h30m", "-1.5s", "0". Fails with
// `invalid_argument`, also for more than 64 bits of nanoseconds (about 292 years).
[[nodiscard]] Result<std::chrono::nanoseconds> parse_go_duration(std::string_view text);

}  // namespace hearth::api::ollama
