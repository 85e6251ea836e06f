// ModelInfo: what a loaded model is and can do. Filled by the worker once it
// is ready; a plain value.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hearth::domain {

// Whether what a sequence gets depends on what else is computed.
enum class Determinism : std::uint8_t {
    no = 0,          // it does
    on_request = 1,  // not that of a request that asks for it: it is computed alone, in steps of fixed shapes
    always = 2,      // no sequence's does
};

[[nodiscard]] constexpr std::string_view to_string(Determinism determinism) noexcept {
    switch (determinism) {
        case Determinism::no: return "no";
        case Determinism::on_request: return "on_request";
        case Determinism::always: return "always";
    }
    return "unknown";
}

struct ModelInfo {
    std::string architecture;   // GGUF general.architecture
    std::string name;           // GGUF general.name
    std::string quantization;   // e.g. "Q4_1"
    std::string cpu_variant;    // kernels chosen on this machine, e.g. "avx512-vnni"
    std::string isolation;      // the sandbox in force, in words; says so when a part is missing
    std::uint64_t parameters = 0;
    std::uint64_t file_bytes = 0;
    std::uint32_t vocabulary = 0;
    std::uint32_t embedding = 0;
    std::uint32_t context_train = 0;   // tokens the model was trained on
    std::uint32_t context_request = 0; // tokens one request may use, prompt + output
    std::uint32_t kv_cells = 0;        // tokens all running requests may use together
    std::uint32_t sequences_max = 0;   // sequences that run at once
    std::uint32_t threads = 0;         // compute threads
    std::uint64_t memory_bytes = 0;    // what the engine reserved: weights + KV + scratch
    std::uint64_t kv_bytes = 0;        // of that, the KV cache, which costs nothing until it is touched
    std::uint64_t resident_bytes = 0;  // of the worker when it was ready; 0: not known
    std::uint64_t shared_bytes = 0;  // of memory_bytes, weights that are pages of the file: all its workers share them
    bool chat_template = false;  // the file carries one
    bool generates = true;  // else it computes embeddings only
    bool infills = false;  // its vocabulary has the tokens for filling in the middle
    bool embeds = false;  // made for embeddings: the file says how tokens are pooled
    bool ranks = false;  // it ranks documents, and has no vectors to give
    std::uint32_t embed_tokens_max = 0;  // of one input to embed; any model can embed, if not well
    Determinism determinism = Determinism::no;
    bool operator==(ModelInfo const&) const = default;
};

// Gauges a worker reports; monotonic counters are named _total.
struct EngineStats {
    std::uint32_t running = 0;  // sequences in the batch
    std::uint32_t waiting = 0;  // requests without a sequence
    std::uint32_t kv_used = 0;  // cells
    std::uint32_t kv_cached = 0;  // of those, cells no request uses: prefixes kept for later ones
    std::uint32_t kv_cells = 0;
    std::uint64_t steps_total = 0;
    std::uint64_t prompt_tokens_total = 0;
    std::uint64_t generated_tokens_total = 0;
    std::uint64_t preemptions_total = 0;
    std::uint64_t drafted_total = 0;  // tokens guessed ahead
    std::uint64_t accepted_total = 0;  // of those, what came true
    std::uint64_t model_drafted_total = 0;  // of those guessed, by a draft model
    std::uint64_t model_accepted_total = 0;  // and of those, what came true
    std::uint64_t draft_us_total = 0;  // time the draft model took
    std::uint64_t tier_memory_bytes = 0;  // prefixes in host memory
    std::uint64_t tier_disk_bytes = 0;  // and on disk
    std::uint64_t tier_memory_tokens_total = 0;  // prompt tokens that came back from there instead of being computed
    std::uint64_t tier_disk_tokens_total = 0;
    std::uint64_t tier_written_bytes_total = 0;  // to disk
    std::uint64_t tier_errors_total = 0;  // files that were bad, operations that failed
    std::uint64_t rss_bytes = 0;
    std::uint64_t cpu_ms_total = 0;
    std::uint32_t swapped = 0;  // sequences in host memory
    std::uint32_t prefix_nodes = 0;
    std::uint64_t evictions_total = 0;  // prefixes forgotten to make room
    std::uint64_t step_us_total = 0;  // time spent decoding batches
    std::uint64_t interruptions_total = 0;  // steps given up for a request of a better class
    std::uint64_t shifts_total = 0;  // contexts that were full and made room for more of an output,
    std::uint64_t shifted_tokens_total = 0;  // and the tokens dropped for it
    bool operator==(EngineStats const&) const = default;
};

}  // namespace hearth::domain
