// Matrices are packed here the way AutoGPTQ and AutoAWQ do it, word by word, and
// what comes out of the blocks is compared with what went in.
#include "convert/packed.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing/safetensors_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::convert {
namespace {

using Half = _Float16;

// In the libraries' terms: `in` numbers of each of `out` columns.
struct Matrix {
    std::uint64_t in = 256;
    std::uint64_t out = 16;
    std::uint64_t group = 128;
    std::vector<std::uint32_t> weights;  // [in][out]
    std::vector<std::uint32_t> zeros;    // [groups][out]
    std::vector<Half> scales;            // [groups][out]

    Matrix() {
        std::mt19937 random(11);
        for (std::uint64_t i = 0; i < in * out; ++i) weights.push_back(random() % 16);
        for (std::uint64_t i = 0; i < in / group * out; ++i) {
            zeros.push_back(1 + random() % 15);
            scales.push_back(static_cast<Half>(1e-4F + static_cast<float>(random() % 1000) * 3.7e-5F));
        }
    }
    [[nodiscard]] double weight(std::uint64_t i, std::uint64_t column) const {
        auto const at = i / group * out + column;
        return static_cast<double>(scales[at]) * (static_cast<double>(weights[i * out + column]) - zeros[at]);
    }
};

// AutoGPTQ's QuantLinear.pack(), with `offset` subtracted from zeros.
std::vector<std::uint32_t> pack_gptq(Matrix const& matrix) {
    std::vector<std::uint32_t> words(matrix.in / 8 * matrix.out);
    for (std::uint64_t i = 0; i < matrix.in; ++i) {
        for (std::uint64_t c = 0; c < matrix.out; ++c)
            words[i / 8 * matrix.out + c] |= matrix.weights[i * matrix.out + c] << (4 * (i % 8));
    }
    return words;
}
std::vector<std::uint32_t> pack_gptq_zeros(Matrix const& matrix, std::uint32_t offset) {
    std::vector<std::uint32_t> words(matrix.zeros.size() / 8);
    for (std::uint64_t i = 0; i < matrix.zeros.size(); ++i) words[i / 8] |= (matrix.zeros[i] - offset) << (4 * (i % 8));
    return words;
}
// AutoAWQ's: order_map = [0, 2, 4, 6, 1, 3, 5, 7].
std::vector<std::uint32_t> pack_awq(std::vector<std::uint32_t> const& numbers) {
    constexpr std::uint64_t kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    std::vector<std::uint32_t> words(numbers.size() / 8);
    for (std::uint64_t word = 0; word < words.size(); ++word) {
        for (std::uint64_t i = 0; i < 8; ++i) words[word] |= numbers[word * 8 + kOrder[i]] << (4 * i);
    }
    return words;
}

// As ggml's dequantize_row_q4_1.
std::vector<double> dequantize(std::vector<std::byte> const& row) {
    std::vector<double> out;
    for (std::size_t at = 0; at < row.size(); at += kBlockBytes) {
        Half d;
        Half m;
        std::memcpy(&d, row.data() + at, 2);
        std::memcpy(&m, row.data() + at + 2, 2);
        for (unsigned const shift : {0U, 4U}) {
            for (std::size_t i = 0; i < 16; ++i) {
                auto const number = std::to_integer<unsigned>(row[at + 4 + i]) >> shift & 15U;
                out.push_back(static_cast<double>(d) * number + static_cast<double>(m));
            }
        }
    }
    return out;
}

void expect_exact(PackedFormat const& format, std::vector<std::uint32_t> const& qweight,
                  std::vector<std::uint32_t> const& qzeros, Matrix const& matrix) {
    PackedShape const shape{matrix.out, matrix.in, matrix.group};
    PackedBytes const bytes{std::as_bytes(std::span(qweight)), std::as_bytes(std::span(qzeros)),
                            std::as_bytes(std::span(matrix.scales))};
    std::vector<std::byte> row(matrix.in / kBlockNumbers * kBlockBytes);
    for (std::uint64_t c = 0; c < matrix.out; ++c) {
        ASSERT_TRUE(row_to_q4_1(format, shape, bytes, c, row));
        auto const values = dequantize(row);
        for (std::uint64_t i = 0; i < matrix.in; ++i) {
            auto const at = i / matrix.group * matrix.out + c;
            // Half a unit in the last place of m, and nothing else.
            double const rounding = std::ldexp(static_cast<double>(matrix.scales[at]) * matrix.zeros[at], -11);
            ASSERT_LE(std::abs(values[i] - matrix.weight(i, c)), rounding) << i << " " << c;
        }
    }
}

TEST(Packed, GptqIsExactUpToTheRoundingOfTheMinimum) {
    Matrix const matrix;
    expect_exact({Packing::gptq, 128, 1}, pack_gptq(matrix), pack_gptq_zeros(matrix, 1), matrix);
    expect_exact({Packing::gptq, 128, 0}, pack_gptq(matrix), pack_gptq_zeros(matrix, 0), matrix);
}

TEST(Packed, AwqIsExactUpToTheRoundingOfTheMinimum) {
    Matrix const matrix;
    expect_exact({Packing::awq, 128, 0}, pack_awq(matrix.weights), pack_awq(matrix.zeros), matrix);
}

TEST(Packed, AZeroThatProgramsReadDifferentlyIsRefused) {
    Matrix matrix;
    matrix.zeros[0] = 16;
    auto const qweight = pack_gptq(matrix);
    auto const qzeros = pack_gptq_zeros(matrix, 1);
    std::vector<std::byte> row(matrix.in / kBlockNumbers * kBlockBytes);
    auto const status = row_to_q4_1(
        {Packing::gptq, 128, 1}, {matrix.out, matrix.in, matrix.group},
        {std::as_bytes(std::span(qweight)), std::as_bytes(std::span(qzeros)), std::as_bytes(std::span(matrix.scales))},
        0, row);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::unsupported);
}

TEST(Packed, WhatTheConfigSays) {
    hearth::testing::TemporaryFolder const folder;
    auto const format = [&](std::string const& quantization) {
        models::testing::write_file(folder / "config.json",
                                    "{\"architectures\":[\"LlamaForCausalLM\"]" + quantization + "}");
        auto const config = HfConfig::read(folder.path());
        EXPECT_TRUE(config);
        return packed_format(*config);
    };
    EXPECT_FALSE(format("")->has_value());
    auto const gptq = format(R"(,"quantization_config":{"quant_method":"gptq","bits":4,"group_size":128,"sym":true})");
    ASSERT_TRUE(gptq && *gptq);
    EXPECT_EQ((*gptq)->group, 128U);
    EXPECT_EQ((*gptq)->zero_offset, 1U);
    auto const v2 = format(
        R"(,"quantization_config":{"quant_method":"gptq","bits":4,"group_size":-1,"checkpoint_format":"gptq_v2"})");
    EXPECT_EQ((*v2)->zero_offset, 0U);
    EXPECT_EQ((*v2)->group, 0U);
    auto const awq = format(
        R"(,"quantization_config":{"quant_method":"awq","bits":4,"group_size":64,"version":"gemm","zero_point":true})");
    EXPECT_EQ((*awq)->packing, Packing::awq);
    for (auto const* refused :
         {R"("quant_method":"fp8","bits":4,"group_size":128)", R"("quant_method":"gptq","bits":8,"group_size":128)",
          R"("quant_method":"gptq","bits":4,"group_size":48)", R"("quant_method":"gptq","bits":4)",
          R"("quant_method":"gptq","bits":4,"group_size":128,"checkpoint_format":"marlin")",
          R"("quant_method":"awq","bits":4,"group_size":128,"version":"gemv")",
          R"("quant_method":"awq","bits":4,"group_size":128,"zero_point":false)"}) {
        auto const result = format(std::string(",\"quantization_config\":{") + refused + "}");
        ASSERT_FALSE(result) << refused;
        EXPECT_EQ(result.error().code, Code::unsupported);
    }
}

TEST(Packed, ShapesMustFitEachOther) {
    using models::SafetensorsTensor;
    using models::SafetensorsType;
    SafetensorsTensor const qweight{.name = {}, .type = SafetensorsType::i32, .shape = {32, 16}, .bytes = 2048};
    SafetensorsTensor const qzeros{.name = {}, .type = SafetensorsType::i32, .shape = {2, 2}, .bytes = 16};
    SafetensorsTensor const scales{.name = {}, .type = SafetensorsType::f16, .shape = {2, 16}, .bytes = 64};
    SafetensorsTensor const g_idx{.name = {}, .type = SafetensorsType::i32, .shape = {256}, .bytes = 1024};
    PackedFormat const gptq{Packing::gptq, 128, 1};
    auto const shape = packed_shape(gptq, {&qweight, &qzeros, &scales, &g_idx}, "x");
    ASSERT_TRUE(shape) << shape.error().message;
    EXPECT_EQ(shape->rows, 16U);
    EXPECT_EQ(shape->columns, 256U);
    EXPECT_FALSE(packed_shape(gptq, {&qweight, nullptr, &scales}, "x"));
    EXPECT_FALSE(packed_shape(gptq, {&scales, &qzeros, &scales}, "x"));
    EXPECT_FALSE(packed_shape(gptq, {&qweight, &scales, &scales}, "x"));
    EXPECT_FALSE(packed_shape(gptq, {&qweight, &qzeros, &qzeros}, "x"));
    EXPECT_FALSE(packed_shape(gptq, {&qweight, &qzeros, &scales, &qzeros}, "x"));
    EXPECT_FALSE(packed_shape({Packing::gptq, 96, 1}, {&qweight, &qzeros, &scales}, "x"));
    auto huge = qweight;
    huge.bytes = kPackedBytesMax;
    EXPECT_EQ(packed_shape(gptq, {&huge, &qzeros, &scales}, "x").error().code, Code::too_large);
}

}  // namespace
}  // namespace hearth::convert
