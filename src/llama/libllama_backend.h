// The real Backend: one GGUF model on libllama and ggml.
//
// The CPU kernels are chosen at run time among the variants compiled into the
// binary (cpu_variants.h). KV and scratch memory are reserved, not touched: a
// page costs memory only once a token uses it.
//
// Threads: as Backend. Several backends may exist in one process; upstream's
// log callback is global and goes to the sink given to the first.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "llama/backend.h"

namespace hearth::llama {

// Automatic: wherever the model's shape and its device allow it, as upstream's
// server does; on a CPU it is faster and needs no memory for the score matrix.
enum class FlashAttention : std::uint8_t { automatic, on, off };

// A LoRA adapter, already validated by models::; a GGUF file.
struct AdapterFile {
    std::string path;
    float scale = 1;
};
using AdapterSet = std::vector<AdapterFile>;

struct LoadOptions {
    std::string path;                    // the GGUF file, already validated by models::; first split of several
    std::uint32_t context_request = 0;   // longest sequence; 0: min(trained context, 8192, kv_cells if given)
    std::uint32_t context_default = 0;   // in place of the 8192, if not 0
    std::uint32_t kv_cells = 0;          // 0: max(context_request, 32768), less when memory is short
    std::uint32_t sequences_max = 16;    // that run; 1 .. 256
    std::uint32_t sequences_kept =
        64;   // ids beyond those, for prefixes that wait to be used again; together at most 256
    std::uint32_t batch_max = 512;       // tokens per decode
    std::uint32_t threads = 0;           // 0: `cores`, or 1 for a tiny model; see compute_threads.h
    std::uint32_t cores = 0;             // 0: usable_cores(), which must be asked before a sandbox hides the quota
    std::string chat_template;           // Jinja, in place of the file's; empty: the file's
    std::string cpu_variant;             // empty: the best this machine runs; see cpu_variants.h
    FlashAttention flash_attention = FlashAttention::automatic;
    bool deterministic = false;  // no product's bits depend on what else is computed, at the price of upstream's
        // kernels for many columns; info.determinism says what came of it
    bool names_states = true;  // state_key() is wanted, for which the files are read whole
    std::vector<AdapterSet> adapters{};  // what Backend::use_adapters() knows, from set 1
    std::function<void(float)> progress;  // 0..1, on the calling thread
    std::function<void(int level, std::string_view text)>
        log;  // upstream's log, a line per call; level 0 debug .. 3 error;
    // from any thread that uses a backend, one at a time
};

// Fails with `not_found`, `corrupt`, `unsupported` (architecture, tokenizer),
// `invalid_argument` (an option, which `param` names), `io`, `overloaded` (memory).
[[nodiscard]] Result<std::unique_ptr<Backend>> load_libllama(LoadOptions const& options);

// Version of the llama.cpp linked in, e.g. "0.5.0".
[[nodiscard]] std::string upstream_version();

}  // namespace hearth::llama
