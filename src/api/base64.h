// Base64 of RFC 4648, section 4, with padding.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace hearth::api {

[[nodiscard]] std::string base64(std::span<std::byte const> bytes);

}  // namespace hearth::api
