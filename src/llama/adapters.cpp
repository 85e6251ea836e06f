#include "llama/adapters.h"

#include <fmt/format.h>
#include <ggml.h>
#include <llama-adapter.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "llama/content_hash.h"
#include "llama/runtime.h"

namespace hearth::llama {

namespace {

Result<llama_adapter_lora*> load_one(llama_model& model, std::string const& path) {
    ErrorCapture const capture;
    auto* const adapter = llama_adapter_lora_init(&model, path.c_str());
    if (adapter != nullptr) return adapter;
    return Error(Code::corrupt, fmt::format("cannot load the adapter {}: {}", path, capture.text()), "adapters");
}

// Which adapters of which scale: in any order, the same file once.
std::string key_of(AdapterSet const& set) {
    std::vector<std::string> parts;
    for (auto const& [path, scale] : set) {
        auto const hash = hash_file(path);
        if (!hash) return {};
        parts.push_back(fmt::format("{}*{}", *hash, scale));
    }
    std::ranges::sort(parts);
    std::string out = "lora";
    for (auto const& part : parts) out += " " + part;
    return out;
}

}  // namespace

Result<LoadedAdapters> load_adapters(llama_model& model, std::span<AdapterSet const> sets) {
    LoadedAdapters out;
    std::map<std::string, llama_adapter_lora*> loaded;
    for (auto const& set : sets) {
        AdapterHandles handles;
        for (auto const& [path, scale] : set) {
            if (!std::isfinite(scale))
                return Error(Code::invalid_argument, fmt::format("the scale of {} is no number", path), "adapters");
            auto& adapter = loaded[path];
            if (adapter == nullptr) {
                HEARTH_TRY(adapter, load_one(model, path));
                out.files.push_back(adapter);
            }
            // Upstream would take the first of two.
            auto const same = std::ranges::find(handles, adapter, &AdapterHandles::value_type::first);
            if (same == handles.end()) handles.emplace_back(adapter, scale);
            else same->second += scale;
        }
        out.sets.push_back(std::move(handles));
        out.keys.push_back(key_of(set));
    }
    for (auto const* const adapter : out.files)
        for (auto const* const matrix : matrices_of(*adapter)) out.bytes += ggml_nbytes(matrix);
    return out;
}

void use_adapters(llama_context& context, AdapterHandles const& adapters) {
    std::vector<llama_adapter_lora*> handles;
    std::vector<float> scales;
    for (auto const& [handle, scale] : adapters) {
        handles.push_back(handle);
        scales.push_back(scale);
    }
    llama_set_adapters_lora(&context, handles.data(), handles.size(), scales.data());
}

std::vector<ggml_tensor*> matrices_of(llama_adapter_lora const& adapter) {
    std::vector<ggml_tensor*> out;
    for (auto const& [name, pair] : adapter.ab_map) {
        out.push_back(pair.a);
        out.push_back(pair.b);
    }
    return out;
}

}  // namespace hearth::llama
