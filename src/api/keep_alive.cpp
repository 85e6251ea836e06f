#include "api/keep_alive.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

namespace hearth::api {
namespace {

struct Unit {
    std::string_view name;
    double ns;
};
constexpr std::array kUnits{Unit{"ns", 1},   Unit{"us", 1e3}, Unit{"\xc2\xb5s", 1e3}, Unit{"\xce\xbcs", 1e3},
                            Unit{"ms", 1e6}, Unit{"s", 1e9},  Unit{"m", 60e9},        Unit{"h", 3600e9}};

constexpr double kNanosecondsMax = 9.2233720368547e18;  // a little below 2^63

bool in_number(char c) { return (c >= '0' && c <= '9') || c == '.'; }

// One "1.5h" off the front of `text`, in nanoseconds; below 0 if there is none.
double take_term(std::string_view& text) {
    auto const digits = static_cast<std::size_t>(std::ranges::find_if_not(text, in_number) - text.begin());
    auto const number = text.substr(0, digits);
    text.remove_prefix(digits);
    auto const letters = static_cast<std::size_t>(std::ranges::find_if(text, in_number) - text.begin());
    auto const* const unit = std::ranges::find(kUnits, text.substr(0, letters), &Unit::name);
    text.remove_prefix(letters);
    double value = 0;
    auto const [end, failed] = std::from_chars(number.data(), number.data() + number.size(), value);
    bool const good = failed == std::errc{} && end == number.data() + number.size() && unit != kUnits.end();
    return good ? value * unit->ns : -1;
}

Duration of_seconds(double seconds) {
    constexpr double kSecondsMax = 9.2e9;  // what 64 bits of nanoseconds hold
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(std::clamp(seconds, -1.0, kSecondsMax)));
}

bool is_number(JsonView value) { return value.kind() == JsonKind::integer || value.kind() == JsonKind::number; }

}  // namespace

Result<std::chrono::nanoseconds> parse_go_duration(std::string_view text) {
    auto rest = text;
    bool const negative = rest.starts_with('-');
    if (negative || rest.starts_with('+')) rest.remove_prefix(1);
    if (rest == "0") return std::chrono::nanoseconds(0);
    double total = 0;
    bool good = !rest.empty();
    while (good && !rest.empty()) {
        auto const term = take_term(rest);
        total += term;
        good = term >= 0 && total <= kNanosecondsMax;
    }
    if (good) return std::chrono::nanoseconds(static_cast<std::int64_t>(negative ? -total : total));
    return Error(Code::invalid_argument,
                 fmt::format("invalid duration '{}': write it like 300ms, 5m or 1h30m, at most about 292 years",
                             text.substr(0, 64)));
}

Verdict read_keep_alive(std::string_view field, JsonView value, std::optional<Duration>& out) {
    if (value.kind() == JsonKind::string) {
        auto const duration = parse_go_duration(value.as_string());
        if (!duration) return invalid_value(field, fmt::format("{}: {}", field, duration.error().message));
        out = *duration;
        return std::nullopt;
    }
    if (!is_number(value)) return wrong_type(field, "a duration like \"5m\" or a number of seconds", value);
    out = of_seconds(value.as_number());
    return std::nullopt;
}

Verdict read_seconds_to_live(std::string_view field, JsonView value, std::optional<Duration>& out) {
    if (!is_number(value)) return wrong_type(field, "a number of seconds", value);
    out = of_seconds(value.as_number());
    return std::nullopt;
}

}  // namespace hearth::api
