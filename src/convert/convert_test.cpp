// What is refused before anything is written. What is converted is compared
// with upstream's files in tests/integration/test_convert.py.
#include "convert/convert.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "convert/architecture.h"
#include "convert/plan.h"
#include "testing/safetensors_writer.h"

namespace hearth::convert {
namespace {

using models::testing::SafetensorsWriter;
using models::testing::write_file;

constexpr auto kConfig =
    R"({"architectures":["LlamaForCausalLM"],"hidden_size":4,"num_attention_heads":2,"num_key_value_heads":1,
    "num_hidden_layers":1,"intermediate_size":8,"vocab_size":3)";

class Folder : public ::testing::Test {
protected:
    void SetUp() override {
        auto pattern = (std::filesystem::temp_directory_path() / "hearth-convert-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        config("");
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    void write(std::string_view name, std::string_view bytes) { write_file(folder_ / name, bytes); }
    void config(std::string const& more) { write("config.json", kConfig + more + "}"); }
    void weights(SafetensorsWriter const& writer) { write("model.safetensors", writer.build()); }
    [[nodiscard]] static SafetensorsWriter embeddings() {
        return SafetensorsWriter().tensor("model.embed_tokens.weight", "F32", {3, 4}, std::string(48, 'x'));
    }
    [[nodiscard]] static SafetensorsWriter whole() {
        return embeddings().tensor("model.layers.0.self_attn.q_proj.weight", "F32", {4, 4}, std::string(64, 'x'));
    }

    Error refusal() {
        auto const report = convert({.folder = folder_.string(), .output = -1, .type = {}}, {}, {});
        EXPECT_FALSE(report);
        return report ? Error() : report.error();
    }
    [[nodiscard]] static bool says(Error const& error, std::string_view part) {
        return error.message.find(part) != std::string::npos;
    }

    std::filesystem::path folder_;
};

TEST_F(Folder, NeedsAConfigThatFits) {
    std::filesystem::remove(folder_ / "config.json");
    EXPECT_EQ(refusal().code, Code::not_found);
    write("config.json", R"({"architectures":["MambaForCausalLM"]})");
    EXPECT_TRUE(says(refusal(), "\"MambaForCausalLM\" is not converted; known are LlamaForCausalLM"));
    write("config.json", "{}");
    EXPECT_TRUE(says(refusal(), "names no architecture"));
    write("config.json", R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":100000})");
    EXPECT_TRUE(says(refusal(), "num_hidden_layers: 100000 is not within 1 to 4096"));
    write("config.json", R"({"architectures":["LlamaForCausalLM"],"num_hidden_layers":"1"})");
    EXPECT_TRUE(says(refusal(), "is a string, not a whole number"));
    config(R"(,"num_local_experts":8)");
    EXPECT_EQ(refusal().code, Code::unsupported);
}

TEST_F(Folder, NeedsWeightsThatFitTheConfig) {
    EXPECT_TRUE(says(refusal(), "neither model.safetensors"));
    weights(embeddings());
    EXPECT_TRUE(says(refusal(), "tensors of 0 layers, config.json says there are 1"));
    weights(SafetensorsWriter().tensor("model.embed_tokens.weight", "F32", {2, 4}, std::string(32, 'x')));
    EXPECT_TRUE(says(refusal(), "2 rows, config.json says vocab_size is 3"));
    weights(whole().tensor("model.layers.1.mlp.up_proj.weight", "F32", {1, 1}, "xxxx"));
    EXPECT_TRUE(says(refusal(), "model.layers.1.mlp.up_proj.weight\": not known"));
    weights(whole().tensor("model.layers.0.mlp.up_proj.weight", "I32", {1, 1}, "xxxx"));
    EXPECT_TRUE(says(refusal(), "its type I32 is not converted"));
    weights(whole().tensor("embed_tokens.weight", "F32", {3, 4}, std::string(48, 'x')));
    EXPECT_TRUE(says(refusal(), "two tensors of the folder"));
    weights(embeddings().tensor("model.layers.0.self_attn.q_proj.weight", "F32", {3, 4}, std::string(48, 'x')));
    EXPECT_TRUE(says(refusal(), "3 rows are not 2 heads of pairs"));
}

TEST_F(Folder, NeedsAPackingItKnowsAndAllOfItsTensors) {
    weights(whole());
    config(R"(,"quantization_config":{"quant_method":"fp8"})");
    EXPECT_TRUE(says(refusal(), "quant_method \"fp8\" is not converted; gptq and awq are"));
    config(R"(,"quantization_config":{"quant_method":"gptq","bits":4,"group_size":32})");
    auto const matrix = [](std::string const& g_idx) {
        auto const name = [](char const* part) { return std::string("model.layers.0.self_attn.q_proj.") + part; };
        return embeddings()
            .tensor(name("qweight"), "I32", {4, 8}, std::string(128, 'x'))
            .tensor(name("qzeros"), "I32", {1, 1}, std::string(4, 'x'))
            .tensor(name("scales"), "F16", {1, 8}, std::string(16, 'x'))
            .tensor(name("g_idx"), "I32", {32}, g_idx);
    };
    weights(matrix(std::string(128, '\1')));
    EXPECT_TRUE(says(refusal(), "another order (desc_act)"));
    weights(matrix(std::string(128, '\0')));
    EXPECT_TRUE(says(refusal(), "tokenizer.json"));  // which comes after the weights
    weights(embeddings().tensor("model.layers.0.self_attn.q_proj.qweight", "I32", {4, 8}, std::string(128, 'x')));
    EXPECT_TRUE(says(refusal(), "not all of qweight, qzeros and scales are there"));
}

TEST_F(Folder, NeedsATokenizerTheEngineKnows) {
    weights(whole());
    EXPECT_TRUE(says(refusal(), "tokenizer.json: there is no such file"));
    write("tokenizer.json", R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})");
    EXPECT_TRUE(says(refusal(), "its pre-tokeniser is not known"));
    write("tokenizer.json", R"({"model":{"type":"WordPiece","unk_token":"a","vocab":{"a":0}}})");
    EXPECT_TRUE(says(refusal(), "does not fit the architecture"));
    write("tokenizer.json", R"({"model":{"type":"BPE","byte_fallback":true,"vocab":{"a":0},"merges":[]}})");
    EXPECT_TRUE(says(refusal(), "spaces that are not marked beside byte_fallback"));
    write("tokenizer.model", "no protobuf");
    EXPECT_TRUE(says(refusal(), "tokenizer.model: byte"));
}

TEST_F(Folder, TheTargetsOfTensors) {
    auto const config = HfConfig::read(folder_.string());
    ASSERT_TRUE(config);
    auto const llama = Architecture::of(*config);
    ASSERT_TRUE(llama) << llama.error().message;
    auto const key = llama->target("model.layers.0.self_attn.k_proj.bias");
    ASSERT_TRUE(key && *key);
    EXPECT_EQ((*key)->name, "blk.0.attn_k.bias");
    EXPECT_EQ((*key)->heads, 1U);
    EXPECT_EQ((*llama->target("lm_head.weight"))->name, "output.weight");
    EXPECT_FALSE(llama->target("model.layers.0.self_attn.rotary_emb.inv_freq")->has_value());
    for (auto const* name : {"", "weight", "model.layers.0", "model.layers.0.", "model.layers.x.mlp.up_proj.weight",
                             "model.layers.0.mlp.up_proj", "model.layers.-1.mlp.up_proj.weight", "x.weight"})
        EXPECT_FALSE(llama->target(name)) << name;
}

class Mixture : public Folder {
protected:
    void SetUp() override {
        Folder::SetUp();
        write("config.json", R"({"architectures":["Qwen3MoeForCausalLM"],"hidden_size":4,"num_attention_heads":2,
            "num_hidden_layers":1,"intermediate_size":8,"vocab_size":3,"num_experts":2,"moe_intermediate_size":2,
            "num_experts_per_tok":1,"norm_topk_prob":true})");
    }

    static constexpr auto kExperts = "model.layers.0.mlp.experts.";
    [[nodiscard]] static SafetensorsWriter stacked(std::vector<std::uint64_t> const& both, std::string const& bytes) {
        return embeddings()
            .tensor(std::string(kExperts) + "gate_up_proj", "F32", both, bytes)
            .tensor(std::string(kExperts) + "down_proj", "F32", {2, 4, 2}, std::string(64, 'x'));
    }
};

TEST_F(Mixture, WeightsOfExpertsThatAreNotMadeOneAreRefused) {
    weights(stacked({2, 4, 4}, std::string(128, 'x')));
    for (auto const* more : {"", R"(,"norm_topk_prob":false)"}) {
        write("config.json", std::string(R"({"architectures":["Qwen3MoeForCausalLM"],"hidden_size":4,
            "num_attention_heads":2,"num_hidden_layers":1,"intermediate_size":8,"vocab_size":3,"num_experts":2,
            "moe_intermediate_size":2,"num_experts_per_tok":1)") +
                                 more + "}");
        EXPECT_TRUE(says(refusal(), "norm_topk_prob: is not true"));
    }
}

TEST_F(Mixture, ExpertsInOneTensorAreHalved) {
    weights(stacked({2, 4, 4}, std::string(128, 'x')));
    auto const config = HfConfig::read(folder_.string());
    ASSERT_TRUE(config);
    auto const architecture = Architecture::of(*config);
    ASSERT_TRUE(architecture) << architecture.error().message;
    auto const model = models::SafetensorsModel::open(folder_.string());
    ASSERT_TRUE(model) << model.error().message;
    auto const folder = folder_.string();
    Planner planner(*architecture, ElementType::f32, std::nullopt, folder);
    for (auto const& tensor : model->tensors()) ASSERT_TRUE(planner.add(tensor));
    auto const plan = planner.finish();
    ASSERT_TRUE(plan) << plan.error().message;
    ASSERT_EQ(plan->size(), 4U);
    auto const& up = plan->back();
    EXPECT_EQ(up.output.name, "blk.0.ffn_up_exps.weight");
    EXPECT_EQ(up.output.shape, (std::vector<std::uint64_t>{2, 2, 4}));
    EXPECT_EQ(up.experts, 2U);
    ASSERT_EQ(up.sources.size(), 2U);
    EXPECT_EQ(up.sources[0].offset, 32U);
    EXPECT_EQ(up.sources[1].offset, 96U);
    EXPECT_EQ(up.sources[1].bytes, 32U);
    EXPECT_EQ((*plan)[2].output.name, "blk.0.ffn_gate_exps.weight");
    EXPECT_EQ((*plan)[2].sources[1].offset, 64U);
}

TEST_F(Mixture, NeedsAMatrixOfEachExpert) {
    weights(stacked({3, 4, 4}, std::string(192, 'x')));
    EXPECT_TRUE(says(refusal(), "not one matrix for each of 2 experts"));
    weights(stacked({2, 3, 4}, std::string(96, 'x')));
    EXPECT_TRUE(says(refusal(), "its 3 rows are no two halves"));
    weights(stacked({2, 4, 4}, std::string(128, 'x'))
                .tensor(std::string(kExperts) + "0.up_proj.weight", "F32", {2, 4}, std::string(32, 'x')));
    EXPECT_TRUE(says(refusal(), "not all matrices of the 2 experts of layer 0"));
    weights(embeddings().tensor(std::string(kExperts) + "2.up_proj.weight", "F32", {2, 4}, std::string(32, 'x')));
    EXPECT_TRUE(says(refusal(), "experts.2.up_proj.weight\": not known"));
    weights(embeddings()
                .tensor(std::string(kExperts) + "0.up_proj.weight", "F32", {2, 4}, std::string(32, 'x'))
                .tensor(std::string(kExperts) + "1.up_proj.weight", "F32", {4, 2}, std::string(32, 'x')));
    EXPECT_TRUE(says(refusal(), "not the shape or the packing of the other experts"));
}

TEST_F(Folder, RowsBeyondGemmasVocabularyAreLeftOut) {
    write("config.json", R"({"architectures":["Gemma3ForCausalLM"],"hidden_size":4,"num_hidden_layers":1,
        "intermediate_size":8,"vocab_size":3})");
    auto const config = HfConfig::read(folder_.string());
    ASSERT_TRUE(config);
    auto const architecture = Architecture::of(*config);
    ASSERT_TRUE(architecture) << architecture.error().message;
    models::SafetensorsTensor const more{
        .name = "model.embed_tokens.weight", .type = models::SafetensorsType::f32, .shape = {5, 4}, .bytes = 80};
    models::SafetensorsTensor const norm{.name = "model.layers.0.input_layernorm.weight",
                                         .type = models::SafetensorsType::f32,
                                         .shape = {4},
                                         .bytes = 16};
    auto const folder = folder_.string();
    Planner planner(*architecture, ElementType::f32, std::nullopt, folder);
    ASSERT_TRUE(planner.add(more));
    ASSERT_TRUE(planner.add(norm));
    auto const plan = planner.finish();
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(plan->front().output.shape, (std::vector<std::uint64_t>{3, 4}));
    EXPECT_EQ(plan->front().sources.front().bytes, 48U);
    EXPECT_EQ(plan->back().shift, 1);
}

TEST(Architecture, NormsAndBiasesStayInSinglePrecision) {
    EXPECT_EQ(Architecture::type_of("blk.0.attn_q.weight", 2, ElementType::bf16), ElementType::bf16);
    EXPECT_EQ(Architecture::type_of("blk.0.attn_q.bias", 1, ElementType::bf16), ElementType::f32);
    EXPECT_EQ(Architecture::type_of("blk.0.attn_norm.weight", 1, ElementType::f16), ElementType::f32);
    EXPECT_EQ(Architecture::type_of("position_embd.weight", 2, ElementType::f16), ElementType::f32);
    EXPECT_EQ(Architecture::type_of("blk.3.shortconv.conv.weight", 2, ElementType::f16), ElementType::f32);
}

}  // namespace
}  // namespace hearth::convert
