#include "api/values.h"

#include <cfloat>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace hearth::api {

Problem wrong_type(std::string_view field, std::string_view wanted, JsonView got) {
    return make_problem(Kind::invalid_type,
                        fmt::format("'{}' must be {}, got {}.", field, wanted, describe(got.kind())), field);
}

Problem invalid_value(std::string_view field, std::string message) {
    return make_problem(Kind::invalid_value, std::move(message), field);
}

Problem missing(std::string_view field) {
    return make_problem(Kind::missing_required_parameter, fmt::format("'{}' is required.", field), field);
}

Problem unsupported(std::string_view field, std::string message) {
    return make_problem(Kind::unsupported_parameter, std::move(message), field);
}

Problem unsupported(std::string_view field, JsonView got, std::string_view allowed) {
    return make_problem(
        Kind::unsupported_parameter,
        fmt::format("'{}' is not supported by this server: got {}, it must be {}.", field, quote(got), allowed), field);
}

std::string quote(JsonView value) {
    constexpr std::size_t kShort = 64;
    switch (value.kind()) {
        case JsonKind::string:
            if (value.as_string().size() <= kShort) return fmt::format("'{}'", value.as_string());
            return fmt::format("a string of {} bytes", value.as_string().size());
        case JsonKind::integer:
        case JsonKind::number:
            if (auto const whole = value.as_integer()) return std::to_string(*whole);
            return fmt::format("{}", value.as_number());
        case JsonKind::boolean: return value.as_boolean() ? "true" : "false";
        case JsonKind::array: return fmt::format("an array of {}", value.size());
        default: return std::string(describe(value.kind()));
    }
}

Verdict read_boolean(std::string_view field, JsonView value, bool& out) {
    if (value.kind() != JsonKind::boolean) return wrong_type(field, "a boolean", value);
    out = value.as_boolean();
    return std::nullopt;
}

Verdict read_string(std::string_view field, JsonView value, std::string& out) {
    if (value.kind() != JsonKind::string) return wrong_type(field, "a string", value);
    out = value.as_string();
    return std::nullopt;
}

Verdict read_integer(std::string_view field, JsonView value, std::int64_t low, std::int64_t high, std::int64_t& out) {
    if (value.kind() != JsonKind::integer && value.kind() != JsonKind::number)
        return wrong_type(field, "an integer", value);
    auto const whole = value.as_integer();
    bool const fraction = std::abs(value.as_number()) < 9e15 && !whole;
    if (fraction) return invalid_value(field, fmt::format("'{}' must be an integer, got {}.", field, quote(value)));
    if (!whole || *whole < low || *whole > high)
        return invalid_value(field,
                             fmt::format("'{}' must be between {} and {}, got {}.", field, low, high, quote(value)));
    out = *whole;
    return std::nullopt;
}

Verdict read_float(std::string_view field, JsonView value, float& out) {
    if (value.kind() != JsonKind::integer && value.kind() != JsonKind::number)
        return wrong_type(field, "a number", value);
    auto const number = value.as_number();
    if (std::abs(number) > static_cast<double>(FLT_MAX))
        return invalid_value(field, fmt::format("'{}' is out of range: {}.", field, quote(value)));
    out = static_cast<float>(number);
    return std::nullopt;
}

Verdict read_array(std::string_view field, JsonView value, std::size_t size_max, std::string_view of_what) {
    if (value.kind() != JsonKind::array) return wrong_type(field, "an array", value);
    if (value.size() > size_max)
        return invalid_value(field,
                             fmt::format("'{}' has {} {}, the limit is {}.", field, value.size(), of_what, size_max));
    return std::nullopt;
}

Verdict read_object(std::string_view field, JsonView value) {
    if (value.kind() != JsonKind::object) return wrong_type(field, "an object", value);
    return std::nullopt;
}

}  // namespace hearth::api
