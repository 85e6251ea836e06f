// Our own kernels against upstream's, bit by bit, in the variant this machine
// chooses. A count of rows that is no whole number of tiles stays upstream's, so
// weights with one row more give what to compare with.
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "llama/runtime.h"

namespace hearth::llama {
namespace {

struct Free {
    void operator()(ggml_context* context) const { ggml_free(context); }
    void operator()(ggml_backend* backend) const { ggml_backend_free(backend); }
    void operator()(ggml_backend_buffer* buffer) const { ggml_backend_buffer_free(buffer); }
};

struct Shape {
    std::int64_t depth;    // of a row of weights, and of a column of activations
    std::int64_t rows;     // of weights
    std::int64_t columns;  // of activations
};

std::vector<float> random_floats(std::int64_t count, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    std::generate(values.begin(), values.end(), [&] { return normal(random); });
    return values;
}

class Kernels : public testing::TestWithParam<Shape> {
protected:
    void SetUp() override {
        auto const variant = start_runtime("", [](int, std::string_view) {});
        ASSERT_TRUE(variant) << variant.error().message;
        backend_.reset(ggml_backend_dev_init(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), nullptr));
        ASSERT_NE(backend_, nullptr);
        auto const& shape = GetParam();
        std::int64_t const rows = shape.rows + 1;
        weights_.resize(ggml_row_size(GGML_TYPE_Q4_1, shape.depth) * static_cast<std::size_t>(rows));
        auto const floats = random_floats(shape.depth * rows, 1);
        ggml_quantize_chunk(GGML_TYPE_Q4_1, floats.data(), weights_.data(), 0, rows, shape.depth, nullptr);
    }

    // The bits of the first `rows` rows of weights x `activations`, column by column.
    std::vector<std::uint32_t> multiply(std::int64_t rows, std::vector<float> const& activations) {
        auto const& shape = GetParam();
        std::unique_ptr<ggml_context, Free> const context(
            ggml_init({ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true}));
        auto* const weights = ggml_new_tensor_2d(context.get(), GGML_TYPE_Q4_1, shape.depth, rows);
        auto* const columns = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, shape.depth,
                                                 static_cast<std::int64_t>(activations.size()) / shape.depth);
        auto* const product = ggml_mul_mat(context.get(), weights, columns);
        std::unique_ptr<ggml_backend_buffer, Free> const buffer(
            ggml_backend_alloc_ctx_tensors(context.get(), backend_.get()));
        ggml_backend_tensor_set(weights, weights_.data(), 0, ggml_nbytes(weights));
        ggml_backend_tensor_set(columns, activations.data(), 0, ggml_nbytes(columns));
        auto* const graph = ggml_new_graph(context.get());
        ggml_build_forward_expand(graph, product);
        EXPECT_EQ(ggml_backend_graph_compute(backend_.get(), graph), GGML_STATUS_SUCCESS);
        std::vector<std::uint32_t> bits(static_cast<std::size_t>(ggml_nelements(product)));
        ggml_backend_tensor_get(product, bits.data(), 0, ggml_nbytes(product));
        return bits;
    }

private:
    std::unique_ptr<ggml_backend, Free> backend_;
    std::vector<std::uint8_t> weights_;
};

TEST_P(Kernels, ProductsHaveTheBitsOfUpstreams) {
    auto const& shape = GetParam();
    auto const activations = random_floats(shape.depth * shape.columns, 2);
    auto const ours = multiply(shape.rows, activations);
    auto const upstreams = multiply(shape.rows + 1, activations);
    for (std::int64_t column = 0; column < shape.columns; ++column) {
        auto const from = ours.begin() + column * shape.rows;
        ASSERT_TRUE(std::equal(from, from + shape.rows, upstreams.begin() + column * (shape.rows + 1))) << column;
    }
    ASSERT_TRUE(std::any_of(ours.begin(), ours.end(), [](auto bits) { return std::bit_cast<float>(bits) != 0; }));
}

// One column; whole tiles of columns and rests of each size.
INSTANTIATE_TEST_SUITE_P(Shapes, Kernels,
                         testing::Values(Shape{32, 16, 1}, Shape{576, 576, 1}, Shape{1536, 576, 1}, Shape{32, 16, 2},
                                         Shape{32, 16, 3}, Shape{64, 48, 4}, Shape{96, 32, 5}, Shape{576, 192, 6},
                                         Shape{1536, 64, 7}, Shape{576, 1536, 16}, Shape{256, 128, 33}),
                         [](auto const& tested) {
                             return std::to_string(tested.param.depth) + "x" + std::to_string(tested.param.rows) + "x" +
                                    std::to_string(tested.param.columns);
                         });

}  // namespace
}  // namespace hearth::llama
