// Owners of upstream's objects. Private to the module.
#pragma once

#include <llama.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace hearth::llama {

struct ModelFree {
    void operator()(llama_model* model) const { llama_model_free(model); }
};
struct ContextFree {
    void operator()(llama_context* context) const { llama_free(context); }
};
struct ThreadPoolFree {
    void operator()(ggml_threadpool* pool) const;
};
using ModelPtr = std::unique_ptr<llama_model, ModelFree>;
using ContextPtr = std::unique_ptr<llama_context, ContextFree>;
using ThreadPoolPtr = std::unique_ptr<ggml_threadpool, ThreadPoolFree>;

// A pool of `threads`, the caller's own included, from the registered CPU
// variant. Each stays on its entry of `cpus` if there are any, but for the
// caller's, which computing puts on the last with OnCpu. Null when the system
// refuses threads.
[[nodiscard]] ThreadPoolPtr make_thread_pool(std::uint32_t threads, std::vector<std::uint32_t> const& cpus);

}  // namespace hearth::llama
