// One attention operation of a graph: its tensors and sizes, and whether it is computed here.
// Private to the kernels.
#pragma once

#include <ggml-cpu.h>
#include <ggml-impl.h>

#include <bit>
#include <cmath>

#include "llama/kernels/simd.h"

namespace hearth::llama {

inline constexpr int kTileRows = 64;  // queries, of all heads of a group, computed together at most

constexpr int padded(int count) { return (count + kLanes - 1) / kLanes * kLanes; }

struct AttentionOp {
    ggml_tensor const& q;
    ggml_tensor const& k;
    ggml_tensor const& v;
    ggml_tensor const& mask;
    ggml_tensor const* sinks;
    ggml_tensor& out;
    int rows;       // tokens of the batch
    int heads;      // of queries
    int groups;     // of heads that share keys and values
    int shared;     // heads of a group
    int cells;      // of the cache that are looked at
    int key_size;   // elements of a head's key
    int value_size;
    int key_width;    // padded
    int value_width;
    float scale;
    float bias_max;
    float softcap;

    explicit AttentionOp(ggml_tensor& op)
        : q(*op.src[0]),
          k(*op.src[1]),
          v(*op.src[2]),
          mask(*op.src[3]),
          sinks(op.src[4]),
          out(op),
          rows(static_cast<int>(q.ne[1])),
          heads(static_cast<int>(q.ne[2])),
          groups(static_cast<int>(k.ne[2])),
          shared(heads / groups),
          cells(static_cast<int>(k.ne[1])),
          key_size(static_cast<int>(k.ne[0])),
          value_size(static_cast<int>(v.ne[0])),
          key_width(padded(key_size)),
          value_width(padded(value_size)),
          scale(ggml_get_op_params_f32(&op, 0)),
          bias_max(ggml_get_op_params_f32(&op, 1)),
          softcap(ggml_get_op_params_f32(&op, 2)) {
        if (softcap != 0) scale /= softcap;
    }

    template <typename T>
    static T const* at(ggml_tensor const& tensor, int i1, int i2) {
        return reinterpret_cast<T const*>(static_cast<char const*>(tensor.data) +
                                          static_cast<std::size_t>(i1) * tensor.nb[1] +
                                          static_cast<std::size_t>(i2) * tensor.nb[2]);
    }
    [[nodiscard]] float* result(int row, int head) const {
        return reinterpret_cast<float*>(static_cast<char*>(out.data) +
                                        static_cast<std::size_t>(head + row * heads) * out.nb[1]);
    }
    // How much of the mask's value a head takes (ALiBi): https://arxiv.org/abs/2108.12409.
    [[nodiscard]] float slope(int head) const {
        if (bias_max <= 0) return 1;
        auto const power = static_cast<int>(std::bit_floor(static_cast<unsigned>(heads)));
        float const low = std::pow(2.0F, -bias_max / static_cast<float>(power));
        float const high = std::pow(2.0F, -bias_max / 2 / static_cast<float>(power));
        return head < power ? std::pow(low, static_cast<float>(head + 1))
                            : std::pow(high, static_cast<float>(2 * (head - power) + 1));
    }
};

// What is left to upstream: other types than those of a 16-bit cache, and several caches at once.
inline bool is_ours(ggml_tensor const& op) {
    if (op.op != GGML_OP_FLASH_ATTN_EXT || op.src[3] == nullptr) return false;
    ggml_tensor const& q = *op.src[0];
    ggml_tensor const& k = *op.src[1];
    ggml_tensor const& v = *op.src[2];
    ggml_tensor const& mask = *op.src[3];
    bool const types =
        q.type == GGML_TYPE_F32 && k.type == GGML_TYPE_F16 && v.type == GGML_TYPE_F16 && mask.type == GGML_TYPE_F16;
    bool const shapes = q.ne[3] == 1 && k.ne[3] == 1 && v.ne[3] == 1 && mask.ne[2] == 1 && mask.ne[3] == 1 &&
                        v.ne[2] == k.ne[2] && q.ne[2] % k.ne[2] == 0 && q.ne[2] / k.ne[2] <= kTileRows;
    bool const packed = q.nb[0] == sizeof(float) && k.nb[0] == sizeof(ggml_fp16_t) && v.nb[0] == sizeof(ggml_fp16_t);
    return types && shapes && packed;
}

}  // namespace hearth::llama
