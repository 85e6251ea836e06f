// Embedder: embeddings from a context of its own, beside the one that generates.
//
// The context is made on first use, shares the weights and the thread pool, and
// gives its memory back after each call. Inputs are packed several to a batch.
//
// Threads: one at a time, and not while the generating context computes.
// Private to the module.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "llama/adapters.h"
#include "llama/backend.h"
#include "llama/cache_positions.h"
#include "llama/upstream.h"

namespace hearth::llama {

struct EmbedderOptions {
    std::uint32_t input_max = 0;  // tokens of one input
    std::uint32_t threads = 1;
    bool ranks = false;  // one number per input instead of a vector
};

class Embedder {
public:
    // REQUIRES: both outlive the embedder
    Embedder(llama_model& model, ggml_threadpool* pool, EmbedderOptions options)
        : model_(model), pool_(pool), options_(options) {}

    // As Backend::use_adapters. REQUIRES: they outlive the embedder
    void use(AdapterHandles const& adapters) { adapters_ = &adapters; }

    // As Backend::embed.
    [[nodiscard]] Result<std::vector<std::vector<float>>> embed(std::span<std::vector<Token> const> inputs);

    // Until the next call of embed() it takes no memory, and none of an adapter's.
    void rest() {
        context_.reset();
        cache_positions_ = CachePositions();
        adapters_ = nullptr;
    }

private:
    [[nodiscard]] Status ensure_context();
    [[nodiscard]] Status check(std::span<std::vector<Token> const> inputs) const;
    [[nodiscard]] Status compute(std::span<std::vector<Token> const> inputs, std::vector<std::vector<float>>& out);

    llama_model& model_;
    ggml_threadpool* pool_;
    EmbedderOptions options_;
    AdapterHandles const* adapters_ = nullptr;  // null: none, and there were none before
    CachePositions cache_positions_;
    ContextPtr context_;
};

}  // namespace hearth::llama
