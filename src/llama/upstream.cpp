#include "llama/upstream.h"

#include <ggml-backend.h>

#include "base/assert.h"
#include "llama/compute_threads.h"

namespace hearth::llama {

namespace {

// The kernels are chosen at run time, so their functions are found by name.
template <typename Function>
Function* cpu_function(char const* name) {
    auto* const device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    HEARTH_ASSERT(device != nullptr, "start_runtime() registered a CPU variant");
    auto* const function = ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name);
    HEARTH_ASSERT(function != nullptr, "the CPU variant exports its thread pool");
    return reinterpret_cast<Function*>(function);
}

}  // namespace

void ThreadPoolFree::operator()(ggml_threadpool* pool) const {
    cpu_function<decltype(ggml_threadpool_free)>("ggml_threadpool_free")(pool);
}

ThreadPoolPtr make_thread_pool(std::uint32_t threads, std::vector<std::uint32_t> const& cpus) {
    ggml_threadpool_params params = ggml_threadpool_params_default(static_cast<int>(threads));
    // Between two steps the threads sleep at once instead of spinning for
    // milliseconds: on a small machine the cores are needed for HTTP then, and
    // waking costs some 50 us per step.
    params.poll = 0;
    for (std::uint32_t const cpu : cpus)
        if (cpu < GGML_MAX_N_THREADS) params.cpumask[cpu] = true;
    params.strict_cpu = !cpus.empty();
    // Upstream puts the caller on its CPU too: this one only loads.
    OnCpu const stay(cpus.empty() ? std::optional<std::uint32_t>() : cpus.back());
    return ThreadPoolPtr(cpu_function<decltype(ggml_threadpool_new)>("ggml_threadpool_new")(&params));
}

}  // namespace hearth::llama
