// GELU by its tanh approximation (Hendrycks and Gimpel, arXiv:1606.08415), as BERT-like models use it.
//
// x (1 + tanh(u)) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3) is x / (1 + e^-2u): one exponential and one
// division, sixteen at a time. Upstream rounds x to 16 bits and reads a table, number by number; this is
// nearer to the function. An element's result depends on that element alone.
#include <ggml-backend-impl.h>
#include <ggml-cpu-impl.h>
#include <ggml-impl.h>

#include <algorithm>
#include <cstring>

#include "llama/kernels/kernels.h"
#include "llama/kernels/simd.h"

namespace hearth::llama {
namespace {

constexpr std::int64_t kUnit = 4096;  // elements a thread takes at once

HEARTH_INLINE F32x16 gelu(F32x16 x) {
    constexpr float kSlope = 1.5957691216F;  // 2 sqrt(2/pi)
    F32x16 const z = x * kSlope * multiply_add(x * x, all(0.044715F), all(1.0F));
    F32x16 const e = exp_negative(z < 0.0F ? z : -z);
    F32x16 const y = (z < 0.0F ? x * e : x) / (e + 1.0F);
    return x < -10.0F ? F32x16{} : y;  // infinity times 0
}

void compute(float const* from, float* to, std::int64_t count) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(to + i, gelu(load(from + i)));
    if (i == count) return;
    float rest[kLanes] = {};
    auto const bytes = static_cast<std::size_t>(count - i) * sizeof(float);
    std::memcpy(rest, from + i, bytes);
    F32x16 const last = gelu(load(rest));
    std::memcpy(to + i, &last, bytes);
}

struct Gelu final : ggml::cpu::tensor_traits {
    bool work_size(int, ggml_tensor const*, std::size_t& size) override {
        size = 0;
        return true;
    }

    bool compute_forward(ggml_compute_params* params, ggml_tensor* tensor) override {
        auto const* const from = static_cast<float const*>(tensor->src[0]->data);
        auto* const to = static_cast<float*>(tensor->data);
        std::int64_t const count = ggml_nelements(tensor);
        for (std::int64_t at = params->ith * kUnit; at < count; at += params->nth * kUnit)
            compute(from + at, to + at, std::min(kUnit, count - at));
        return true;
    }
};

}  // namespace

ggml::cpu::tensor_traits* gelu(ggml_tensor const& op) {
    static Gelu traits;
    bool const is_ours = op.op == GGML_OP_UNARY && ggml_get_unary_op(&op) == GGML_UNARY_OP_GELU &&
                         op.type == GGML_TYPE_F32 && op.src[0]->type == GGML_TYPE_F32 && ggml_is_contiguous(&op) &&
                         ggml_is_contiguous(op.src[0]);
    return is_ours ? &traits : nullptr;
}

}  // namespace hearth::llama
