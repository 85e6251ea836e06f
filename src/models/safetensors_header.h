// What reading a safetensors file needs to know before its header is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace hearth::models {

// Where the header ends and the data begins, from a file's first 8 bytes.
[[nodiscard]] Result<std::uint64_t> safetensors_header_end(std::span<std::byte const> head, std::uint64_t file_bytes,
                                                           std::string const& path);

}  // namespace hearth::models
