// SHA-256 (FIPS 180-4), for the hash of a chat template.
#pragma once

#include <string>
#include <string_view>

namespace hearth::models {

// 64 lowercase hexadecimal digits.
[[nodiscard]] std::string sha256_hex(std::string_view data);

}  // namespace hearth::models
