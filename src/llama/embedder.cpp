#include "llama/embedder.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "llama/runtime.h"

namespace hearth::llama {

namespace {

constexpr std::uint32_t kInputsPerBatch = 16;

// Owns a llama_batch.
class Batch {
public:
    explicit Batch(std::uint32_t tokens) : batch_(llama_batch_init(static_cast<std::int32_t>(tokens), 0, 1)) {}
    ~Batch() { llama_batch_free(batch_); }
    Batch(Batch const&) = delete;
    Batch& operator=(Batch const&) = delete;

    void add(std::vector<Token> const& tokens, SequenceId sequence) {
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            auto const at = static_cast<std::size_t>(batch_.n_tokens++);
            batch_.token[at] = tokens[i];
            batch_.pos[at] = static_cast<Position>(i);
            batch_.n_seq_id[at] = 1;
            batch_.seq_id[at][0] = sequence;
            batch_.logits[at] = 1;
        }
    }
    [[nodiscard]] llama_batch const& get() const { return batch_; }

private:
    llama_batch batch_;
};

}  // namespace

Status Embedder::ensure_context() {
    if (context_ != nullptr) return ok();
    llama_context_params params = llama_context_default_params();
    // Pooling needs every token of an input in one pass.
    params.n_ctx = options_.input_max;
    params.n_batch = options_.input_max;
    params.n_ubatch = options_.input_max;
    params.n_seq_max = kInputsPerBatch;
    params.n_threads = static_cast<std::int32_t>(options_.threads);
    params.n_threads_batch = params.n_threads;
    params.embeddings = true;
    params.kv_unified = true;
    params.offload_kqv = false;
    params.op_offload = false;
    params.no_perf = true;
    // Without it the scores of a long input are squared in memory.
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_AUTO;

    ErrorCapture capture;
    try {
        context_.reset(llama_init_from_model(&model_, params));
        // A generating model declares no pooling; then the mean.
        if (context_ != nullptr && llama_pooling_type(context_.get()) == LLAMA_POOLING_TYPE_NONE) {
            context_.reset();
            params.pooling_type = LLAMA_POOLING_TYPE_MEAN;
            context_.reset(llama_init_from_model(&model_, params));
        }
    } catch (std::exception const& e) {
        return Error(Code::internal, fmt::format("no context for embeddings: {}", e.what()));
    }
    if (context_ == nullptr) return Error(Code::overloaded, "no context for embeddings: " + capture.text());
    if (llama_pooling_type(context_.get()) == LLAMA_POOLING_TYPE_RANK && !options_.ranks) {
        context_.reset();
        return Error(Code::unsupported, "this model says that it ranks documents, but has no head that does");
    }
    llama_attach_threadpool(context_.get(), pool_, pool_);
    // An encoder has no cache: its cells are its tokens, in order.
    static_cast<void>(cache_positions_.attach(*context_));
    return ok();
}

Status Embedder::check(std::span<std::vector<Token> const> inputs) const {
    auto const vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(&model_));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (inputs[i].empty()) return Error(Code::invalid_argument, fmt::format("input {} has no tokens", i), "input");
        if (inputs[i].size() > options_.input_max)
            return Error(Code::context_overflow,
                         fmt::format("input {} has {} tokens; at most {} can be embedded", i, inputs[i].size(),
                                     options_.input_max),
                         "input");
        for (Token const token : inputs[i])
            if (token < 0 || token >= vocabulary)
                return Error(
                    Code::invalid_argument,
                    fmt::format("input {} contains token {}; the vocabulary ends at {}", i, token, vocabulary - 1),
                    "input");
    }
    return ok();
}

// One pass over inputs that fit a batch.
Status Embedder::compute(std::span<std::vector<Token> const> inputs, std::vector<std::vector<float>>& out) {
    std::size_t tokens = 0;
    for (auto const& input : inputs) tokens += input.size();
    Batch batch(static_cast<std::uint32_t>(tokens));
    for (std::size_t i = 0; i < inputs.size(); ++i) batch.add(inputs[i], static_cast<SequenceId>(i));

    ErrorCapture capture;
    std::int32_t status = 0;
    try {
        status = llama_decode(context_.get(), batch.get());
    } catch (std::exception const& e) {
        return Error(Code::internal, fmt::format("embedding failed: {}", e.what()));
    }
    if (status != 0) return Error(Code::internal, fmt::format("embedding failed ({}): {}", status, capture.text()));
    // The first of a ranking model's labels says how good the document is.
    auto const width = options_.ranks ? 1 : static_cast<std::size_t>(llama_model_n_embd_out(&model_));
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        float const* const row = llama_get_embeddings_seq(context_.get(), static_cast<SequenceId>(i));
        if (row == nullptr) return Error(Code::internal, "the model gave no embedding");
        out.emplace_back(row, row + width);
    }
    return ok();
}

Result<std::vector<std::vector<float>>> Embedder::embed(std::span<std::vector<Token> const> inputs) {
    HEARTH_CHECK(check(inputs));
    std::vector<std::vector<float>> out;
    if (inputs.empty()) return out;
    HEARTH_CHECK(ensure_context());
    if (adapters_ != nullptr) use_adapters(*context_, *adapters_);
    out.reserve(inputs.size());
    while (!inputs.empty()) {
        std::size_t count = 0, tokens = 0;
        while (count < std::min<std::size_t>(inputs.size(), kInputsPerBatch) &&
               tokens + inputs[count].size() <= options_.input_max)
            tokens += inputs[count++].size();
        auto const status = compute(inputs.first(count), out);
        // Also after a failure: the next call starts clean, and idle memory is given back.
        if (auto* const memory = llama_get_memory(context_.get()); memory != nullptr) llama_memory_clear(memory, true);
        HEARTH_CHECK(status);
        inputs = inputs.subspan(count);
    }
    return out;
}

}  // namespace hearth::llama
