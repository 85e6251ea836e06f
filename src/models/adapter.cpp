#include "models/adapter.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "models/ggml_types.h"
#include "models/gguf_header.h"

namespace hearth::models {
namespace {

constexpr std::string_view kTypeKey = "general.type";
constexpr std::string_view kAdapter = "adapter";
constexpr std::string_view kSuffixA = ".lora_a";
constexpr std::string_view kSuffixB = ".lora_b";
constexpr std::string_view kEmbedding = "token_embd.weight";
constexpr std::uint64_t kArchitectureBytesMax = 64;

// What upstream multiplies by way of build_lora_mm() in every architecture but those below.
// Changes to others it would leave out without a word.
constexpr std::array<std::string_view, 22> kApplied = {
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_qkv",
    "attn_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
    "ffn_up_shexp",
    "ffn_gate_shexp",
    "ffn_down_shexp",
    "shortconv.in_proj",
    "shortconv.out_proj",
    "ssm_in",
    "ssm_out",
    "ssm_x",
    "ssm_dt",
    "output",
};

// Those whose graphs multiply by some matrices of kApplied directly, past the adapters: of
// src/models of llama.cpp as pinned, `ggml_mul_mat(ctx0, layer.wq` and the like.
constexpr std::array<std::string_view, 12> kBypassing = {
    "bailingmoe3", "deepseek2",     "deepseek32", "deepseek4", "dots3note",   "glm-dsa",
    "glm5-next",   "graniteswitch", "hy_v4",      "kimi-k3",   "kimi-linear", "plm",
};

// A and B of one matrix; null: it is not there.
struct Pair {
    GgufTensor const* a = nullptr;
    GgufTensor const* b = nullptr;
};
using Pairs = std::map<std::string_view, Pair>;

Error unsupported(GgufFile const& file, std::string_view what) {
    return {Code::unsupported, fmt::format("{}: {}", file.path, what), file.path};
}

std::uint64_t dimension(GgufTensor const& tensor, std::size_t at) {
    return at < tensor.dimensions.size() ? tensor.dimensions[at] : 1;
}

std::string shape_of(GgufTensor const& tensor) {
    std::string out;
    for (auto const each : tensor.dimensions) out += fmt::format("{}{}", out.empty() ? "" : " x ", each);
    return out;
}

// Norms are left out by upstream: most adapters work without.
bool is_norm(GgufTensor const& tensor) { return tensor.name.ends_with("_norm.weight"); }

Pairs pairs_of(GgufFile const& file) {
    Pairs out;
    for (auto const& tensor : file.tensors) {
        std::string_view const name = tensor.name;
        if (name.ends_with(kSuffixA)) out[name.substr(0, name.size() - kSuffixA.size())].a = &tensor;
        if (name.ends_with(kSuffixB)) out[name.substr(0, name.size() - kSuffixB.size())].b = &tensor;
    }
    return out;
}

Status check_kind(GgufHeader const& header) {
    auto const& file = header.file;
    auto const text_of = [&](std::string_view key) -> Result<std::string> {
        auto const place = header.places.find(key);
        if (place == header.places.end()) return corrupt_at(file.path, 0, fmt::format("{} is missing", key));
        if (place->second.type != GgufType::string)
            return corrupt_at(file.path, place->second.offset,
                              fmt::format("{} has type {}; it must be string", key, to_string(place->second.type)));
        return file.text(key);
    };
    HEARTH_TRY(auto const architecture, text_of("general.architecture"));
    if (architecture.empty() || architecture.size() > kArchitectureBytesMax)
        return corrupt_at(file.path, 0,
                          fmt::format("general.architecture has {} bytes; 1 to {} are allowed", architecture.size(),
                                      kArchitectureBytesMax));
    HEARTH_TRY(auto const type, text_of("adapter.type"));
    if (type != "lora") return unsupported(file, fmt::format("adapter.type is {}; only lora is served", quoted(type)));
    if (header.places.contains("adapter.alora.invocation_tokens"))
        return unsupported(file,
                           "it is an activated LoRA, which works behind certain tokens only; these are not served");
    if (file.number("split.count").value_or(1) > 1)
        return unsupported(file, "it is one of several splits; an adapter is one file");
    auto const alpha = header.places.find("adapter.lora.alpha");
    if (alpha != header.places.end() && alpha->second.type != GgufType::f32)
        return corrupt_at(file.path, alpha->second.offset,
                          fmt::format("adapter.lora.alpha has type {}; it must be f32", to_string(alpha->second.type)));
    if (alpha == header.places.end()) return ok();
    auto const value = std::get<double>(file.metadata.find("adapter.lora.alpha")->second);
    constexpr double kAlphaMax = 1e6;
    if (value >= 0 && value <= kAlphaMax) return ok();  // false for NaN
    return corrupt_at(file.path, alpha->second.offset,
                      fmt::format("adapter.lora.alpha is {}; 0 to {} are allowed", value, kAlphaMax));
}

// The engine multiplies by both; for these types it has no product.
Status check_type(GgufFile const& file, GgufTensor const& tensor) {
    constexpr std::array<std::string_view, 7> kNoProduct = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"};
    auto const type = ggml_type_name(tensor.type);
    if (std::ranges::find(kNoProduct, type) == kNoProduct.end()) return ok();
    return corrupt_at(
        file.path, file.data_offset + tensor.offset,
        fmt::format("tensor {} has type {}; the engine cannot compute with it", quoted(tensor.name), type));
}

Status check_pair(GgufFile const& file, std::string_view name, Pair const& pair) {
    auto const& one = pair.a != nullptr ? *pair.a : *pair.b;
    auto const refuse = [&](std::string_view why) {
        return corrupt_at(file.path, file.data_offset + one.offset,
                          fmt::format("the change of {} {}", quoted(name), why));
    };
    if (pair.a == nullptr || pair.b == nullptr)
        return refuse(fmt::format("has {}, but no {}", pair.a != nullptr ? "A" : "B", pair.a != nullptr ? "B" : "A"));
    HEARTH_CHECK(check_type(file, *pair.a));
    HEARTH_CHECK(check_type(file, *pair.b));
    for (auto const* const each : {pair.a, pair.b})
        if (each->dimensions.size() > 3) return refuse(fmt::format("has a matrix of shape {}", shape_of(*each)));
    bool const flipped = name == kEmbedding;
    auto const rank = dimension(*pair.b, 0);
    if (rank > kAdapterRankMax) return refuse(fmt::format("has rank {}; at most {} is allowed", rank, kAdapterRankMax));
    if (dimension(*pair.a, flipped ? 0 : 1) != rank)
        return refuse(fmt::format("does not fit together: A is {}, B is {}", shape_of(*pair.a), shape_of(*pair.b)));
    if (dimension(*pair.a, 2) != dimension(*pair.b, 2))
        return refuse(fmt::format("is of {} matrices in A and {} in B", dimension(*pair.a, 2), dimension(*pair.b, 2)));
    return ok();
}

bool is_applied(std::string_view name) {
    if (name == kEmbedding || name == "output.weight") return true;
    constexpr std::string_view kBlock = "blk.", kWeight = ".weight";
    if (!name.starts_with(kBlock) || !name.ends_with(kWeight)) return false;
    name.remove_suffix(kWeight.size());
    auto const dot = name.find('.', kBlock.size());
    return dot != std::string_view::npos && std::ranges::find(kApplied, name.substr(dot + 1)) != kApplied.end();
}

// `base`: null if the base has no such matrix.
Status check_change(GgufFile const& file, std::string_view name, Pair const& pair, GgufTensor const* base) {
    auto const wrong = [&](std::string const& why) {
        return Error(Code::invalid_argument, fmt::format("{}: {}; is it the adapter of another model?", file.path, why),
                     file.path);
    };
    if (base == nullptr) return wrong(fmt::format("it changes {}, which the base does not have", quoted(name)));
    if (!is_applied(name))
        return unsupported(file, fmt::format("it changes {}, which the engine would not do", quoted(name)));
    bool const flipped = name == kEmbedding;
    auto const in = flipped ? dimension(*pair.b, 1) : dimension(*pair.a, 0);
    auto const out = flipped ? dimension(*pair.a, 1) : dimension(*pair.b, 1);
    bool const fits =
        in == dimension(*base, 0) && out == dimension(*base, 1) && dimension(*pair.a, 2) == dimension(*base, 2);
    if (fits && base->dimensions.size() >= 2) return ok();
    return wrong(fmt::format("its change of {} is of a matrix of {} x {} x {}, the base's is {}", quoted(name), in, out,
                             dimension(*pair.a, 2), shape_of(*base)));
}

}  // namespace

bool is_adapter(GgufFile const& file) { return file.text(kTypeKey) == kAdapter; }

Status check_adapter_header(GgufHeader& header) {
    auto& file = header.file;
    HEARTH_CHECK(check_kind(header));
    for (auto const& tensor : file.tensors) {
        std::string_view const name = tensor.name;
        if (name.ends_with(kSuffixA) || name.ends_with(kSuffixB)) continue;
        if (!is_norm(tensor))
            return corrupt_at(file.path, file.data_offset + tensor.offset,
                              fmt::format("tensor {} is neither A nor B of a change", quoted(name)));
        file.warnings.push_back(fmt::format("the change of {} is left out: the engine changes no norms", quoted(name)));
    }
    auto const pairs = pairs_of(file);
    if (pairs.empty()) return corrupt_at(file.path, file.data_offset, "the adapter changes nothing");
    for (auto const& [name, pair] : pairs) HEARTH_CHECK(check_pair(file, name, pair));
    if (auto const bytes = adapter_bytes(file); bytes > kAdapterBytesMax)
        return Error(
            Code::too_large,
            fmt::format("{}: {} bytes of matrices; at most {} are allowed", file.path, bytes, kAdapterBytesMax),
            file.path);
    return ok();
}

Result<GgufFile> read_adapter(std::string const& path) {
    HEARTH_TRY(auto file, read_gguf(path));
    if (!is_adapter(file)) return unsupported(file, "it is a model, not an adapter");
    return file;
}

Status check_adapter(GgufFile const& adapter, std::vector<GgufFile> const& base) {
    auto const own = adapter.text("general.architecture");
    auto const theirs = base.front().text("general.architecture");
    if (own != theirs)
        return Error(Code::invalid_argument,
                     fmt::format("{}: it is an adapter of a model of architecture {}, the base is {}", adapter.path,
                                 quoted(own), quoted(theirs)),
                     adapter.path);
    if (std::ranges::find(kBypassing, own) != kBypassing.end())
        return unsupported(
            adapter,
            fmt::format("adapters of architecture {} are not served: the engine would leave out parts of them", own));
    std::map<std::string_view, GgufTensor const*> matrices;
    for (auto const& file : base)
        for (auto const& tensor : file.tensors) matrices[tensor.name] = &tensor;
    for (auto const& [name, pair] : pairs_of(adapter)) {
        auto const found = matrices.find(name);
        HEARTH_CHECK(check_change(adapter, name, pair, found == matrices.end() ? nullptr : found->second));
        // The matrix is the output's too then, and upstream would multiply by A and B the wrong way round.
        if (name == kEmbedding && !matrices.contains("output.weight"))
            return unsupported(adapter, "it changes the embeddings of a model whose output is tied to them");
    }
    return ok();
}

std::uint64_t adapter_bytes(GgufFile const& adapter) {
    std::uint64_t bytes = 0;
    for (auto const& tensor : adapter.tensors) bytes += is_norm(tensor) ? 0 : tensor.bytes;
    return bytes;
}

}  // namespace hearth::models
