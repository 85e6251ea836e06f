#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "models/gguf.h"
#include "models/testing/says.h"
#include "testing/gguf_writer.h"

namespace hearth::models {
namespace {

using testing::GgufWriter;
using testing::parse;
using testing::says;
using testing::says_only;
using testing::tiny_llama;

template <typename Change>
std::string refusal_after(Change const& change) {
    auto writer = tiny_llama();
    change(writer);
    auto const file = parse(writer.build());
    return file ? std::string() : file.error().message;
}

template <typename Change>
std::vector<std::string> warnings_after(Change const& change) {
    auto writer = tiny_llama();
    change(writer);
    auto const file = parse(writer.build());
    EXPECT_TRUE(file) << file.error().message;
    return file ? file->warnings : std::vector<std::string>{};
}

TEST(GgufRules, NeedsAnArchitecture) {
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.remove("general.architecture"); }), "general.architecture is missing"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.u32("general.architecture", 1); }), "has type u32; it must be string"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.text("general.architecture", ""); }), "1 to 64 characters"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.text("general.architecture", "Lla\nma"); }), "'Lla\\x0ama'"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.text("general.architecture", "clip"); }), "projector"));
}

TEST(GgufRules, NeedsTheNumbersThatUpstreamTrusts) {
    for (std::string const key : {"llama.context_length", "llama.embedding_length", "llama.block_count"}) {
        EXPECT_TRUE(says(refusal_after([&](auto& w) { w.remove(key); }), key + " is missing"));
        EXPECT_TRUE(says(refusal_after([&](auto& w) { w.u32(key, 0); }), key + " is 0; 1 to "));
        EXPECT_TRUE(says(refusal_after([&](auto& w) { w.scalar(key, GgufType::u64, std::uint64_t{1}); }),
                         "has type u64; it must be u32"));
        EXPECT_TRUE(says(refusal_after([&](auto& w) { w.text(key, "7"); }), "must be u32"));
    }
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.u32("llama.block_count", 513); }), "llama.block_count is 513; 1 to 512"));
}

TEST(GgufRules, RefusesDivisorsOfZero) {
    for (std::string const key : {"attention.key_length", "wkv.head_size", "full_attention_interval",
                                  "interleave_moe_layer_step", "ssm.group_count"}) {
        EXPECT_TRUE(says(refusal_after([&](auto& w) { w.u32("llama." + key, 0); }), "llama." + key + " is 0; 1 to "));
    }
}

TEST(GgufRules, WantsOneNumberPerLayerOrOneForAll) {
    auto const heads = [](std::vector<std::int32_t> const& v) {
        return refusal_after([&](auto& w) { w.array("llama.attention.head_count", GgufType::i32, v); });
    };
    EXPECT_EQ(heads({4}), "");
    EXPECT_TRUE(says(heads({4, 4}), "has 2 elements, but there are 1 layers"));
    EXPECT_TRUE(says(heads({-4}), "holds -4"));
    EXPECT_TRUE(says(
        refusal_after([](auto& w) { w.array("llama.attention.head_count", GgufType::f32, std::vector<float>{4}); }),
        "holds f32; it must hold u32 or i32"));
}

TEST(GgufRules, WantsHeadsThatShareKeysEvenly) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("llama.attention.head_count_kv", 3); }),
                     "which does not divide the 4 heads"));
    EXPECT_TRUE(says(
        refusal_after([](auto& w) { w.u32("llama.attention.head_count", 64).remove("llama.attention.head_count_kv"); }),
        "more than the embedding's 32 elements"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("llama.attention.head_count", 70'000); }), "0 to 65536"));
}

TEST(GgufRules, WantsRotationInsideAHead) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("llama.rope.dimension_count", 7); }), "must be even"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.u32("llama.rope.dimension_count", 16); }), "but a head has 8 elements"));
    EXPECT_EQ(refusal_after([](auto& w) {
                  w.u32("llama.rope.dimension_count", 16).u32("llama.attention.key_length", 16);
                  w.u32("llama.attention.value_length", 16);
              }),
              "");
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.text("llama.rope.scaling.type", "spiral"); }),
                     "none, linear, yarn and longrope"));
    EXPECT_EQ(refusal_after([](auto& w) { w.text("llama.rope.scaling.type", "yarn"); }), "");
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("llama.rope.scaling.type", 1); }), "must be string"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.f32("llama.rope.freq_base", 0); }), "must be positive"));
}

// What the engine's graphs of single architectures assert.
TEST(GgufRules, WantsWhatTheArchitectureAsserts) {
    auto const as = [](std::string const& name, auto const& more) {
        return refusal_after([&](auto& w) {
            w.text("general.architecture", name).u32(name + ".context_length", 64).u32(name + ".embedding_length", 32);
            w.u32(name + ".block_count", 1).u32(name + ".attention.head_count", 4);
            more(w, name + ".");
        });
    };
    auto const nothing = [](auto&, auto const&) {};
    EXPECT_EQ(as("llama", nothing), "");
    EXPECT_TRUE(says(as("llama", [](auto& w, auto const& p) { w.u32(p + "attention.value_length", 16); }),
                     "llama.attention.value_length is 16, but keys have length 8"));
    EXPECT_TRUE(says(as("llama", [](auto& w, auto const& p) { w.u32(p + "rope.dimension_count", 4); }),
                     "is 4, but a head has 8 elements"));
    EXPECT_TRUE(says(as("qwen2", [](auto& w, auto const& p) { w.u32(p + "attention.head_count", 32); }),
                     "makes heads of 1 elements"));
    EXPECT_EQ(as("phi2", [](auto& w, auto const& p) { w.u32(p + "rope.dimension_count", 4); }), "") << "rotates a part";
    EXPECT_EQ(as("deepseek2", [](auto& w, auto const& p) { w.u32(p + "attention.value_length", 16); }), "");
    EXPECT_TRUE(says(as("smallthinker", nothing), "smallthinker.expert_count must be above 0"));
    EXPECT_TRUE(says(as("qwen2vl", nothing), "qwen2vl.rope.dimension_sections is missing"));
    auto const sections = [&](std::vector<std::int32_t> const& v) {
        return as("qwen2vl", [&](auto& w, auto const& p) { w.array(p + "rope.dimension_sections", GgufType::i32, v); });
    };
    EXPECT_EQ(sections({2, 1, 1, 0}), "");
    EXPECT_TRUE(says(sections({0, 0, 0, 4}), "one of the first three above 0"));
    EXPECT_TRUE(says(sections({2, -1, 1, 0}), "0 to 65536"));
    EXPECT_TRUE(says(sections({}), "one of the first three above 0"));
}

TEST(GgufRules, WantsEpsilonsThatAreSmallAndNotNegative) {
    auto const epsilon = [](float v) {
        return refusal_after([&](auto& w) { w.f32("llama.attention.layer_norm_rms_epsilon", v); });
    };
    EXPECT_EQ(epsilon(0), "");
    EXPECT_TRUE(says(epsilon(-1e-5F), "from 0 to 1"));
    EXPECT_TRUE(says(epsilon(std::numeric_limits<float>::quiet_NaN()), "must be finite"));
    EXPECT_TRUE(says(epsilon(2), "from 0 to 1"));
}

TEST(GgufRules, WantsExpertsThatAddUp) {
    auto const experts = [](std::uint32_t count, std::uint32_t used, std::uint32_t groups, std::uint32_t groups_used) {
        return refusal_after([&](auto& w) {
            w.u32("llama.expert_count", count).u32("llama.expert_used_count", used);
            w.u32("llama.expert_group_count", groups).u32("llama.expert_group_used_count", groups_used);
        });
    };
    EXPECT_EQ(experts(8, 2, 0, 0), "");
    EXPECT_EQ(experts(8, 2, 4, 2), "");
    EXPECT_TRUE(says(experts(8, 9, 0, 0), "expert_used_count is 9, but expert_count is 8"));
    EXPECT_TRUE(says(experts(8, 0, 0, 0), "no expert is used"));
    EXPECT_TRUE(says(experts(8, 2, 8, 2), "expert_group_count is 8, but expert_count is 8"));
    EXPECT_TRUE(says(experts(8, 2, 3, 1), "must divide"));
    EXPECT_TRUE(says(experts(8, 2, 4, 4), "exceed"));
    EXPECT_TRUE(says(experts(2000, 2, 0, 0), "0 to 1024"));
}

TEST(GgufRules, RefusesTypesThatTheEngineCannotComputeWith) {
    auto const type = [](std::string const& name, std::uint32_t id) {
        auto writer = tiny_llama();
        for (auto& tensor : writer.tensors()) {
            if (tensor.name == name) tensor.type = id;
        }
        auto const file = parse(writer.build());
        return file ? std::string() : file.error().message;
    };
    EXPECT_TRUE(says(type("blk.0.attn_q.weight", 26), "has type I32; the engine cannot compute with it"));
    EXPECT_TRUE(says(type("token_embd.weight", 28), "has type F64"));
    EXPECT_TRUE(says(type("blk.0.attn_norm.weight", 1), "has type F16; norms, biases and other vectors must be F32"));
    EXPECT_EQ(type("blk.0.attn_q.weight", 1), "");
}

TEST(GgufRules, WantsSplitKeysOfTheirExactType) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("split.no", 0); }), "split.no has type u32; it must be u16"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u16("split.no", 2).u16("split.count", 2); }),
                     "split.no is 2, but split.count is 2"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u16("split.count", 2000); }), "at most 1024"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.i32("split.tensors.count", -1); }), "negative"));
}

TEST(GgufVocabulary, NeedsATokenizerAndTokens) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.remove("tokenizer.ggml.model"); }), "the model has no tokenizer"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.text("tokenizer.ggml.model", "none"); }), "no vocabulary"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.text("tokenizer.ggml.model", "unheard"); }), "knows no such tokenizer"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.remove("tokenizer.ggml.tokens"); }), "the model has no vocabulary"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.texts("tokenizer.ggml.tokens", {}); }), "has 0 tokens"));
    EXPECT_TRUE(says(
        refusal_after([](auto& w) { w.array("tokenizer.ggml.tokens", GgufType::u8, std::vector<std::uint8_t>{1}); }),
        "must hold strings"));
}

// Texts as upstream sees them: up to the first NUL, and a stand-in where empty.
TEST(GgufVocabulary, RefusesTokensWithTheSameText) {
    auto const last = [](std::vector<std::string> const& words) {
        return refusal_after([&](auto& w) {
            auto const tokens = testing::byte_vocabulary(words);
            w.texts("tokenizer.ggml.tokens", tokens)
                .remove("tokenizer.ggml.scores")
                .remove("tokenizer.ggml.token_type");
            for (auto& tensor : w.tensors()) {
                if (tensor.name == "token_embd.weight") tensor.dimensions[1] = tokens.size();
            }
        });
    };
    EXPECT_EQ(last({"a", "b"}), "");
    EXPECT_TRUE(says(last({"a", "b", "a"}), "token 261 repeats token 259 ('a')"));
    EXPECT_TRUE(says(last({"a", std::string("a\0b", 3)}), "token 260 repeats token 259"));
    EXPECT_EQ(last({"", std::string(1, '\0')}), "");
    EXPECT_TRUE(says(last({"", "[EMPTY_259]"}), "token 259 is empty and another is named '[EMPTY_259]'"));
    EXPECT_EQ(last({"", "[EMPTY_260]"}), "");
}

TEST(GgufVocabulary, WantsOneScoreAndTypePerToken) {
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.array("tokenizer.ggml.scores", GgufType::f32, std::vector<float>(263)); }),
             "has 263 elements, but there are 264 tokens"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.array("tokenizer.ggml.scores", GgufType::f64, std::vector<double>(264)); }),
             "holds f64; it must hold f32"));
    std::vector<float> scores(264);
    scores[7] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(says(refusal_after([&](auto& w) { w.array("tokenizer.ggml.scores", GgufType::f32, scores); }),
                     "score of token 7 is not a number"));
    std::vector<std::int32_t> types(264, 1);
    types[9] = 7;
    EXPECT_TRUE(says(refusal_after([&](auto& w) { w.array("tokenizer.ggml.token_type", GgufType::i32, types); }),
                     "token 9 has type 7; 0 to 6 exist"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("tokenizer.ggml.scores", 1); }), "must be an array"));
}

TEST(GgufVocabulary, WantsByteTokensOnlyWhereTheTokenizerHasThem) {
    auto const bert = [](bool typed) {
        return refusal_after([&](auto& w) {
            w.text("tokenizer.ggml.model", "bert");
            if (!typed) w.remove("tokenizer.ggml.token_type");
        });
    };
    EXPECT_TRUE(says(bert(true), "token 3 is of type byte, which tokenizer 'bert' has not"));
    EXPECT_EQ(bert(false), "");
}

TEST(GgufVocabulary, WantsMergesWhereTheTokenizerUsesThem) {
    auto const bpe = [](auto const& more) {
        return refusal_after([&](auto& w) {
            w.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "default");
            more(w);
        });
    };
    EXPECT_TRUE(says(bpe([](auto&) {}), "tokenizer.ggml.merges is missing"));
    EXPECT_EQ(bpe([](auto& w) { w.texts("tokenizer.ggml.merges", {"a b"}); }), "");
    EXPECT_TRUE(says(bpe([](auto& w) { w.u32("tokenizer.ggml.merges", 1); }), "must be an array of strings"));
    EXPECT_EQ(bpe([](auto& w) { w.text("tokenizer.ggml.pre", "kimi-k2"); }), "");
}

TEST(GgufVocabulary, WantsIdsInsideTheVocabulary) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("tokenizer.ggml.eos_token_id", 264); }),
                     "is 264, but there are 264 tokens"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.i32("tokenizer.ggml.bos_token_id", 1); }), "has type i32; it must be u32"));
    EXPECT_EQ(refusal_after([](auto& w) { w.u32("tokenizer.ggml.bos_token_id", 0xffffffff); }), "")
        << "how converters write none";
    EXPECT_TRUE(
        says_only(warnings_after([](auto& w) { w.u32("tokenizer.ggml.padding_token_id", 500); }), "it is ignored"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("tokenizer.ggml.add_bos_token", 1); }), "must be bool"));
}

TEST(GgufVocabulary, WantsTheTokensThatPromptsAreToGet) {
    auto const t5 = [](auto const& more) {
        return refusal_after([&](auto& w) {
            w.text("tokenizer.ggml.model", "t5").remove("tokenizer.ggml.bos_token_id");
            more(w);
        });
    };
    EXPECT_EQ(t5([](auto&) {}), "");
    EXPECT_TRUE(
        says(t5([](auto& w) { w.boolean("tokenizer.ggml.add_bos_token", true); }), "bos_token_id names no token"));
    auto const gemma = [](auto const& more) {
        return refusal_after([&](auto& w) {
            w.text("tokenizer.ggml.model", "gemma4")
                .texts("tokenizer.ggml.merges", {"a b"})
                .remove("tokenizer.ggml.bos_token_id");
            more(w);
        });
    };
    EXPECT_TRUE(says(gemma([](auto& w) { w.boolean("tokenizer.ggml.add_bos_token", false); }), "names no token"));
    EXPECT_EQ(gemma([](auto& w) { w.u32("tokenizer.ggml.bos_token_id", 1); }), "");
}

TEST(GgufVocabulary, WarnsOfWhatIsServedButIncomplete) {
    EXPECT_TRUE(says_only(warnings_after([](auto& w) { w.remove("tokenizer.chat_template"); }), "no chat template"));
    EXPECT_TRUE(
        says_only(warnings_after([](auto& w) { w.remove("tokenizer.ggml.eos_token_id"); }), "eos_token_id is missing"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("tokenizer.chat_template", 1); }), "must be string"));
    auto const warnings = warnings_after([](auto& w) {
        auto tokens = testing::byte_vocabulary({"1", "2", "3", "4", "5"});
        tokens[10] = "not a byte";
        w.texts("tokenizer.ggml.tokens", tokens);
    });
    EXPECT_TRUE(says_only(warnings, "1 of 256 bytes have no token"));
}

}  // namespace
}  // namespace hearth::models
