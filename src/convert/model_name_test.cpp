#include "convert/model_name.h"

#include <gtest/gtest.h>

namespace hearth::convert {
namespace {

// organization | basename | size | finetune | version
std::string parts(std::string_view id, std::uint64_t parameters = 0) {
    auto const name = parse_model_name(id, parameters);
    return name.organization + "|" + name.basename + "|" + name.size_label + "|" + name.finetune + "|" + name.version;
}

// Expected values: what get_model_id_components() of gguf-py/gguf/metadata.py gives.
TEST(ModelName, IsTakenApartAsUpstreamDoes) {
    EXPECT_EQ(parts("Mistral/Mixtral-8x7B-Instruct-v0.1"), "Mistral|Mixtral|8x7B|Instruct|v0.1");
    EXPECT_EQ(parts("Mixtral-8x7B-Instruct-v0.1"), "|Mixtral|8x7B|Instruct|v0.1");
    EXPECT_EQ(parts("Mixtral-8x7B"), "|Mixtral|8x7B||");
    EXPECT_EQ(parts("Mixtral"), "||||");
    EXPECT_EQ(parts("Mixtral-8x7B-v0.1"), "|Mixtral|8x7B||v0.1");
    EXPECT_EQ(parts("hermes-2-pro-llama-3-8b-DPO"), "|hermes-2-pro-llama-3|8B|DPO|");
    EXPECT_EQ(parts("NousResearch/Meta-Llama-3-8B"), "NousResearch|Meta-Llama-3|8B||");
    EXPECT_EQ(parts("qwen1.5-moe-a2.7b"), "|qwen1.5-moe|a2.7B||");
    EXPECT_EQ(parts("crestf411/daybreak-kunoichi-2dpo-7b"), "crestf411|daybreak-kunoichi|7B|2dpo|");
    EXPECT_EQ(parts("Qwen2-57B-A14B-Instruct"), "|Qwen2|57B-A14B|Instruct|");
    EXPECT_EQ(parts("bigscience/bloom-7b1-petals"), "bigscience|bloom|7.1B|petals|");
    EXPECT_EQ(parts("smallcloudai/Refact-1_6B-fim"), "smallcloudai|Refact|1.6B|fim|");
    EXPECT_EQ(parts("Local LLama-3"), "||||");
    EXPECT_EQ(parts("./SmolLM2-135M"), "|SmolLM2|135M||");
}

TEST(ModelName, ASizeFarFromTheTruthIsAContextLength) {
    EXPECT_EQ(parts("Yi-34B-200K", 34'000'000'000), "|Yi|34B|200k|");
    EXPECT_EQ(parts("Phi-3-mini-4k-instruct", 3'800'000'000), "|Phi-3|mini|4k-instruct|");
}

TEST(ModelName, TitlesAreAsPythonWritesThem) {
    EXPECT_EQ(title_of("MiniLM-L6-H384-uncased"), "MiniLM L6 H384 Uncased");
    EXPECT_EQ(title_of("s2orc"), "S2Orc");
    EXPECT_EQ(title_of("stackexchange_xml"), "Stackexchange_Xml");
    EXPECT_EQ(title_of("model-v0.1-8b"), "Model v0.1 8b");
}

TEST(ModelName, SizesHaveTwoDigits) {
    EXPECT_EQ(size_label_of(134'515'008), "135M");
    EXPECT_EQ(size_label_of(1'711'376'384), "1.7B");
    EXPECT_EQ(size_label_of(22'713'216), "23M");
    EXPECT_EQ(size_label_of(260'032), "260K");
    EXPECT_EQ(size_label_of(70'553'706'496), "71B");
    EXPECT_EQ(size_label_of(1'711'376'384, 128), "128x1.7B");
}

}  // namespace
}  // namespace hearth::convert
