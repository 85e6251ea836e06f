#include "convert/elements.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/assert.h"

namespace hearth::convert {
namespace {

using Half = _Float16;

struct Names {
    std::string_view name;
    std::uint64_t bytes;
    std::uint32_t ggml_type;
    std::uint32_t file_type;
};
// In the order of ElementType. The ids are ggml.h's and llama.h's.
constexpr std::array<Names, 3> kTypes{{{"f32", 4, 0, 0}, {"f16", 2, 1, 1}, {"bf16", 2, 30, 32}}};

Names const& names_of(ElementType type) { return kTypes[static_cast<std::size_t>(type)]; }

template <typename T>
T load(std::byte const* at) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    return value;
}

template <typename T>
void store(std::byte* at, T value) {
    std::memcpy(at, &value, sizeof(T));
}

float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

// As ggml's ggml_compute_fp32_to_bf16: a NaN becomes a quiet one.
std::uint16_t to_bf16(float value) {
    auto const bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<std::uint16_t>((bits >> 16) | 64);
    return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Not simply a sum: adding zero would turn -0 into +0.
float shifted(float value, float shift) { return shift == 0 ? value : value + shift; }

struct ReadF32 {
    static constexpr std::size_t kBytes = 4;
    static float read(std::byte const* at, float shift) { return shifted(load<float>(at), shift); }
};
struct ReadF16 {
    static constexpr std::size_t kBytes = 2;
    // Upstream adds in the type of the file.
    static float read(std::byte const* at, float shift) {
        return static_cast<float>(static_cast<Half>(shifted(static_cast<float>(load<Half>(at)), shift)));
    }
};
struct ReadBf16 {
    static constexpr std::size_t kBytes = 2;
    static float read(std::byte const* at, float shift) { return shifted(from_bf16(load<std::uint16_t>(at)), shift); }
};

template <typename Read>
void convert_from(std::span<std::byte const> in, float shift, ElementType to, std::span<std::byte> out) {
    auto const count = in.size() / Read::kBytes;
    auto const each = [&](auto write) {
        for (std::size_t i = 0; i < count; ++i) write(i, Read::read(in.data() + i * Read::kBytes, shift));
    };
    switch (to) {
        case ElementType::f32: return each([&](std::size_t i, float v) { store(out.data() + i * 4, v); });
        case ElementType::f16:
            return each([&](std::size_t i, float v) { store(out.data() + i * 2, static_cast<Half>(v)); });
        case ElementType::bf16: return each([&](std::size_t i, float v) { store(out.data() + i * 2, to_bf16(v)); });
    }
}

}  // namespace

std::string_view to_string(ElementType type) noexcept { return names_of(type).name; }

std::optional<ElementType> element_type_named(std::string_view name) noexcept {
    for (std::size_t i = 0; i < kTypes.size(); ++i) {
        if (kTypes[i].name == name) return static_cast<ElementType>(i);
    }
    return std::nullopt;
}

std::optional<ElementType> element_type_of(models::SafetensorsType type) noexcept {
    switch (type) {
        case models::SafetensorsType::f32: return ElementType::f32;
        case models::SafetensorsType::f16: return ElementType::f16;
        case models::SafetensorsType::bf16: return ElementType::bf16;
        default: return std::nullopt;
    }
}

std::uint64_t element_bytes(ElementType type) noexcept { return names_of(type).bytes; }
std::uint32_t ggml_type_of(ElementType type) noexcept { return names_of(type).ggml_type; }
std::uint32_t file_type_of(ElementType type) noexcept { return names_of(type).file_type; }

void convert_elements(ElementType from, std::span<std::byte const> in, float shift, ElementType to,
                      std::span<std::byte> out) {
    HEARTH_ASSERT(in.size() / element_bytes(from) == out.size() / element_bytes(to), "as many elements as before");
    // Except for bf16, whose NaNs upstream makes quiet on the way through f32.
    if (from == to && shift == 0 && to != ElementType::bf16) {
        std::memcpy(out.data(), in.data(), in.size());
        return;
    }
    switch (from) {
        case ElementType::f32: return convert_from<ReadF32>(in, shift, to, out);
        case ElementType::f16: return convert_from<ReadF16>(in, shift, to, out);
        case ElementType::bf16: return convert_from<ReadBf16>(in, shift, to, out);
    }
}

void interleave_halves(std::span<std::byte const> head, std::uint64_t row_bytes, std::span<std::byte> out) {
    auto const half = head.size() / row_bytes / 2;
    for (std::uint64_t row = 0; row < half * 2; ++row) {
        auto const source = head.subspan(((row % 2) * half + row / 2) * row_bytes, row_bytes);
        std::copy(source.begin(), source.end(), out.begin() + static_cast<std::ptrdiff_t>(row * row_bytes));
    }
}

}  // namespace hearth::convert
