// Graph: single operations on the registered CPU variant, for tests of kernels.
#pragma once

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "llama/runtime.h"

namespace hearth::llama::testing {

class Graph {
public:
    explicit Graph(int threads = 1) : context_(ggml_init({kTensors, nullptr, true})) {
        auto const variant = start_runtime("", [](int, std::string_view) {});
        EXPECT_TRUE(variant) << variant.error().message;
        backend_.reset(ggml_backend_dev_init(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), nullptr));
        auto const set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(ggml_backend_get_device(backend_.get())), "ggml_backend_set_n_threads"));
        set_threads(backend_.get(), threads);
    }

    [[nodiscard]] ggml_context* context() const { return context_.get(); }

    // Memory for all tensors made so far.
    void allocate() { buffer_.reset(ggml_backend_alloc_ctx_tensors(context_.get(), backend_.get())); }

    std::vector<float> compute(ggml_tensor* result) {
        auto* const graph = ggml_new_graph(context_.get());
        ggml_build_forward_expand(graph, result);
        EXPECT_EQ(ggml_backend_graph_compute(backend_.get(), graph), GGML_STATUS_SUCCESS);
        std::vector<float> values(static_cast<std::size_t>(ggml_nelements(result)));
        ggml_backend_tensor_get(result, values.data(), 0, ggml_nbytes(result));
        return values;
    }

private:
    struct Free {
        void operator()(ggml_context* context) const { ggml_free(context); }
        void operator()(ggml_backend* backend) const { ggml_backend_free(backend); }
        void operator()(ggml_backend_buffer* buffer) const { ggml_backend_buffer_free(buffer); }
    };
    inline static std::size_t const kTensors = ggml_tensor_overhead() * 32 + ggml_graph_overhead();
    std::unique_ptr<ggml_context, Free> context_;
    std::unique_ptr<ggml_backend, Free> backend_;
    std::unique_ptr<ggml_backend_buffer, Free> buffer_;
};

inline std::vector<float> random_floats(std::int64_t count, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(count));
    std::generate(values.begin(), values.end(), [&] { return normal(random); });
    return values;
}

inline std::vector<std::uint32_t> bits(std::vector<float> const& values) {
    std::vector<std::uint32_t> all;
    all.reserve(values.size());
    for (float const value : values) all.push_back(std::bit_cast<std::uint32_t>(value));
    return all;
}

// Normalised mean square error.
inline double error(std::vector<float> const& values, std::vector<double> const& exact) {
    EXPECT_EQ(values.size(), exact.size());
    double wrong = 0, power = 0;
    for (std::size_t i = 0; i < values.size() && i < exact.size(); ++i) {
        wrong += std::pow(static_cast<double>(values[i]) - exact[i], 2);
        power += exact[i] * exact[i];
    }
    return wrong / std::max(power, 1e-300);
}

}  // namespace hearth::llama::testing
