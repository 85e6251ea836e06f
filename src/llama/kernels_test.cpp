// Our own products, in the variant this machine chooses: close to the exact result,
// no worse than upstream's, and the same bits however many columns are computed together.
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numbers>
#include <vector>

#include "llama/kernels/weight_mark.h"
#include "llama/testing/graph.h"

namespace hearth::llama {
namespace {

using namespace testing;

struct Shape {
    ggml_type type;
    std::int64_t depth;    // of a row of weights, and of a column of activations
    std::int64_t rows;     // of weights
    std::int64_t columns;  // of activations
};

class Products : public ::testing::TestWithParam<Shape> {
protected:
    void SetUp() override {
        auto const& s = GetParam();
        auto const floats = random_floats(s.depth * s.rows, 1);
        weights_.resize(ggml_row_size(s.type, s.depth) * static_cast<std::size_t>(s.rows));
        ggml_quantize_chunk(s.type, floats.data(), weights_.data(), 0, s.rows, s.depth, nullptr);
        exact_.resize(floats.size());
        if (s.type == GGML_TYPE_F32) exact_ = floats;
        else ggml_get_type_traits(s.type)->to_float(weights_.data(), exact_.data(), s.depth * s.rows);
        activations_ = random_floats(s.depth * s.columns, 2);
    }

    // Weights x the columns [begin, end), column by column. Our kernels take single
    // matrices: of several, each with its columns, upstream's compute the product.
    std::vector<float> multiply(std::int64_t begin, std::int64_t end, bool upstreams = false) {
        auto const& s = GetParam();
        Graph graph;
        std::int64_t const matrices = upstreams ? 2 : 1;
        auto* const weights = ggml_new_tensor_3d(graph.context(), s.type, s.depth, s.rows, matrices);
        auto* const columns = ggml_new_tensor_3d(graph.context(), GGML_TYPE_F32, s.depth, end - begin, matrices);
        auto* const product = ggml_mul_mat(graph.context(), weights, columns);
        graph.allocate();
        for (std::int64_t i = 0; i < matrices; ++i) {
            ggml_backend_tensor_set(weights, weights_.data(), static_cast<std::size_t>(i) * weights_.size(),
                                    weights_.size());
            auto const bytes = static_cast<std::size_t>((end - begin) * s.depth) * sizeof(float);
            ggml_backend_tensor_set(columns, activations_.data() + begin * s.depth, static_cast<std::size_t>(i) * bytes,
                                    bytes);
        }
        if (!upstreams) weights->extra = &mark_;
        auto result = graph.compute(product);
        result.resize(static_cast<std::size_t>((end - begin) * s.rows));
        return result;
    }

    std::vector<double> exact_product() const {
        auto const& s = GetParam();
        std::vector<double> result;
        for (std::int64_t column = 0; column < s.columns; ++column)
            for (std::int64_t row = 0; row < s.rows; ++row) {
                double sum = 0;
                for (std::int64_t d = 0; d < s.depth; ++d)
                    sum += static_cast<double>(exact_[static_cast<std::size_t>(row * s.depth + d)]) *
                           static_cast<double>(activations_[static_cast<std::size_t>(column * s.depth + d)]);
                result.push_back(sum);
            }
        return result;
    }

private:
    ColumnWise mark_;
    std::vector<std::uint8_t> weights_;
    std::vector<float> exact_;
    std::vector<float> activations_;
};

TEST_P(Products, AColumnHasTheSameBitsAloneAndWithOthers) {
    auto const& s = GetParam();
    auto const together = bits(multiply(0, s.columns));
    for (std::int64_t column = 0; column < s.columns; ++column) {
        auto const alone = bits(multiply(column, column + 1));
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + column * s.rows)) << column;
    }
    if (s.columns < 3) return;
    auto const rest = bits(multiply(1, s.columns));
    EXPECT_TRUE(std::equal(rest.begin(), rest.end(), together.begin() + s.rows));
}

// Activations are rounded to 8 bits before integer products, here as there.
TEST_P(Products, AreNoFartherFromTheExactResultThanUpstreams) {
    auto const exact = exact_product();
    double const ours = error(multiply(0, GetParam().columns), exact);
    EXPECT_LT(ours, 1e-3);
    if (exact.size() < 100) return;  // too few to compare the mean of
    EXPECT_LE(ours, error(multiply(0, GetParam().columns, true), exact) * 1.05 + 1e-12);
}

std::vector<Shape> shapes() {
    std::vector<Shape> all;
    // Whole tiles of rows and rests; one column, whole tiles of columns and rests of each size.
    for (ggml_type const type : {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0})
        for (auto const& [depth, rows, columns] :
             {std::array{32, 16, 2}, {576, 576, 1}, {1536, 48, 3}, {64, 33, 5}, {96, 1, 9}, {576, 100, 23}})
            all.push_back({type, depth, rows, columns});
    for (ggml_type const type : {GGML_TYPE_F32, GGML_TYPE_F16})
        for (auto const& [depth, rows, columns] :
             {std::array{8, 3, 2}, {64, 64, 1}, {576, 48, 4}, {100, 17, 7}, {16, 16, 33}})
            all.push_back({type, depth, rows, columns});
    // Only column by column.
    for (ggml_type const type : {GGML_TYPE_BF16, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K,
                                 GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS})
        all.push_back({type, 512, 80, 17});
    return all;
}

INSTANTIATE_TEST_SUITE_P(Shapes, Products, ::testing::ValuesIn(shapes()), [](auto const& tested) {
    auto const& s = tested.param;
    return std::string(ggml_type_name(s.type)) + "_" + std::to_string(s.depth) + "x" + std::to_string(s.rows) + "x" +
           std::to_string(s.columns);
});

// A mixture of experts: each token meets the matrices it was sent to.
TEST(Experts, ATokenHasTheSameBitsAloneAndWithOthers) {
    constexpr std::int64_t kDepth = 256, kRows = 48, kExperts = 4, kUsed = 2, kTokens = 40;
    auto const floats = random_floats(kDepth * kRows * kExperts, 1);
    auto const activations = random_floats(kDepth * kTokens, 2);
    std::vector<std::uint8_t> weights(ggml_row_size(GGML_TYPE_Q4_K, kDepth) * kRows * kExperts);
    ggml_quantize_chunk(GGML_TYPE_Q4_K, floats.data(), weights.data(), 0, kRows * kExperts, kDepth, nullptr);
    ColumnWise mark;
    auto const multiply = [&](std::int64_t begin, std::int64_t end, void* extra) {
        Graph graph;
        auto* const experts = ggml_new_tensor_3d(graph.context(), GGML_TYPE_Q4_K, kDepth, kRows, kExperts);
        auto* const columns = ggml_new_tensor_3d(graph.context(), GGML_TYPE_F32, kDepth, 1, end - begin);
        auto* const ids = ggml_new_tensor_2d(graph.context(), GGML_TYPE_I32, kUsed, end - begin);
        auto* const product = ggml_mul_mat_id(graph.context(), experts, columns, ids);
        graph.allocate();
        experts->extra = extra;
        ggml_backend_tensor_set(experts, weights.data(), 0, weights.size());
        ggml_backend_tensor_set(columns, activations.data() + begin * kDepth, 0, ggml_nbytes(columns));
        std::vector<std::int32_t> chosen;
        for (std::int64_t t = begin; t < end; ++t)
            for (std::int64_t i = 0; i < kUsed; ++i)
                chosen.push_back(static_cast<std::int32_t>((t * 7 / 3 + i * 2 + i) % kExperts));
        ggml_backend_tensor_set(ids, chosen.data(), 0, ggml_nbytes(ids));
        return graph.compute(product);
    };
    auto const together = multiply(0, kTokens, &mark);
    for (std::int64_t t = 0; t < kTokens; ++t) {
        auto const alone = bits(multiply(t, t + 1, &mark));
        auto const all = bits(together);
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), all.begin() + t * kRows * kUsed)) << t;
    }
    auto const upstreams = multiply(0, kTokens, nullptr);
    EXPECT_LT(error(together, {upstreams.begin(), upstreams.end()}), 1e-6);
}

std::vector<float> gelu(std::vector<float> const& values, int threads) {
    Graph graph(threads);
    auto* const from = ggml_new_tensor_1d(graph.context(), GGML_TYPE_F32, static_cast<std::int64_t>(values.size()));
    auto* const to = ggml_gelu(graph.context(), from);
    graph.allocate();
    ggml_backend_tensor_set(from, values.data(), 0, ggml_nbytes(from));
    return graph.compute(to);
}

TEST(Gelu, IsTheFunctionWhateverStandsBeside) {
    auto values = random_floats(10'007, 5);
    for (float& value : values) value *= 4;
    auto const together = gelu(values, 2);
    for (std::size_t i = 0; i < values.size(); ++i) {
        double const x = values[i];
        double const exact = x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
        EXPECT_NEAR(together[i], exact, 1e-6 + 1e-6 * std::abs(x)) << x;
    }
    auto const rest = bits(gelu({values.begin() + 5001, values.end()}, 1));
    auto const all = bits(together);
    EXPECT_TRUE(std::equal(rest.begin(), rest.end(), all.begin() + 5001));
}

TEST(Gelu, HasLimits) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    auto const found = gelu({0.0F, -kInfinity, kInfinity, 1e30F, -1e30F, std::nanf("")}, 1);
    EXPECT_EQ((std::vector<float>(found.begin(), found.begin() + 5)), (std::vector<float>{0, 0, kInfinity, 1e30F, 0}));
    EXPECT_TRUE(std::isnan(found[5]));
}

}  // namespace
}  // namespace hearth::llama
