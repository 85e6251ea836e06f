#include "llama/invariance.h"

#include <ggml-backend.h>
#include <ggml-cpu/traits.h>
#include <ggml.h>
#include <llama-context.h>
#include <llama-cparams.h>
#include <llama-model.h>
#include <llama.h>

#include <algorithm>
#include <array>
#include <memory>

#include "llama/adapters.h"
#include "llama/kernels/weight_mark.h"

namespace hearth::llama {

namespace {

struct FreeContext {
    void operator()(ggml_context* context) const { ggml_free(context); }
};

// Ours among the kinds of memory that upstream asks for kernels.
ggml::cpu::extra_buffer_type* kernels() {
    auto* const device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    auto const list = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
        ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
    if (list == nullptr) return nullptr;
    for (auto* type = list(device); type != nullptr && *type != nullptr; ++type)
        if (std::string_view(ggml_backend_buft_name(*type)) == "Hearth")
            return static_cast<ggml::cpu::extra_buffer_type*>((*type)->context);
    return nullptr;
}

// Asks the kernels about products with each of the weights.
class Products {
public:
    Products() : kernels_(kernels()) {}

    // The type is known inside the variants' closed objects only: its vtable cannot be checked here.
    [[nodiscard, clang::no_sanitize("vptr")]] bool ours(ggml_tensor& weights) const {
        std::unique_ptr<ggml_context, FreeContext> const context(
            ggml_init({ggml_tensor_overhead() * 4, nullptr, true}));
        if (kernels_ == nullptr || context == nullptr) return false;
        auto* const column = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, weights.ne[0], 1, 1);
        auto* const one = ggml_new_tensor_2d(context.get(), GGML_TYPE_I32, 1, 1);
        auto* const product = weights.ne[2] > 1 ? ggml_mul_mat_id(context.get(), &weights, column, one)
                                                : ggml_mul_mat(context.get(), &weights, column);
        return kernels_->get_tensor_traits(product) != nullptr;
    }

private:
    ggml::cpu::extra_buffer_type* kernels_;
};

void mark_column_wise(ggml_tensor& tensor) {
    static ColumnWise mark;
    if (tensor.extra == nullptr && tensor.buffer != nullptr && ggml_backend_buffer_is_host(tensor.buffer))
        tensor.extra = &mark;
}

}  // namespace

void ask_column_wise(llama_model& model) {
    for (auto const& [name, tensor] : llama_internal_get_tensor_map(&model)) mark_column_wise(*tensor);
}

void ask_column_wise(std::span<llama_adapter_lora* const> adapters) {
    for (auto const* const adapter : adapters)
        for (auto* const matrix : matrices_of(*adapter)) mark_column_wise(*matrix);
}

domain::Determinism determinism(llama_model const& model, llama_context const& context, std::string_view architecture,
                                std::span<llama_adapter_lora* const> adapters) {
    using domain::Determinism;
    if (!context.get_cparams().flash_attn) return Determinism::no;
    constexpr std::array<std::string_view, 3> kTestedRecurrent = {"lfm2", "lfm2moe", "mamba"};
    bool const recurrent = llama_model_is_recurrent(&model) || llama_model_is_hybrid(&model);
    if (recurrent && std::ranges::find(kTestedRecurrent, architecture) == kTestedRecurrent.end())
        return Determinism::no;
    auto const& weights = llama_internal_get_tensor_map(&model);
    bool const has_head =
        std::ranges::any_of(weights, [](auto const& named) { return named.first == "output.weight"; });
    Products const products;
    bool const ours = std::ranges::all_of(weights, [&](auto const& named) {
        auto const& [name, tensor] = named;
        bool const looked_up = has_head && name == "token_embd.weight";  // row by row
        return ggml_n_dims(tensor) < 2 || looked_up || products.ours(*tensor);
    });
    bool const theirs = std::ranges::any_of(adapters, [&](llama_adapter_lora const* adapter) {
        return std::ranges::any_of(matrices_of(*adapter), [&](ggml_tensor* matrix) { return !products.ours(*matrix); });
    });
    return ours && !theirs ? Determinism::always : Determinism::on_request;
}

}  // namespace hearth::llama
