#include "models/estimate.h"

#include <algorithm>
#include <string>

namespace hearth::models {
namespace {

constexpr std::uint64_t kHalf = 2;  // bytes of a 16-bit number
constexpr std::uint64_t kFloat = 4;
constexpr std::uint64_t kCellsDefault = 32768;
constexpr std::uint64_t kContextDefault = 8192;
constexpr std::uint64_t kRowsOfLayers = 24;  // as wide as the embedding, alive at once in a step

std::uint64_t of(GgufFile const& model, std::string const& architecture, char const* key, std::uint64_t otherwise) {
    return model.number(architecture + "." + key).value_or(otherwise);
}

// Heads of keys and values over all layers.
std::uint64_t kv_heads(GgufFile const& model, std::string const& architecture, std::uint64_t layers,
                       std::uint64_t heads) {
    auto const* each = model.array(architecture + ".attention.head_count_kv");
    if (each == nullptr) return layers * of(model, architecture, "attention.head_count_kv", heads);
    std::uint64_t sum = 0;
    for (auto const count : each->numbers) sum += static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0));
    return sum;
}

// A flag in files, a number in some.
bool is_causal(GgufFile const& model, std::string const& architecture) {
    auto const found = model.metadata.find(architecture + ".attention.causal");
    if (found == model.metadata.end()) return true;
    if (auto const* flag = std::get_if<bool>(&found->second)) return *flag;
    return of(model, architecture, "attention.causal", 1) != 0;
}

}  // namespace

MemoryNeed estimate_memory(std::vector<GgufFile> const& files, std::uint64_t cells, std::uint64_t batch) {
    MemoryNeed need;
    for (auto const& file : files)
        for (auto const& tensor : file.tensors) need.weights += tensor.bytes;
    auto const& model = files.front();
    auto const architecture = model.text("general.architecture");
    auto const embedding = of(model, architecture, "embedding_length", 1);
    auto const heads = std::max<std::uint64_t>(of(model, architecture, "attention.head_count", 1), 1);
    auto const layers = of(model, architecture, "block_count", 1);
    auto const key = of(model, architecture, "attention.key_length", embedding / heads);
    auto const value = of(model, architecture, "attention.value_length", embedding / heads);
    bool const generates = is_causal(model, architecture);
    if (generates) need.kv = kv_heads(model, architecture, layers, heads) * (key + value) * kHalf * cells;
    auto const* tokens = model.array("tokenizer.ggml.tokens");
    std::uint64_t const vocabulary = tokens != nullptr && generates ? tokens->count : 0;
    need.scratch = batch * kFloat * (vocabulary + kRowsOfLayers * embedding);
    return need;
}

std::uint64_t default_cells(GgufFile const& model, std::uint64_t context_request) {
    auto const trained = of(model, model.text("general.architecture"), "context_length", kContextDefault);
    auto const context = context_request != 0 ? context_request : std::min(trained, kContextDefault);
    return std::max(context, kCellsDefault);
}

}  // namespace hearth::models
