// Memory for tensors that costs nothing until it is used.
//
// ggml's CPU buffer type takes memory from malloc, and the KV cache then clears
// all of it: 32768 cells of a small model are 750 MB resident before the first
// request. Here large buffers are fresh anonymous mappings, which are zero
// anyway, and clearing one gives its pages back.
//
// Upstream offers no hook for this, so the buffer type's allocation function is
// replaced; the types of everything touched are asserted when this compiles.
#pragma once

#include <cstddef>

namespace hearth::llama {

// Buffers below this stay with malloc.
inline constexpr std::size_t kLazyBytesMin = 1U << 20;

// From now on, for the whole process. Idempotent.
// Threads: call before any buffer is allocated on another thread.
void install_lazy_memory();

}  // namespace hearth::llama
