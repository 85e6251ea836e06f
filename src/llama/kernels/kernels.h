// Our own kernels of a CPU variant, and how upstream finds them.
//
// The sources of this folder are compiled once per CPU variant, with that
// variant's instructions, and linked into its closed object with upstream's
// kernels (cmake/HearthLlama.cmake). Upstream asks the types in its list of extra
// buffer types before it computes an operation; ours is put there.
//
// Threads: kernels run on all compute threads of an operation at once; asking is
// any thread's.
#pragma once

#include <traits.h>

namespace hearth::llama {

// What computes `op`, or null if it stays upstream's.
[[nodiscard]] ggml::cpu::tensor_traits* attention(ggml_tensor const& op);
[[nodiscard]] ggml::cpu::tensor_traits* gelu(ggml_tensor const& op);
[[nodiscard]] ggml::cpu::tensor_traits* matmul_blocks(ggml_tensor const& op);
[[nodiscard]] ggml::cpu::tensor_traits* matmul_columns(ggml_tensor const& op);
[[nodiscard]] ggml::cpu::tensor_traits* matmul_floats(ggml_tensor const& op);

}  // namespace hearth::llama

// The variant's handle, as ggml_backend_cpu_reg(), with these kernels asked first.
extern "C" ggml_backend_reg_t hearth_cpu_reg();
