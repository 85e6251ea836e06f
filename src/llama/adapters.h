// Adapters of a loaded model, and contexts that compute with them.
//
// Upstream keeps an adapter's matrices in memory of their own, with the model; a
// context has one set of them at a time. A change of the set makes it plan its graphs
// anew, which takes milliseconds: who computes with several takes turns.
//
// Threads: those of the contexts. Ownership: the model's, with which they go.
// Private to the module.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "llama/libllama_backend.h"
#include "llama/upstream.h"

namespace hearth::llama {

using AdapterHandles = std::vector<std::pair<llama_adapter_lora*, float>>;  // each once, with its scale

struct LoadedAdapters {
    std::vector<AdapterHandles> sets;        // from set 1
    std::vector<std::string> keys;           // of each: what states computed with it depend on; empty: not known
    std::vector<llama_adapter_lora*> files;  // each once
    std::uint64_t bytes = 0;
};

// Each file is loaded once, however many sets it is in. Errors as load_libllama().
[[nodiscard]] Result<LoadedAdapters> load_adapters(llama_model& model, std::span<AdapterSet const> sets);

void use_adapters(llama_context& context, AdapterHandles const& adapters);

// The tensors of an adapter: what products with it are asked about.
[[nodiscard]] std::vector<ggml_tensor*> matrices_of(llama_adapter_lora const& adapter);

}  // namespace hearth::llama
