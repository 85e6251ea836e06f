// What the products of this folder have in common: which operations they take.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <cstddef>

namespace hearth::llama {

// One matrix of weights in host memory, times columns of 32-bit floats at equal
// distances, however they are numbered.
inline bool is_plain_product(ggml_tensor const& op) {
    if (op.op != GGML_OP_MUL_MAT) return false;
    ggml_tensor const& weights = *op.src[0];
    ggml_tensor const& activations = *op.src[1];
    // Accelerators that keep weights in a layout of their own say so by their buffer.
    if (weights.buffer != nullptr && !ggml_backend_buffer_is_host(weights.buffer)) return false;
    auto const even = [](ggml_tensor const& t) {
        auto const n1 = static_cast<std::size_t>(t.ne[1]), n2 = static_cast<std::size_t>(t.ne[2]);
        return (t.ne[2] * t.ne[3] == 1 || t.nb[2] == n1 * t.nb[1]) && (t.ne[3] == 1 || t.nb[3] == n2 * t.nb[2]);
    };
    return weights.ne[2] == 1 && weights.ne[3] == 1 && even(activations) && even(op) &&
           activations.type == GGML_TYPE_F32 && op.type == GGML_TYPE_F32 &&
           weights.nb[0] == ggml_type_size(weights.type) && activations.nb[0] == sizeof(float) &&
           op.nb[0] == sizeof(float);
}

}  // namespace hearth::llama
