// Products of any type of weights, column by column: what a row and a column give
// is upstream's product of two vectors, whatever else is computed with them.
//
// For weights that ask for it (weight_mark.h) and for which no other kernel of ours
// has the same property at less cost. Upstream's kernels for several columns are
// faster and give other bits.
#include <ggml-backend-impl.h>
#include <ggml-cpu-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>

#include <algorithm>
#include <cstdint>

#include "llama/kernels/kernels.h"
#include "llama/kernels/weight_mark.h"

namespace hearth::llama {
namespace {

constexpr std::int64_t kTile = 32;  // rows of a unit of work: they stay in the cache for all columns

struct Op {
    ggml_tensor const& weights;
    ggml_tensor const& activations;
    ggml_tensor const& out;
    ggml_tensor const* experts;  // which matrix each column meets, for a mixture
    ggml_type_traits_cpu const& traits;
    ggml_type type;          // of activations, as the product wants them
    std::size_t width;       // bytes of a column of those
    std::int64_t inputs;     // columns of activations
    std::int64_t columns;    // of the result

    explicit Op(ggml_tensor const& op)
        : weights(*op.src[0]),
          activations(*op.src[1]),
          out(op),
          experts(op.op == GGML_OP_MUL_MAT_ID ? op.src[2] : nullptr),
          traits(*ggml_get_type_traits_cpu(weights.type)),
          type(traits.vec_dot_type),
          width(ggml_row_size(type, activations.ne[0])),
          inputs(activations.ne[1] * activations.ne[2] * activations.ne[3]),
          columns(op.ne[1] * op.ne[2] * op.ne[3]) {}

    static char* at(ggml_tensor const& tensor, std::int64_t i1, std::int64_t i2, std::int64_t i3) {
        return static_cast<char*>(tensor.data) + static_cast<std::size_t>(i1) * tensor.nb[1] +
               static_cast<std::size_t>(i2) * tensor.nb[2] + static_cast<std::size_t>(i3) * tensor.nb[3];
    }
    [[nodiscard]] char* input(std::int64_t i) const {
        auto const [n1, n2] = std::pair(activations.ne[1], activations.ne[2]);
        return at(activations, i % n1, i / n1 % n2, i / n1 / n2);
    }
};

// One column of the result: where its matrix begins, and its column of activations.
struct Column {
    char const* matrix;
    std::int64_t input;
    float* out;
};

Column column(Op const& op, std::int64_t i) {
    auto const [n1, n2] = std::pair(op.out.ne[1], op.out.ne[2]);
    std::int64_t const i1 = i % n1, i2 = i / n1 % n2, i3 = i / n1 / n2;
    auto* const out = reinterpret_cast<float*>(Op::at(op.out, i1, i2, i3));
    if (op.experts != nullptr) {
        auto const* const chosen = reinterpret_cast<std::int32_t const*>(Op::at(*op.experts, i2, 0, 0)) + i1;
        return {Op::at(op.weights, 0, *chosen, 0), i2 * op.activations.ne[1] + i1 % op.activations.ne[1], out};
    }
    // Several columns may share a matrix.
    std::int64_t const w2 = i2 / (op.out.ne[2] / op.weights.ne[2]), w3 = i3 / (op.out.ne[3] / op.weights.ne[3]);
    return {Op::at(op.weights, 0, w2, w3), i, out};
}

struct Columns final : ggml::cpu::tensor_traits {
    bool work_size(int, ggml_tensor const* op, std::size_t& size) override {
        Op const o(*op);
        size = o.width * static_cast<std::size_t>(o.inputs);
        return true;
    }

    bool compute_forward(ggml_compute_params* params, ggml_tensor* tensor) override {
        Op const op(*tensor);
        auto* const work = static_cast<char*>(params->wdata);
        bool const convert = op.type != op.activations.type;
        if (convert) {
            auto const from_float = ggml_get_type_traits_cpu(op.type)->from_float;
            for (std::int64_t i = params->ith; i < op.inputs; i += params->nth)
                from_float(reinterpret_cast<float const*>(op.input(i)), work + static_cast<std::size_t>(i) * op.width,
                           op.activations.ne[0]);
        }
        if (params->ith == 0) ggml_threadpool_chunk_set(params->threadpool, params->nth);
        ggml_barrier(params->threadpool);
        std::int64_t const rows = op.weights.ne[1];
        auto const tiles = static_cast<int>((rows + kTile - 1) / kTile);
        for (int tile = params->ith; tile < tiles; tile = ggml_threadpool_chunk_add(params->threadpool, 1)) {
            std::int64_t const begin = tile * kTile, end = std::min(begin + kTile, rows);
            for (std::int64_t i = 0; i < op.columns; ++i) {
                auto const [matrix, input, out] = column(op, i);
                char const* const values =
                    convert ? work + static_cast<std::size_t>(input) * op.width : op.input(input);
                for (std::int64_t row = begin; row < end; ++row)
                    op.traits.vec_dot(static_cast<int>(op.weights.ne[0]), out + row, 0,
                                      matrix + static_cast<std::size_t>(row) * op.weights.nb[1], 0, values, 0, 1);
            }
        }
        return true;
    }
};

bool is_ours(ggml_tensor const& op) {
    if (op.op != GGML_OP_MUL_MAT && op.op != GGML_OP_MUL_MAT_ID) return false;
    ggml_tensor const& weights = *op.src[0];
    auto const* const mark = static_cast<ColumnWise const*>(weights.extra);
    if (mark == nullptr || weights.buffer == nullptr || !ggml_backend_buffer_is_host(weights.buffer) ||
        mark->magic != ColumnWise::kMagic)
        return false;
    auto const* const traits = ggml_get_type_traits_cpu(weights.type);
    return traits->vec_dot != nullptr && op.src[1]->type == GGML_TYPE_F32 && op.type == GGML_TYPE_F32 &&
           weights.nb[0] == ggml_type_size(weights.type) && op.src[1]->nb[0] == sizeof(float) &&
           op.nb[0] == sizeof(float);
}

}  // namespace

ggml::cpu::tensor_traits* matmul_columns(ggml_tensor const& op) {
    static Columns traits;
    return is_ours(op) ? &traits : nullptr;
}

}  // namespace hearth::llama
