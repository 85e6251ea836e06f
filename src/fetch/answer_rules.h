// What the head of an answer to a range request says. Private to fetch; pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "fetch/byte_ranges.h"

namespace hearth::fetch {

struct ContentRange {
    std::optional<ByteRange> range;  // none: "*", of a 416
    std::uint64_t total = 0;
};

// "bytes 0-99/1000" or "bytes */1000"; none for anything else, an unknown total included.
[[nodiscard]] std::optional<ContentRange> parse_content_range(std::string_view value);

// Seconds only; a date is none, and the caller's own backoff counts.
[[nodiscard]] std::optional<Duration> parse_retry_after(std::string_view value);

// The tag if it is strong and fit for a header and a line of a file; else empty.
[[nodiscard]] std::string strong_etag(std::string_view value);

// The hash in an X-Linked-Etag header of the Hugging Face hub; else empty.
[[nodiscard]] std::string linked_sha256(std::string_view value);

// Another try may be answered: time-outs, overload, gateways.
[[nodiscard]] bool is_passing_trouble(unsigned status);

}  // namespace hearth::fetch
