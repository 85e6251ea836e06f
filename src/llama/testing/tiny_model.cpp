#include "llama/testing/tiny_model.h"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>
#include <llama.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <stdexcept>
#include <vector>

namespace hearth::llama::testing {

namespace {

constexpr std::uint32_t kLayers = 2;
constexpr std::uint32_t kHeads = 2;
constexpr std::uint32_t kFeedForward = 96;
constexpr std::uint32_t kVocabulary = 320;  // 3 special, 256 bytes, some words, a user-defined token

class Writer {
public:
    Writer(std::string architecture, std::uint32_t seed, TinyWeights weights)
        : architecture_(std::move(architecture)), random_(seed), type_(type_of(weights)) {
        ggml_init_params params{};
        params.mem_size = 32U << 20;
        context_ = ggml_init(params);
        gguf_ = gguf_init_empty();
    }
    ~Writer() {
        gguf_free(gguf_);
        ggml_free(context_);
    }
    Writer(Writer const&) = delete;
    Writer& operator=(Writer const&) = delete;

    gguf_context* file() { return gguf_; }
    void number(char const* key, std::uint32_t value) { gguf_set_val_u32(gguf_, full(key).c_str(), value); }
    void real(char const* key, float value) { gguf_set_val_f32(gguf_, full(key).c_str(), value); }
    void numbers(char const* key, std::vector<std::uint32_t> const& values) {
        gguf_set_arr_data(gguf_, full(key).c_str(), GGUF_TYPE_UINT32, values.data(), values.size());
    }

    enum class Fill : std::uint8_t { noise, ones, negative };

    void tensor(std::string const& name, std::vector<std::int64_t> const& shape, Fill fill = Fill::noise) {
        ggml_tensor* const t = ggml_new_tensor(context_, GGML_TYPE_F32, static_cast<int>(shape.size()), shape.data());
        ggml_set_name(t, name.c_str());
        std::normal_distribution<float> noise(0, 0.3F);
        auto* const data = static_cast<float*>(t->data);
        for (std::int64_t i = 0; i < ggml_nelements(t); ++i)
            data[i] = fill == Fill::noise  ? noise(random_)
                      : fill == Fill::ones ? 1.0F
                                           : -std::abs(noise(random_)) - 0.1F;
        gguf_add_tensor(gguf_, is_matrix(*t, fill) ? quantized(*t) : t);
    }
    void layer_tensor(std::uint32_t layer, char const* name, std::vector<std::int64_t> const& shape,
                      Fill fill = Fill::noise) {
        tensor(fmt::format("blk.{}.{}", layer, name), shape, fill);
    }

private:
    [[nodiscard]] static ggml_type type_of(TinyWeights weights) {
        switch (weights) {
            case TinyWeights::f32: return GGML_TYPE_F32;
            case TinyWeights::bf16: return GGML_TYPE_BF16;
            case TinyWeights::q4_0: return GGML_TYPE_Q4_0;
            case TinyWeights::iq4_nl: return GGML_TYPE_IQ4_NL;
        }
        return GGML_TYPE_F32;
    }
    [[nodiscard]] bool is_matrix(ggml_tensor const& t, Fill fill) const {
        return type_ != GGML_TYPE_F32 && ggml_n_dims(&t) == 2 && fill == Fill::noise &&
               t.ne[0] % ggml_blck_size(type_) == 0 && t.ne[0] >= 32;
    }
    [[nodiscard]] ggml_tensor* quantized(ggml_tensor const& t) {
        ggml_tensor* const out = ggml_new_tensor_2d(context_, type_, t.ne[0], t.ne[1]);
        ggml_set_name(out, t.name);
        ggml_quantize_chunk(type_, static_cast<float const*>(t.data), out->data, 0, t.ne[1], t.ne[0], nullptr);
        return out;
    }
    [[nodiscard]] std::string full(char const* key) const {
        return key[0] == '.' ? architecture_ + key : std::string(key);
    }
    std::string architecture_;
    std::mt19937 random_;
    ggml_type type_;
    ggml_context* context_ = nullptr;
    gguf_context* gguf_ = nullptr;
};

using Fill = Writer::Fill;

std::string in_utf8(unsigned letter) {
    if (letter < 0x80) return {static_cast<char>(letter)};
    return {static_cast<char>(0xC0U | letter >> 6), static_cast<char>(0x80U | (letter & 0x3FU))};
}

// GPT-2's letters for all bytes: their own where those can be seen, else from 256 on, in order.
std::vector<std::string> byte_letters() {
    std::vector<std::string> letters;
    unsigned next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
        bool const seen = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
        letters.push_back(in_utf8(seen ? byte : next++));
    }
    return letters;
}

// Every byte is a token, and "aa" is one.
void write_byte_vocabulary(Writer& out, TinyOptions const& options) {
    std::vector<std::string> texts{"<unk>", "<s>", "</s>"};
    for (auto& letter : byte_letters()) texts.push_back(std::move(letter));
    texts.emplace_back("aa");
    while (texts.size() < kVocabulary) texts.push_back(fmt::format("<unused{}>", texts.size()));
    std::vector<std::int32_t> types(texts.size(), LLAMA_TOKEN_TYPE_NORMAL);
    types[0] = types[1] = types[2] = LLAMA_TOKEN_TYPE_CONTROL;
    std::vector<char const*> pointers;
    for (auto const& text : texts) pointers.push_back(text.c_str());
    char const* merge = "a a";
    gguf_context* const file = out.file();
    gguf_set_val_str(file, "tokenizer.ggml.model", "gpt2");
    gguf_set_val_str(file, "tokenizer.ggml.pre", options.pre_tokenizer.c_str());
    gguf_set_arr_str(file, "tokenizer.ggml.tokens", pointers.data(), pointers.size());
    gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
    gguf_set_arr_str(file, "tokenizer.ggml.merges", &merge, 1);
    gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", 2);
}

void write_vocabulary(Writer& out, TinyOptions const& options) {
    if (!options.pre_tokenizer.empty()) return write_byte_vocabulary(out, options);
    bool const word_piece = options.kind == TinyKind::embedding;
    std::vector<std::string> texts{"<unk>", "<s>", "</s>"};
    std::vector<std::int32_t> types{LLAMA_TOKEN_TYPE_UNKNOWN, LLAMA_TOKEN_TYPE_CONTROL, LLAMA_TOKEN_TYPE_CONTROL};
    for (int byte = 0; byte < 256; ++byte) {
        texts.push_back(fmt::format("<0x{:02X}>", byte));
        // WordPiece has no bytes; upstream asserts that when it loads one.
        types.push_back(word_piece && !options.bytes_in_word_piece ? LLAMA_TOKEN_TYPE_NORMAL : LLAMA_TOKEN_TYPE_BYTE);
    }
    texts.emplace_back("<turn>");
    types.push_back(LLAMA_TOKEN_TYPE_CONTROL);
    texts.emplace_back("<think>");
    types.push_back(LLAMA_TOKEN_TYPE_USER_DEFINED);
    for (char c = 'a'; c <= 'z'; ++c) {
        texts.emplace_back(1, c);
        types.push_back(LLAMA_TOKEN_TYPE_NORMAL);
    }
    texts.emplace_back("\u2581");
    types.push_back(LLAMA_TOKEN_TYPE_NORMAL);
    while (texts.size() < kVocabulary) {
        texts.push_back(fmt::format("\u2581w{}", texts.size()));
        types.push_back(LLAMA_TOKEN_TYPE_NORMAL);
    }
    std::vector<char const*> pointers;
    for (auto const& text : texts) pointers.push_back(text.c_str());
    std::vector<float> scores(texts.size(), -1.0F);
    gguf_context* const file = out.file();
    gguf_set_val_str(file, "tokenizer.ggml.model", word_piece ? "bert" : options.bos_without_token ? "t5" : "llama");
    gguf_set_arr_str(file, "tokenizer.ggml.tokens", pointers.data(), pointers.size());
    gguf_set_arr_data(file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(), scores.size());
    gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
    if (!options.bos_without_token) gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", 2);
    gguf_set_val_u32(file, "tokenizer.ggml.unknown_token_id", 0);
    if (word_piece) {
        gguf_set_val_u32(file, "tokenizer.ggml.cls_token_id", 1);
        gguf_set_val_u32(file, "tokenizer.ggml.seperator_token_id", 2);
        gguf_set_val_u32(file, "tokenizer.ggml.padding_token_id", 0);
        gguf_set_val_u32(file, "tokenizer.ggml.mask_token_id", 0);
    }
    if (options.infills) {
        gguf_set_val_u32(file, "tokenizer.ggml.fim_pre_token_id", kVocabulary - 3);
        gguf_set_val_u32(file, "tokenizer.ggml.fim_suf_token_id", kVocabulary - 2);
        gguf_set_val_u32(file, "tokenizer.ggml.fim_mid_token_id", kVocabulary - 1);
    }
    gguf_set_val_bool(file, "tokenizer.ggml.add_bos_token", true);
    if (!options.chat_template.empty())
        gguf_set_val_str(file, "tokenizer.chat_template", options.chat_template.c_str());
}

void write_attention(Writer& out, std::uint32_t layer) {
    constexpr std::int64_t kWidth = kTinyEmbedding;
    out.layer_tensor(layer, "attn_q.weight", {kWidth, kWidth});
    out.layer_tensor(layer, "attn_k.weight", {kWidth, kWidth});
    out.layer_tensor(layer, "attn_v.weight", {kWidth, kWidth});
    out.layer_tensor(layer, "attn_output.weight", {kWidth, kWidth});
}

void write_head_norms(Writer& out, std::uint32_t layer) {
    out.layer_tensor(layer, "attn_q_norm.weight", {kTinyEmbedding / kHeads}, Fill::ones);
    out.layer_tensor(layer, "attn_k_norm.weight", {kTinyEmbedding / kHeads}, Fill::ones);
}

void write_feed_forward(Writer& out, std::uint32_t layer, bool gated) {
    if (gated) out.layer_tensor(layer, "ffn_gate.weight", {kTinyEmbedding, kFeedForward});
    out.layer_tensor(layer, "ffn_up.weight", {kTinyEmbedding, kFeedForward});
    out.layer_tensor(layer, "ffn_down.weight", {kFeedForward, kTinyEmbedding});
}

void write_mamba_layer(Writer& out, std::uint32_t layer) {
    constexpr std::int64_t kInner = 2 * kTinyEmbedding, kState = 8, kRank = 4, kKernel = 4;
    out.layer_tensor(layer, "ssm_in.weight", {kTinyEmbedding, 2 * kInner});
    out.layer_tensor(layer, "ssm_conv1d.weight", {kKernel, kInner});
    out.layer_tensor(layer, "ssm_conv1d.bias", {kInner});
    out.layer_tensor(layer, "ssm_x.weight", {kInner, kRank + 2 * kState});
    out.layer_tensor(layer, "ssm_dt.weight", {kRank, kInner});
    out.layer_tensor(layer, "ssm_dt.bias", {kInner});
    out.layer_tensor(layer, "ssm_a", {kState, kInner}, Fill::negative);
    out.layer_tensor(layer, "ssm_d", {kInner});
    out.layer_tensor(layer, "ssm_out.weight", {kInner, kTinyEmbedding});
}

void write_layer(Writer& out, TinyKind kind, std::uint32_t layer) {
    bool const post_norms = kind == TinyKind::window;
    if (kind == TinyKind::embedding) {
        write_attention(out, layer);
        write_feed_forward(out, layer, false);
        for (char const* norm : {"attn_output_norm", "layer_output_norm"}) {
            out.layer_tensor(layer, fmt::format("{}.weight", norm).c_str(), {kTinyEmbedding}, Fill::ones);
            out.layer_tensor(layer, fmt::format("{}.bias", norm).c_str(), {kTinyEmbedding});
        }
        return;
    }
    out.layer_tensor(layer, "attn_norm.weight", {kTinyEmbedding}, Fill::ones);
    if (kind == TinyKind::recurrent) {
        write_mamba_layer(out, layer);
        return;
    }
    if (kind == TinyKind::hybrid && layer == 0) {
        out.layer_tensor(layer, "shortconv.conv.weight", {3, kTinyEmbedding});
        out.layer_tensor(layer, "shortconv.in_proj.weight", {kTinyEmbedding, 3 * kTinyEmbedding});
        out.layer_tensor(layer, "shortconv.out_proj.weight", {kTinyEmbedding, kTinyEmbedding});
    } else {
        write_attention(out, layer);
        if (kind != TinyKind::attention) write_head_norms(out, layer);
    }
    if (post_norms) out.layer_tensor(layer, "post_attention_norm.weight", {kTinyEmbedding}, Fill::ones);
    if (post_norms) out.layer_tensor(layer, "post_ffw_norm.weight", {kTinyEmbedding}, Fill::ones);
    out.layer_tensor(layer, "ffn_norm.weight", {kTinyEmbedding}, Fill::ones);
    write_feed_forward(out, layer, true);
}

char const* architecture_of(TinyKind kind) {
    switch (kind) {
        case TinyKind::attention: return "llama";
        case TinyKind::window: return "gemma3";
        case TinyKind::hybrid: return "lfm2";
        case TinyKind::recurrent: return "mamba";
        case TinyKind::embedding: return "bert";
    }
    return "";
}

void write_shape(Writer& out, TinyKind kind, std::uint32_t context) {
    out.number(".context_length", context);
    out.number(".embedding_length", kTinyEmbedding);
    out.number(".block_count", kLayers);
    out.number(".feed_forward_length", kind == TinyKind::recurrent ? 0 : kFeedForward);
    out.real(".attention.layer_norm_rms_epsilon", 1e-5F);
    out.real(".attention.layer_norm_epsilon", 1e-5F);
    out.number(".vocab_size", kVocabulary);
    if (kind == TinyKind::recurrent) {
        out.number(".attention.head_count", 0);
        out.number(".ssm.conv_kernel", 4);
        out.number(".ssm.inner_size", 2 * kTinyEmbedding);
        out.number(".ssm.state_size", 8);
        out.number(".ssm.time_step_rank", 4);
        return;
    }
    out.number(".attention.head_count", kHeads);
    if (kind == TinyKind::hybrid) {
        out.numbers(".attention.head_count_kv", {0, kHeads});
        out.number(".shortconv.l_cache", 3);
    } else {
        out.number(".attention.head_count_kv", kHeads);
    }
    if (kind == TinyKind::window) {
        out.number(".attention.sliding_window", kTinyWindow);
        out.number(".attention.sliding_window_pattern", 2);
        out.number(".attention.key_length", kTinyEmbedding / kHeads);
        out.number(".attention.value_length", kTinyEmbedding / kHeads);
    }
    if (kind == TinyKind::embedding) {
        gguf_set_val_bool(out.file(), "bert.attention.causal", false);
        out.number(".pooling_type", LLAMA_POOLING_TYPE_CLS);
        out.number("tokenizer.ggml.token_type_count", 2);
    }
}

}  // namespace

TinyModel::TinyModel(TinyOptions const& options) {
    static std::atomic<unsigned> count = 0;
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("hearth-tiny-{}-{}.gguf", static_cast<int>(getpid()), count.fetch_add(1));
    std::string const architecture = architecture_of(options.kind);
    Writer out(architecture, options.seed, options.weights);
    gguf_set_val_str(out.file(), "general.architecture",
                     options.architecture.empty() ? architecture.c_str() : options.architecture.c_str());
    gguf_set_val_str(out.file(), "general.name", "tiny");
    write_shape(out, options.kind, options.context);
    write_vocabulary(out, options);
    out.tensor("token_embd.weight", {kTinyEmbedding, kVocabulary});
    if (options.kind == TinyKind::embedding) {
        out.tensor("token_types.weight", {kTinyEmbedding, 2});
        out.tensor("position_embd.weight", {kTinyEmbedding, options.context});
        out.tensor("token_embd_norm.weight", {kTinyEmbedding}, Fill::ones);
        out.tensor("token_embd_norm.bias", {kTinyEmbedding});
    } else {
        out.tensor(options.kind == TinyKind::hybrid ? "token_embd_norm.weight" : "output_norm.weight", {kTinyEmbedding},
                   Fill::ones);
    }
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) write_layer(out, options.kind, layer);
    if (options.ranks) {
        out.number(".pooling_type", LLAMA_POOLING_TYPE_RANK);
        if (!options.rank_form.empty())
            gguf_set_val_str(out.file(), "tokenizer.chat_template.rerank", options.rank_form.c_str());
        out.tensor("cls.weight", {kTinyEmbedding, kTinyEmbedding});
        out.tensor("cls.bias", {kTinyEmbedding});
        out.tensor("cls.output.weight", {kTinyEmbedding, 1});
        out.tensor("cls.output.bias", {1});
    }
    if (!gguf_write_to_file(out.file(), path_.c_str(), false)) throw std::runtime_error("cannot write " + path());
}

TinyModel::~TinyModel() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
}

}  // namespace hearth::llama::testing
