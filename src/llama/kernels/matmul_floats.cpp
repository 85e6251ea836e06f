// Matrix product of weights of 32 and 16 bits with columns of activations.
//
// Upstream has one kernel for one column and another for more, whose sums
// differ in order. Here each product of a row and a column is 16 partial sums, added up in one order, as many rows and
// columns at once as there are registers for. 16-bit weights meet
// activations of 32 bits; upstream rounds those to 16.
#include <ggml-backend-impl.h>
#include <ggml-cpu-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>

#include <algorithm>
#include <cstring>

#include "llama/kernels/kernels.h"
#include "llama/kernels/product_shape.h"
#include "llama/kernels/simd.h"

namespace hearth::llama {
namespace {

constexpr int kTile = 16;  // rows of a unit of work

#if defined(__AVX512F__)
constexpr int kRowsAtOnce = 4, kColumnsMax = 4;
#else
constexpr int kRowsAtOnce = 2, kColumnsMax = 2;
#endif

struct Op {
    ggml_tensor const& weights;
    ggml_tensor const& activations;
    ggml_tensor const& out;
    int depth;
    int rows;
    int columns;

    explicit Op(ggml_tensor const& op)
        : weights(*op.src[0]),
          activations(*op.src[1]),
          out(op),
          depth(static_cast<int>(weights.ne[0])),
          rows(static_cast<int>(weights.ne[1])),
          columns(static_cast<int>(ggml_nrows(&activations))) {}

    template <typename T>
    [[nodiscard]] static T* at(ggml_tensor const& tensor, int i) {
        return reinterpret_cast<T*>(static_cast<char*>(tensor.data) + static_cast<std::size_t>(i) * tensor.nb[1]);
    }
};

template <typename T>
HEARTH_INLINE F32x16 load_first(T const* from, int count) {
    T rest[kLanes] = {};
    std::memcpy(rest, from, static_cast<std::size_t>(count) * sizeof(T));
    return load(rest);
}

template <typename T, int Rows, int Columns>
HEARTH_INLINE void dot(T const* const* rows, float const* const* columns, int depth, F32x16* out, int stride) {
    F32x16 sum[Rows][Columns] = {};
    auto const add = [&](auto const& weights, auto const& values) {
        F32x16 value[Columns];
        for (int j = 0; j < Columns; ++j) value[j] = values(j);
        for (int i = 0; i < Rows; ++i) {
            F32x16 const weight = weights(i);
            for (int j = 0; j < Columns; ++j) sum[i][j] = multiply_add(weight, value[j], sum[i][j]);
        }
    };
    int d = 0;
    for (; d + kLanes <= depth; d += kLanes)
        add([&](int i) { return load(rows[i] + d); }, [&](int j) { return load(columns[j] + d); });
    if (d < depth)
        add([&](int i) { return load_first(rows[i] + d, depth - d); },
            [&](int j) { return load_first(columns[j] + d, depth - d); });
    for (int i = 0; i < Rows; ++i)
        for (int j = 0; j < Columns; ++j) out[j * stride + i] = sum[i][j];
}

// The rows [row, row + kTile) times `Columns` columns. Past the last row it comes again.
template <typename T, int Columns>
void multiply(Op const& op, int row, int column) {
    float const* columns[Columns];
    T const* rows[kTile];
    for (int j = 0; j < Columns; ++j) columns[j] = Op::at<float const>(op.activations, column + j);
    for (int i = 0; i < kTile; ++i) rows[i] = Op::at<T const>(op.weights, std::min(row + i, op.rows - 1));
    F32x16 products[Columns * kTile];
    for (int i = 0; i < kTile; i += kRowsAtOnce)
        dot<T, kRowsAtOnce, Columns>(rows + i, columns, op.depth, products + i, kTile);
    auto const bytes = sizeof(float) * static_cast<std::size_t>(std::min(kTile, op.rows - row));
    for (int j = 0; j < Columns; ++j) {
        F32x16 const sums = sum_rows(products + j * kTile);
        std::memcpy(Op::at<float>(op.out, column + j) + row, &sums, bytes);
    }
}

template <typename T>
struct Matmul final : ggml::cpu::tensor_traits {
    bool work_size(int, ggml_tensor const*, std::size_t& size) override {
        size = 0;
        return true;
    }

    bool compute_forward(ggml_compute_params* params, ggml_tensor* tensor) override {
        Op const op(*tensor);
        if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
        ggml_barrier(params->threadpool);
        int const tiles = (op.rows + kTile - 1) / kTile;
        for (int tile = params->ith; tile < tiles; tile = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            int column = 0;
            for (; column + kColumnsMax <= op.columns; column += kColumnsMax)
                multiply<T, kColumnsMax>(op, tile * kTile, column);
            for (; column < op.columns; ++column) multiply<T, 1>(op, tile * kTile, column);
        }
        return true;
    }
};

}  // namespace

ggml::cpu::tensor_traits* matmul_floats(ggml_tensor const& op) {
    static Matmul<float> f32;
    static Matmul<ggml_fp16_t> f16;
    if (!is_plain_product(op) || ggml_get_op_params_i32(&op, 1) == GGML_HINT_SRC0_IS_HADAMARD) return nullptr;
    switch (op.src[0]->type) {
        case GGML_TYPE_F32: return &f32;
        case GGML_TYPE_F16: return &f16;
        default: return nullptr;
    }
}

}  // namespace hearth::llama
