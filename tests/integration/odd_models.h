// Models that are odd but might pass the validator: each is a small change or a
// few to a complete one, chosen by seed so that a failure can be repeated.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "testing/gguf_writer.h"

namespace hearth {

// Architectures and "<architecture>." keys of the pinned engine; CMake reads
// them from its sources, so that a new version is tested as a whole.
inline constexpr auto kEngineArchitectures = std::to_array<std::string_view>({HEARTH_ENGINE_ARCHITECTURES});
inline constexpr auto kEngineKeys = std::to_array<std::string_view>({HEARTH_ENGINE_KEYS});

class OddModels {
public:
    explicit OddModels(std::uint32_t seed) : random_(seed) {}

    // A llama with one to four wrong numbers, types, texts or tokens.
    std::string llama() {
        auto const width = pick(3) == 0 ? 32U : 256U;
        auto writer = models::testing::tiny_llama(width == 32 ? pick(2) : kTypes[pick(kTypes.size())], width);
        for (auto changes = 1 + pick(4); changes > 0; --changes) change(writer, width);
        if (pick(3) != 0) fit_shapes(writer);
        return writer.build();
    }

    // A model that claims to be of `architecture`, with random keys of the engine's.
    std::string of(std::string const& architecture, std::uint32_t keys) {
        auto writer = models::testing::tiny_llama();
        auto const key = [&](std::string_view name) { return architecture + "." + std::string(name); };
        writer.text("general.architecture", architecture);
        writer.u32(key("context_length"), 64)
            .u32(key("embedding_length"), 32)
            .u32(key("block_count"), keys == 0 ? 1 : 1 + pick(3));
        writer.u32(key("feed_forward_length"), 64)
            .u32(key("attention.head_count"), 4)
            .u32(key("attention.head_count_kv"), 2);
        writer.u32(key("rope.dimension_count"), 8).f32(key("attention.layer_norm_rms_epsilon"), 1e-5F);
        writer.f32(key("attention.layer_norm_epsilon"), 1e-5F);
        for (; keys > 0; --keys) random_key(writer, key(kEngineKeys[pick(kEngineKeys.size())]));
        return writer.build();
    }

private:
    using Writer = models::testing::GgufWriter;
    using Type = models::GgufType;

    static constexpr std::array<std::uint32_t, 28> kTypes = {0,  1,  2,  3,  6,  7,  8,  10, 11, 12, 13, 14, 16, 17,
                                                             18, 19, 20, 21, 22, 23, 29, 30, 34, 35, 39, 40, 41, 42};
    static constexpr std::array<float, 8> kFloats = {0, -1, 0.5F, 1, 1e-30F, 1e30F, -1e30F, 3e38F};

    std::uint32_t pick(std::size_t below) { return static_cast<std::uint32_t>(random_() % below); }
    float number() { return kFloats[pick(kFloats.size())]; }

    void change(Writer& w, std::uint32_t width) {
        switch (pick(20)) {
            case 0:
                w.tensors()[pick(w.tensors().size())].type = pick(4) == 0 ? pick(43) : kTypes[pick(kTypes.size())];
                break;
            case 1: w.u32("llama.attention.head_count", 1 + pick(40)); break;
            case 2: w.u32("llama.attention.head_count_kv", 1 + pick(8)); break;
            case 3: w.u32("llama.rope.dimension_count", pick(80)); break;
            case 4: head_lengths(w); break;
            case 5: w.remove("llama.rope.dimension_count"); break;
            case 6: tokenizer(w); break;
            case 7: vocabulary(w); break;
            case 8: token_types(w); break;
            case 9: token_id(w); break;
            case 10:
                w.boolean(pick(2) == 0 ? "tokenizer.ggml.add_bos_token" : "tokenizer.ggml.add_eos_token", pick(2) == 0);
                break;
            case 11: w.u32("llama.pooling_type", pick(6)); break;
            case 12: w.boolean("llama.attention.causal", pick(2) == 0); break;
            case 13: w.u32("llama.expert_count", pick(9)).u32("llama.expert_used_count", pick(9)); break;
            case 14:
                w.u32("llama.attention.sliding_window", pick(300))
                    .u32("llama.attention.sliding_window_pattern", pick(4));
                break;
            case 15: scaling(w); break;
            case 16: w.f32("llama.rope.freq_base", number()); break;
            case 17: w.u32("llama.vocab_size", 1 + pick(600)); break;
            case 18: w.tensor("rope_freqs.weight", {width / 8}, pick(4) == 0 ? 1 : 0); break;
            case 19: w.tensor("blk.0.attn_q.bias", {width}, pick(4) == 0 ? 1 : 0); break;
        }
    }

    void head_lengths(Writer& w) {
        auto const length = pick(80);
        w.u32("llama.attention.key_length", length)
            .u32("llama.attention.value_length", pick(4) == 0 ? pick(80) : length);
    }

    void tokenizer(Writer& w) {
        constexpr std::array kNames = {"llama",  "gpt2",      "bert",       "t5",   "rwkv", "plamo2",
                                       "gemma4", "hybriddna", "whitespace", "test", "none"};
        w.text("tokenizer.ggml.model", kNames[pick(kNames.size())]);
        if (pick(2) == 0) w.texts("tokenizer.ggml.merges", {"a b", "", "x", "  "});
        if (pick(2) == 0) w.remove("tokenizer.ggml.token_type");
    }

    void vocabulary(Writer& w) {
        auto tokens = models::testing::byte_vocabulary({"\xe2\x96\x81", "a", "b", "ab",
                                                        "\xe2\x96\x81"
                                                        "ab"});
        for (auto count = pick(20); count > 0; --count) {
            constexpr std::string_view kPieces = "<|>x0A\\'b \xe2\x96\x81\xc4\xa0[]";
            std::string text;
            for (auto length = pick(9); length > 0; --length) {
                text += pick(2) == 0 ? kPieces[pick(kPieces.size())] : static_cast<char>(1 + pick(255));
            }
            tokens[pick(tokens.size())] = text;
        }
        std::set<std::string> seen;  // the validator refuses repetitions: make few of those
        for (auto& text : tokens) {
            while (!seen.insert(text).second) text += std::to_string(pick(10));
        }
        w.texts("tokenizer.ggml.tokens", tokens);
    }

    void token_types(Writer& w) {
        std::vector<std::int32_t> types(264);
        for (auto& type : types) type = static_cast<std::int32_t>(pick(7));
        w.array("tokenizer.ggml.token_type", Type::i32, types);
    }

    void token_id(Writer& w) {
        constexpr std::array kNames = {"bos",     "eos",  "eot",       "eom",    "unknown",
                                       "padding", "mask", "seperator", "fim_pre"};
        w.u32(std::string("tokenizer.ggml.") + kNames[pick(kNames.size())] + "_token_id",
              pick(4) == 0 ? 0xffffffff : pick(264));
    }

    void scaling(Writer& w) {
        constexpr std::array kNames = {"none", "linear", "yarn", "longrope"};
        w.text("llama.rope.scaling.type", kNames[pick(kNames.size())]).f32("llama.rope.scaling.factor", number());
    }

    void random_key(Writer& w, std::string const& key) {
        auto const some = pick(3) != 0 ? pick(5) : pick(3) != 0 ? pick(100) : static_cast<std::uint32_t>(random_());
        switch (pick(6)) {
            case 0: w.f32(key, number()); break;
            case 1: w.boolean(key, pick(2) == 0); break;
            case 2: {
                std::vector<std::int32_t> values(pick(6));
                for (auto& value : values) value = static_cast<std::int32_t>(pick(5));
                w.array(key, Type::i32, values);
                break;
            }
            default: w.u32(key, some);
        }
    }

    // Gives the attention matrices the shapes that the numbers ask for, or most
    // changes would end at upstream's check of shapes.
    static void fit_shapes(Writer& w) {
        auto const parsed = models::testing::parse(w.build());
        if (!parsed) return;
        auto const number = [&](char const* key, std::uint64_t otherwise) {
            return parsed->number(std::string("llama.") + key).value_or(otherwise);
        };
        auto const width = number("embedding_length", 0);
        auto const heads = number("attention.head_count", 1);
        auto const kv_heads = number("attention.head_count_kv", heads);
        if (heads == 0 || kv_heads == 0) return;
        auto const keys = number("attention.key_length", width / heads);
        auto const values = number("attention.value_length", width / heads);
        for (auto& tensor : w.tensors()) {
            if (tensor.name == "blk.0.attn_q.weight") tensor.dimensions = {width, keys * heads};
            if (tensor.name == "blk.0.attn_k.weight") tensor.dimensions = {width, keys * kv_heads};
            if (tensor.name == "blk.0.attn_v.weight") tensor.dimensions = {width, values * kv_heads};
            if (tensor.name == "blk.0.attn_output.weight") tensor.dimensions = {keys * heads, width};
        }
        w.u32("llama.rope.dimension_count", static_cast<std::uint32_t>(keys));
    }

    std::mt19937 random_;
};

}  // namespace hearth
