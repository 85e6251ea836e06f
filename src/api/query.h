// The part of a request's target behind the '?'.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/values.h"

namespace hearth::api {

// The first value of `name`, percent-decoded ('+' is a space); nothing if it is
// absent. What is no valid escape stays as it is.
[[nodiscard]] std::optional<std::string> query_value(std::string_view query, std::string_view name);

// A number; what is absent leaves `out` as it is.
[[nodiscard]] Verdict read_query_number(std::string_view query, std::string_view name, std::uint64_t low,
                                        std::uint64_t high, std::uint64_t& out);

}  // namespace hearth::api
