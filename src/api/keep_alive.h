// How long a model stays loaded after a request, as requests of all dialects spell it:
// a duration as Go writes it ("5m", "1h30m") or a number of seconds; 0: it goes as
// soon as nobody uses it; negative: it stays. Private to the API.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "api/json_document.h"
#include "api/values.h"
#include "base/clock.h"
#include "base/result.h"

namespace hearth::api {

// "300ms", "1h30m", "-1.5s", "0". Fails with `invalid_argument`, also for more than
// 64 bits of nanoseconds (about 292 years).
[[nodiscard]] Result<std::chrono::nanoseconds> parse_go_duration(std::string_view text);

[[nodiscard]] Verdict read_keep_alive(std::string_view field, JsonView value, std::optional<Duration>& out);

// LM Studio's `ttl`: seconds only.
[[nodiscard]] Verdict read_seconds_to_live(std::string_view field, JsonView value, std::optional<Duration>& out);

}  // namespace hearth::api
