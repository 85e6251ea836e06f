// Typed readers: the right JSON type within its limits, or the Problem that
// names field, limit and value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/errors.h"
#include "api/json_document.h"

namespace hearth::api {

// Nothing: all is well.
using Verdict = std::optional<Problem>;

[[nodiscard]] Problem wrong_type(std::string_view field, std::string_view wanted, JsonView got);
[[nodiscard]] Problem invalid_value(std::string_view field, std::string message);
[[nodiscard]] Problem missing(std::string_view field);
[[nodiscard]] Problem unsupported(std::string_view field, std::string message);
[[nodiscard]] Problem unsupported(std::string_view field, JsonView got, std::string_view allowed);

// The value for a message: short texts and numbers as they are, the rest by kind and size.
[[nodiscard]] std::string quote(JsonView value);

[[nodiscard]] Verdict read_boolean(std::string_view field, JsonView value, bool& out);
[[nodiscard]] Verdict read_string(std::string_view field, JsonView value, std::string& out);
// REQUIRES: low <= high
[[nodiscard]] Verdict read_integer(std::string_view field, JsonView value, std::int64_t low, std::int64_t high,
                                   std::int64_t& out);
// Any number a float holds.
[[nodiscard]] Verdict read_float(std::string_view field, JsonView value, float& out);
[[nodiscard]] Verdict read_array(std::string_view field, JsonView value, std::size_t size_max,
                                 std::string_view of_what);
[[nodiscard]] Verdict read_object(std::string_view field, JsonView value);

}  // namespace hearth::api
