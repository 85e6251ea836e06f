// The part of a request's target behind the '?'.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hearth::api {

// The first value of `name`, percent-decoded ('+' is a space); nothing if it is
// absent. What is no valid escape stays as it is.
[[nodiscard]] std::optional<std::string> query_value(std::string_view query, std::string_view name);

}  // namespace hearth::api
