#include "models/estimate.h"

#include <algorithm>
#include <string>

namespace hearth::models {
namespace {

constexpr std::uint64_t kHalf = 2;  // bytes of a 16-bit number
constexpr std::uint64_t kFloat = 4;
constexpr std::uint64_t kCellsDefault = 32768;
constexpr std::uint64_t kContextDefault = 8192;
constexpr std::uint64_t kCellGranule = 256;  // the engine rounds cells up to it
// Rows alive at once in a step: as wide as the embedding, and as the feed-forward layers.
constexpr std::uint64_t kRowsOfLayers = 4;
constexpr std::uint64_t kRowsOfFeedForward = 2;
constexpr std::uint64_t kWider = 4;  // feed-forward layers than the embedding, where the file does not say
constexpr std::uint64_t kScoreBytes = 20;  // of a token of the vocabulary: scores, and what a sampler sorts
// Of a cell, for each token of a chunk: the mask, and a copy of it where a window cuts it.
constexpr std::uint64_t kMaskBytes = 4;
constexpr std::uint64_t kWindowMaskBytes = 6;
// Code and data of a worker without a model, and small buffers. It grows with the
// program: tests/integration/test_memory.py tells.
constexpr std::uint64_t kProgram = 17ULL << 20;
constexpr std::uint64_t kTokenBytes = 230;  // of a token with a vocabulary of merges
constexpr std::uint64_t kMergeBytes = 118;
constexpr std::uint64_t kPlainTokenBytes = 350;  // with any other

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

constexpr char const* kTokens = "tokenizer.ggml.tokens";

std::uint64_t count_of(GgufFile const& model, char const* key) {
    auto const* array = model.array(key);
    return array == nullptr ? 0 : array->count;
}

std::uint64_t process_bytes(GgufFile const& model) {
    auto const tokens = count_of(model, kTokens);
    auto const merges = count_of(model, "tokenizer.ggml.merges");
    return kProgram + (merges == 0 ? tokens * kPlainTokenBytes : tokens * kTokenBytes + merges * kMergeBytes);
}

// The widest layer, where they differ.
std::uint64_t feed_forward(GgufFile const& model, std::string const& architecture, std::uint64_t embedding) {
    auto const* each = model.array(architecture + ".feed_forward_length");
    if (each == nullptr) return of(model, architecture, "feed_forward_length", kWider * embedding);
    std::int64_t widest = 0;
    for (auto const length : each->numbers) widest = std::max(widest, length);
    return static_cast<std::uint64_t>(widest);
}

// Tokens of a prompt that the engine computes at once, more for small models
// (engine::prompt_chunk(), with four threads).
std::uint64_t chunk_of(std::vector<GgufFile> const& files) {
    constexpr double kOperations = 160e9;
    double parameters = 1;
    for (auto const& file : files) {
        for (auto const& tensor : file.tensors) {
            double elements = 1;
            for (auto const size : tensor.dimensions) elements *= static_cast<double>(size);
            parameters += elements;
        }
    }
    std::uint64_t chunk = 32;
    while (chunk < kBatchDefault && 2 * static_cast<double>(chunk) <= kOperations / (2 * parameters)) chunk *= 2;
    return chunk;
}

// Tokens of one request when nobody says how many.
std::uint64_t context_of(GgufFile const& model, std::uint64_t context_request) {
    auto const trained = of(model, model.text("general.architecture"), "context_length", kContextDefault);
    return context_request != 0 ? context_request : std::min(trained, kContextDefault);
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
    need.process = process_bytes(model);
    auto const tokens = std::min(batch, std::max<std::uint64_t>(cells, 1));
    auto const rows = kRowsOfLayers * embedding + kRowsOfFeedForward * feed_forward(model, architecture, embedding);
    need.scratch = tokens * kFloat * rows;
    if (!generates) {
        need.scratch = need.scratch * 2 / 3;  // layer by layer, and nothing is sampled
        return need;
    }
    auto const mask = of(model, architecture, "attention.sliding_window", 0) != 0 ? kWindowMaskBytes : kMaskBytes;
    need.scratch += kScoreBytes * count_of(model, kTokens) + mask * std::min(batch, chunk_of(files)) * cells;
    return need;
}

std::uint64_t default_cells(GgufFile const& model, std::uint64_t context_request) {
    return std::max(context_of(model, context_request), kCellsDefault);
}

std::uint64_t cells_within(std::vector<GgufFile> const& files, std::uint64_t context_request, std::uint64_t batch,
                           std::uint64_t budget) {
    auto const fits = [&](std::uint64_t cells) { return estimate_memory(files, cells, batch).total() <= budget; };
    auto const most = default_cells(files.front(), context_request);
    if (fits(most)) return most;
    auto const least = context_of(files.front(), context_request);
    auto low = least / kCellGranule;  // granules; whatever they take
    auto high = most / kCellGranule + 1;
    while (high - low > 1) {
        auto const middle = low + (high - low) / 2;
        (fits(middle * kCellGranule) ? low : high) = middle;
    }
    return std::max(low * kCellGranule, least);
}

}  // namespace hearth::models
