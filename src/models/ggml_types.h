// ggml's tensor types: block sizes of the pinned engine. An integration test
// compares this table with the engine it is built against.
#pragma once

#include <cstdint>
#include <string_view>

namespace hearth::models {

struct GgmlType {
    std::string_view name;            // empty: no type ever had this id
    std::uint32_t block_elements = 0; // 0: `name` was removed from the format
    std::uint32_t block_bytes = 0;
};

// Unknown ids give an entry without a name.
[[nodiscard]] GgmlType ggml_type(std::uint32_t id) noexcept;

}  // namespace hearth::models
