#include "catalog/folder_facts.h"

#include <filesystem>
#include <string_view>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "testing/safetensors_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::catalog {
namespace {

namespace fs = std::filesystem;
using models::testing::SafetensorsWriter;
using models::testing::write_file;

class catalog_folder_facts : public ::testing::Test {
protected:
    void SetUp() override {
        write("config.json", R"({"model_type": "llama", "max_position_embeddings": 512})");
        auto const weights = SafetensorsWriter()
                                 .tensor("a", "BF16", {2, 3}, std::string(12, 'x'))
                                 .tensor("b", "F32", {2}, std::string(8, 'x'))
                                 .build();
        write("model.safetensors", weights);
    }
    void write(std::string_view name, std::string_view text) const { write_file(fs::path(folder.path()) / name, text); }
    [[nodiscard]] Model facts() const {
        Model model;
        read_folder_facts(folder.path(), model);
        return model;
    }

    hearth::testing::TemporaryFolder folder;
};

TEST_F(catalog_folder_facts, come_from_config_and_headers) {
    auto const model = facts();
    EXPECT_EQ(model.problem, "");
    EXPECT_EQ(model.architecture, "llama");
    EXPECT_EQ(model.context, 512U);
    EXPECT_EQ(model.parameters, 8U);
    EXPECT_EQ(model.quantization, "BF16") << "what most bytes are";
    EXPECT_EQ(model.capabilities, std::vector<std::string>{"completion"});
    EXPECT_EQ(model.template_sha256, "");
    EXPECT_EQ(model.license, "");
}

TEST_F(catalog_folder_facts, of_a_model_of_several_kinds_of_input_are_those_of_its_text_part) {
    write("config.json",
          R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "max_position_embeddings": 7},
              "quantization_config": {"quant_method": "gptq"}})");
    auto const model = facts();
    EXPECT_EQ(model.architecture, "gemma3");
    EXPECT_EQ(model.context, 7U);
    EXPECT_EQ(model.quantization, "GPTQ");
}

TEST_F(catalog_folder_facts, a_pooling_model_makes_embeddings) {
    write("modules.json", "[]");
    EXPECT_EQ(facts().capabilities, std::vector<std::string>{"embedding"});
}

TEST_F(catalog_folder_facts, the_template_is_the_one_that_conversion_takes) {
    write("chat_template.jinja", "from a file");
    EXPECT_EQ(facts().template_sha256, "") << "without a tokenizer there is none";
    write("tokenizer_config.json", "{}");
    EXPECT_EQ(facts().template_sha256, digest::sha256_hex("from a file"));
    write("tokenizer_config.json", R"({"chat_template": "its own"})");
    EXPECT_EQ(facts().template_sha256, digest::sha256_hex("its own"));
    write("tokenizer_config.json",
          R"({"chat_template": [{"name": "x", "template": "X"}, {"name": "default", "template": "D"}]})");
    EXPECT_EQ(facts().template_sha256, digest::sha256_hex("D"));
}

TEST_F(catalog_folder_facts, the_license_is_the_cards) {
    write("README.md", "---\ntags:\n- x\nlicense: 'apache-2.0'\n---\nlicense: no\n");
    EXPECT_EQ(facts().license, "apache-2.0");
    write("README.md", "# A model\nlicense: none\n");
    EXPECT_EQ(facts().license, "");
    write("README.md", "---\nlicense:\n---\n");
    EXPECT_EQ(facts().license, "");
}

TEST_F(catalog_folder_facts, what_is_wrong_is_a_problem) {
    write("config.json", "[1]");
    EXPECT_NE(facts().problem.find("config.json"), std::string::npos);
    write("config.json", "{}");
    EXPECT_EQ(facts().problem, "");
    write("tokenizer_config.json", "{");
    EXPECT_NE(facts().problem.find("tokenizer_config.json"), std::string::npos);
    write("tokenizer_config.json", "{}");
    write("model.safetensors", "not these");
    EXPECT_NE(facts().problem, "");
}

}  // namespace
}  // namespace hearth::catalog
