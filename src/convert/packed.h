// Packed: matrices of four-bit numbers as GPTQ and AWQ store them, and the way to
// the engine's Q4_1 without rounding the numbers again.
//
// Both keep a matrix as `qweight` (eight numbers to a word of 32 bits), and for
// each group of `group` numbers along a row of the engine's matrix a scale and a
// zero: a weight is scale * (number - zero). A block of Q4_1 is 32 numbers, d and m,
// and a weight d * number + m: a group of 128 becomes four blocks with d = scale and
// m = -scale * zero. Numbers and d are exact (scales are F16 already), m is rounded
// to F16.
//
//   GPTQ: qweight [in/8, out], a word's numbers follow each other along `in`; qzeros
//         [groups, out/8] hold zero - 1 (format "gptq_v2": zero); g_idx, if it is there,
//         must say what the order says anyway: sorted columns are not converted.
//   AWQ:  qweight [in, out/8] and qzeros [groups, out/8], a word's numbers along `out` in
//         the order 0 2 4 6 1 3 5 7; only the version "gemm".
//
// Sources: AutoGPTQ's QuantLinear.pack(), AutoAWQ's WQLinear_GEMM.from_linear().
// Threads: none; pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "convert/hf_config.h"
#include "models/safetensors.h"

namespace hearth::convert {

inline constexpr std::uint64_t kPackedBytesMax = 512U << 20;  // of one matrix, which is held whole
inline constexpr std::uint64_t kBlockNumbers = 32;            // of Q4_1
inline constexpr std::uint64_t kBlockBytes = 20;

enum class Packing : std::uint8_t { gptq, awq };

struct PackedFormat {
    Packing packing{};
    std::uint32_t group = 0;       // 0: one group along the whole row
    std::uint32_t zero_offset = 0;  // added to what qzeros say
};

// What config.json says; nothing where the weights are not packed. `unsupported`
// for another method, another width, and versions that are laid out otherwise.
[[nodiscard]] Result<std::optional<PackedFormat>> packed_format(HfConfig const& config);

// The tensors of one matrix.
struct PackedTensors {
    models::SafetensorsTensor const* qweight = nullptr;
    models::SafetensorsTensor const* qzeros = nullptr;
    models::SafetensorsTensor const* scales = nullptr;
    models::SafetensorsTensor const* g_idx = nullptr;  // null: the order is the columns'
};

// The matrix as the engine has it: `rows` of `columns` numbers in groups of `group`.
struct PackedShape {
    std::uint64_t rows = 0;
    std::uint64_t columns = 0;
    std::uint64_t group = 0;
};

// Checks that types and shapes fit each other; `corrupt`, `unsupported` and
// `too_large` say what does not. `name` is for messages.
[[nodiscard]] Result<PackedShape> packed_shape(PackedFormat const& format, PackedTensors const& tensors,
                                               std::string_view name);

// The bytes of the three tensors.
struct PackedBytes {
    std::span<std::byte const> qweight;
    std::span<std::byte const> qzeros;
    std::span<std::byte const> scales;
};

// One row of the matrix as blocks of Q4_1. `unsupported` for a GPTQ zero of 16,
// which programs read as 16 or as 0.
// REQUIRES: what packed_shape() said of them; out.size() == columns / 32 * 20
[[nodiscard]] Status row_to_q4_1(PackedFormat const& format, PackedShape const& shape, PackedBytes const& bytes,
                                 std::uint64_t row, std::span<std::byte> out);

}  // namespace hearth::convert
