// Elements of tensors: the three types that conversion writes, and the way to
// them from the three it reads. Rounding is to nearest, ties to even, as
// upstream's converter does, so that the bytes are equal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "models/safetensors.h"

namespace hearth::convert {

enum class ElementType : std::uint8_t { f32, f16, bf16 };

[[nodiscard]] std::string_view to_string(ElementType) noexcept;  // "f32" ...
[[nodiscard]] std::optional<ElementType> element_type_named(std::string_view) noexcept;
[[nodiscard]] std::optional<ElementType> element_type_of(models::SafetensorsType) noexcept;
[[nodiscard]] std::uint64_t element_bytes(ElementType) noexcept;
[[nodiscard]] std::uint32_t ggml_type_of(ElementType) noexcept;  // the id in a GGUF file
[[nodiscard]] std::uint32_t file_type_of(ElementType) noexcept;  // general.file_type

// Converts every element of `in` after `shift` was added to it.
// REQUIRES: as many elements in `in` as in `out`; neither overlaps the other
void convert_elements(ElementType from, std::span<std::byte const> in, float shift, ElementType to,
                      std::span<std::byte> out);

// The rows of one head are two halves; the engine wants first and first, second and second.
// REQUIRES: an even number of rows of row_bytes; as many bytes in `out`
void interleave_halves(std::span<std::byte const> head, std::uint64_t row_bytes, std::span<std::byte> out);

}  // namespace hearth::convert
