// Time as Ollama's JSON spells it. Private to the dialect.
#pragma once

#include <cstdint>
#include <string>

namespace hearth::api::ollama {

// "2026-11-22T18:22:13.123456Z", of nanoseconds since 1970.
[[nodiscard]] std::string rfc3339(std::int64_t unix_ns);

}  // namespace hearth::api::ollama
