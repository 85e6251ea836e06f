#include "fetch/answer_rules.h"

#include <algorithm>
#include <charconv>

#include "digest/sha256.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kEtagBytesMax = 1024;
constexpr std::uint64_t kRetrySecondsMax = 10'000'000;  // keeps arithmetic in range

// A whole number, with nothing around it.
std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    bool const whole = failed == std::errc{} && end == text.data() + text.size() && value < INT64_MAX;
    return whole ? std::optional(value) : std::nullopt;
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view value) {
    constexpr std::string_view kUnit = "bytes ";
    auto const slash = value.find('/');
    if (!value.starts_with(kUnit) || slash == std::string_view::npos) return std::nullopt;
    auto const span = value.substr(kUnit.size(), slash - kUnit.size());
    auto const total = number(value.substr(slash + 1));
    if (!total) return std::nullopt;
    if (span == "*") return ContentRange{std::nullopt, *total};
    auto const dash = span.find('-');
    if (dash == std::string_view::npos) return std::nullopt;
    auto const first = number(span.substr(0, dash));
    auto const last = number(span.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= *total) return std::nullopt;
    return ContentRange{ByteRange{*first, *last + 1}, *total};
}

std::optional<Duration> parse_retry_after(std::string_view value) {
    auto const seconds = number(value);
    if (!seconds) return std::nullopt;
    return std::chrono::seconds(std::min(*seconds, kRetrySecondsMax));
}

std::string strong_etag(std::string_view value) {
    bool const quoted =
        value.size() >= 2 && value.size() <= kEtagBytesMax && value.front() == '"' && value.back() == '"';
    bool const clean = std::ranges::all_of(value, [](char c) { return c >= ' ' && c < 0x7f; });
    return quoted && clean ? std::string(value) : std::string();
}

std::string linked_sha256(std::string_view value) {
    if (value.starts_with('"') && value.ends_with('"') && value.size() >= 2) value = value.substr(1, value.size() - 2);
    return digest::is_sha256(value) ? std::string(value) : std::string();
}

bool is_passing_trouble(unsigned status) {
    return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504;
}

}  // namespace hearth::fetch
