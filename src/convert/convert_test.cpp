// What is refused before anything is written. What is converted is compared
// with upstream's files in tests/integration/test_convert.py.
#include "convert/convert.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "convert/architecture.h"
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

TEST(Architecture, NormsAndBiasesStayInSinglePrecision) {
    EXPECT_EQ(Architecture::type_of("blk.0.attn_q.weight", 2, ElementType::bf16), ElementType::bf16);
    EXPECT_EQ(Architecture::type_of("blk.0.attn_q.bias", 1, ElementType::bf16), ElementType::f32);
    EXPECT_EQ(Architecture::type_of("blk.0.attn_norm.weight", 1, ElementType::f16), ElementType::f32);
    EXPECT_EQ(Architecture::type_of("position_embd.weight", 2, ElementType::f16), ElementType::f32);
    EXPECT_EQ(Architecture::type_of("blk.3.shortconv.conv.weight", 2, ElementType::f16), ElementType::f32);
}

}  // namespace
}  // namespace hearth::convert
