#include "llama/kernels/kernels.h"

#include <ggml-backend-impl.h>
#include <ggml-cpu.h>

namespace hearth::llama {
namespace {

struct Kernels final : ggml::cpu::extra_buffer_type {
    bool supports_op(ggml_backend_dev_t, ggml_tensor const*) override { return false; }  // no weights live here
    ggml::cpu::tensor_traits* get_tensor_traits(ggml_tensor const* op) override {
        for (auto* const kernel : {matmul_blocks, matmul_floats, matmul_columns, attention, gelu})
            if (auto* const found = kernel(*op)) return found;
        return nullptr;
    }
};

char const* name(ggml_backend_buffer_type_t) { return "Hearth"; }
ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t, std::size_t) { return nullptr; }
std::size_t alignment(ggml_backend_buffer_type_t) { return 64; }

}  // namespace
}  // namespace hearth::llama

extern "C" ggml_backend_reg_t hearth_cpu_reg() {
    using namespace hearth::llama;
    static Kernels kernels;
    static auto* const registration = [] {
        auto* const upstream = ggml_backend_cpu_reg();
        static ggml_backend_buffer_type type{};
        type.iface.get_name = name;
        type.iface.alloc_buffer = allocate;
        type.iface.get_alignment = alignment;
        type.device = ggml_backend_reg_dev_get(upstream, 0);
        type.context = static_cast<ggml::cpu::extra_buffer_type*>(&kernels);
        ggml_backend_cpu_get_extra_buffer_types().push_back(&type);
        return upstream;
    }();
    return registration;
}
