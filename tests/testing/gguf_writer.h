// GgufWriter: GGUF files in memory for tests, right by default and wrong on
// purpose where a test says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "models/ggml_types.h"
#include "models/gguf.h"

namespace hearth::models::testing {

class GgufWriter {
public:
    struct Tensor {
        std::string name;
        std::vector<std::uint64_t> dimensions;
        std::uint32_t type = 0;
        std::uint64_t offset = kPlaced;  // kPlaced: behind the one before
    };
    static constexpr std::uint64_t kPlaced = ~std::uint64_t{0};

    // What the fixed header says; kTrue means the truth.
    static constexpr std::uint64_t kTrue = ~std::uint64_t{0};
    std::string magic = "GGUF";
    std::uint32_t version = 3;
    std::uint64_t tensor_count = kTrue;
    std::uint64_t pair_count = kTrue;
    std::uint64_t alignment = 32;  // used for the layout; add the key yourself
    bool with_data = true;

    static void put_string(ByteWriter& out, std::string_view text) {
        out.write(std::uint64_t{text.size()});
        append(out, text);
    }

    // A whole value, its type included.
    GgufWriter& raw(std::string key, GgufType type, std::string value) {
        ByteWriter out;
        out.write(static_cast<std::uint32_t>(type));
        append(out, value);
        return set(std::move(key), std::move(out).take());
    }
    template <typename T>
    GgufWriter& scalar(std::string key, GgufType type, T value) {
        ByteWriter out;
        out.write(value);
        return raw(std::move(key), type, std::move(out).take());
    }
    GgufWriter& u16(std::string key, std::uint16_t v) { return scalar(std::move(key), GgufType::u16, v); }
    GgufWriter& u32(std::string key, std::uint32_t v) { return scalar(std::move(key), GgufType::u32, v); }
    GgufWriter& i32(std::string key, std::int32_t v) { return scalar(std::move(key), GgufType::i32, v); }
    GgufWriter& f32(std::string key, float v) { return scalar(std::move(key), GgufType::f32, v); }
    GgufWriter& boolean(std::string key, bool v) {
        return scalar(std::move(key), GgufType::boolean, static_cast<std::uint8_t>(v));
    }
    GgufWriter& text(std::string key, std::string_view v) {
        ByteWriter out;
        put_string(out, v);
        return raw(std::move(key), GgufType::string, std::move(out).take());
    }
    GgufWriter& texts(std::string key, std::vector<std::string> const& values) {
        ByteWriter out;
        out.write(static_cast<std::uint32_t>(GgufType::string));
        out.write(std::uint64_t{values.size()});
        for (auto const& v : values) put_string(out, v);
        return raw(std::move(key), GgufType::array, std::move(out).take());
    }
    template <typename T>
    GgufWriter& array(std::string key, GgufType element, std::vector<T> const& values) {
        ByteWriter out;
        out.write(static_cast<std::uint32_t>(element));
        out.write(std::uint64_t{values.size()});
        for (auto const v : values) out.write(v);
        return raw(std::move(key), GgufType::array, std::move(out).take());
    }
    GgufWriter& remove(std::string_view key) {
        std::erase_if(pairs_, [&](auto const& pair) { return pair.first == key; });
        return *this;
    }
    // Adds a second pair of the same key.
    GgufWriter& repeat(std::string key) {
        for (auto const& [name, value] : pairs_) {
            if (name == key) return pairs_.emplace_back(std::move(key), value), *this;
        }
        return *this;
    }
    GgufWriter& tensor(std::string name, std::vector<std::uint64_t> dimensions, std::uint32_t type = 0,
                       std::uint64_t offset = kPlaced) {
        tensors_.push_back({std::move(name), std::move(dimensions), type, offset});
        return *this;
    }
    [[nodiscard]] std::vector<Tensor>& tensors() { return tensors_; }

    [[nodiscard]] std::string build() const {
        ByteWriter out;
        append(out, magic);
        out.write(version);
        out.write(tensor_count == kTrue ? std::uint64_t{tensors_.size()} : tensor_count);
        out.write(pair_count == kTrue ? std::uint64_t{pairs_.size()} : pair_count);
        for (auto const& [key, value] : pairs_) {
            put_string(out, key);
            append(out, value);
        }
        std::uint64_t data = 0;
        for (auto const& tensor : tensors_) {
            put_string(out, tensor.name);
            out.write(static_cast<std::uint32_t>(tensor.dimensions.size()));
            for (auto const dimension : tensor.dimensions) out.write(dimension);
            out.write(tensor.type);
            out.write(tensor.offset == kPlaced ? data : tensor.offset);
            data += padded(bytes_of(tensor));
        }
        auto bytes = std::move(out).take();
        if (!tensors_.empty()) bytes.resize(padded(bytes.size()));
        if (with_data) bytes.resize(bytes.size() + data);
        return bytes;
    }

private:
    static void append(ByteWriter& out, std::string_view bytes) {
        for (char const c : bytes) out.write(c);
    }
    GgufWriter& set(std::string key, std::string value) {
        for (auto& pair : pairs_) {
            if (pair.first == key) return pair.second = std::move(value), *this;
        }
        pairs_.emplace_back(std::move(key), std::move(value));
        return *this;
    }
    [[nodiscard]] std::uint64_t padded(std::uint64_t bytes) const {
        return (bytes + alignment - 1) / alignment * alignment;
    }
    // Tensors that are wrong or beyond a million elements take no data.
    [[nodiscard]] static std::uint64_t bytes_of(Tensor const& tensor) {
        auto const type = ggml_type(tensor.type);
        std::uint64_t elements = tensor.dimensions.empty() ? 0 : 1;
        for (auto const dimension : tensor.dimensions) {
            if (dimension == 0 || elements > (1U << 20) / dimension) return 0;
            elements *= dimension;
        }
        return type.block_elements == 0 ? 0 : elements / type.block_elements * type.block_bytes;
    }

    std::vector<std::pair<std::string, std::string>> pairs_;  // key, type and value
    std::vector<Tensor> tensors_;
};

// The texts of a SentencePiece-like vocabulary: unknown, begin, end, every byte, then `words`.
inline std::vector<std::string> byte_vocabulary(std::vector<std::string> const& words = {}) {
    std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
    for (int byte = 0; byte < 256; ++byte) {
        constexpr std::string_view kDigits = "0123456789ABCDEF";
        tokens.push_back(std::string("<0x") + kDigits[static_cast<std::size_t>(byte / 16)] +
                         kDigits[static_cast<std::size_t>(byte % 16)] + ">");
    }
    tokens.insert(tokens.end(), words.begin(), words.end());
    return tokens;
}

// A complete llama model of a few thousand weights, all of them zero: it
// validates, and the engine loads it.
inline GgufWriter tiny_llama(std::uint32_t matrix_type = 0, std::uint32_t width = 32) {
    auto const tokens = byte_vocabulary({"\xe2\x96\x81", "a", "b", "ab",
                                         "\xe2\x96\x81"
                                         "ab"});
    std::vector<float> const scores(tokens.size(), 0.0F);
    std::vector<std::int32_t> types(tokens.size(), 1);
    for (std::size_t i = 0; i < types.size(); ++i) types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
    GgufWriter w;
    w.text("general.architecture", "llama").text("general.name", "tiny");
    w.u32("llama.context_length", 64).u32("llama.embedding_length", width).u32("llama.block_count", 1);
    w.u32("llama.feed_forward_length", width * 2)
        .u32("llama.attention.head_count", 4)
        .u32("llama.attention.head_count_kv", 2);
    w.u32("llama.rope.dimension_count", width / 4).f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
    w.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", tokens);
    w.array("tokenizer.ggml.scores", GgufType::f32, scores).array("tokenizer.ggml.token_type", GgufType::i32, types);
    w.u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.unknown_token_id", 0);
    w.text("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}");
    std::uint64_t const n = width;
    w.tensor("token_embd.weight", {n, tokens.size()}, matrix_type).tensor("output_norm.weight", {n});
    w.tensor("blk.0.attn_norm.weight", {n}).tensor("blk.0.ffn_norm.weight", {n});
    w.tensor("blk.0.attn_q.weight", {n, n}, matrix_type).tensor("blk.0.attn_k.weight", {n, n / 2}, matrix_type);
    w.tensor("blk.0.attn_v.weight", {n, n / 2}, matrix_type).tensor("blk.0.attn_output.weight", {n, n}, matrix_type);
    w.tensor("blk.0.ffn_gate.weight", {n, 2 * n}, matrix_type).tensor("blk.0.ffn_up.weight", {n, 2 * n}, matrix_type);
    w.tensor("blk.0.ffn_down.weight", {2 * n, n}, matrix_type);
    return w;
}

// A LoRA adapter of rank 4 for it, of zeros: it changes two matrices of its one layer.
inline GgufWriter tiny_adapter(std::uint64_t width = 32, std::uint64_t rank = 4) {
    GgufWriter w;
    w.text("general.architecture", "llama").text("general.type", "adapter").text("adapter.type", "lora");
    w.f32("adapter.lora.alpha", 8);
    w.tensor("blk.0.attn_q.weight.lora_a", {width, rank}).tensor("blk.0.attn_q.weight.lora_b", {rank, width});
    w.tensor("blk.0.ffn_down.weight.lora_a", {2 * width, rank}).tensor("blk.0.ffn_down.weight.lora_b", {rank, width});
    return w;
}

inline Result<GgufFile> parse(std::string_view bytes, std::string path = "test.gguf") {
    return parse_gguf(std::as_bytes(std::span(bytes)), bytes.size(), std::move(path));
}

// A folder that goes with the test.
class ScratchFolder {
public:
    ScratchFolder() {
        auto pattern = (std::filesystem::temp_directory_path() / "hearth-models-XXXXXX").string();
        if (::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
    }
    ScratchFolder(ScratchFolder const&) = delete;
    ScratchFolder& operator=(ScratchFolder const&) = delete;
    ~ScratchFolder() {
        std::error_code ignored;
        if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] std::string path() const { return path_.string(); }
    [[nodiscard]] std::string write(std::string_view name, std::string_view bytes) const {
        auto const file = path_ / name;
        std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        return file.string();
    }

private:
    std::filesystem::path path_;
};

}  // namespace hearth::models::testing
