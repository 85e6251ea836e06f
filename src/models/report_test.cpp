#include "models/report.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "models/testing/says.h"
#include "testing/gguf_writer.h"

namespace hearth::models {
namespace {

using testing::says;
using testing::ScratchFolder;
using testing::tiny_llama;

TEST(Report, DescribesAModel) {
    ScratchFolder const folder;
    auto writer = tiny_llama(3, 256);
    writer.text("general.license", "apache-2.0").u32("general.file_type", 3).text("tokenizer.ggml.pre", "x");
    auto const report = check_model(folder.write("tiny.gguf", writer.build()));

    EXPECT_TRUE(report.valid);
    EXPECT_TRUE(report.problems.empty());
    EXPECT_EQ(report.architecture, "llama");
    EXPECT_EQ(report.name, "tiny");
    EXPECT_EQ(report.license, "apache-2.0");
    EXPECT_EQ(report.quantization, "Q4_1");
    EXPECT_EQ(report.tokenizer, "llama (x)");
    EXPECT_EQ(report.parameters, 256U * 264 + 3 * 256 + 3 * 256 * 256 + 3 * 256 * 512);
    EXPECT_EQ(report.context_train, 64U);
    EXPECT_EQ(report.embedding, 256U);
    EXPECT_EQ(report.layers, 1U);
    EXPECT_EQ(report.heads, 4U);
    EXPECT_EQ(report.kv_heads, 2U);
    EXPECT_EQ(report.vocabulary, 264U);
    EXPECT_EQ(report.tensors, 11U);
    EXPECT_EQ(report.tensor_types, (std::vector<std::pair<std::string, std::uint64_t>>{{"Q4_1", 8}, {"F32", 3}}));
    EXPECT_EQ(report.chat_template_sha256, digest::sha256_hex("{% for m in messages %}{{ m.content }}{% endfor %}"));
}

TEST(Report, GuessesAQuantizationThatIsNotDeclared) {
    ScratchFolder const folder;
    EXPECT_EQ(check_model(folder.write("a.gguf", tiny_llama(1).build())).quantization, "F16");
    auto writer = tiny_llama(1);
    writer.u32("general.file_type", 33);  // removed
    EXPECT_EQ(check_model(folder.write("b.gguf", writer.build())).quantization, "F16");
}

TEST(Report, SaysWhyAFileIsRefused) {
    auto const report = check_model("/no/such/file.gguf");
    EXPECT_FALSE(report.valid);
    ASSERT_EQ(report.problems.size(), 1U);
    EXPECT_TRUE(says(report.problems[0], "/no/such/file.gguf", "No such file"));
    EXPECT_TRUE(says(render_text(report), "/no/such/file.gguf: refused", "problem"));
}

TEST(Report, WarnsOfAnOldVersion) {
    ScratchFolder const folder;
    auto writer = tiny_llama();
    writer.version = 2;
    EXPECT_TRUE(testing::says_only(check_model(folder.write("old.gguf", writer.build())).warnings, "version 2 is old"));
}

TEST(Report, MakesMetadataPrintable) {
    ScratchFolder const folder;
    auto writer = tiny_llama();
    writer.text("general.name", "red \x1b[31m\nname \xc2\x9b caf\xc3\xa9");
    auto const text = render_text(check_model(folder.write("x.gguf", writer.build())));

    EXPECT_TRUE(says(text, "name          red  [31m name   caf\xc3\xa9\n", "x.gguf: valid"));
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

class Resolve : public ::testing::Test {
protected:
    ScratchFolder first_, second_;
    std::vector<std::string> folders_ = {first_.path(), second_.path(), "/no/such/folder"};
    std::string const model_ = first_.write("SmolLM.Q4_1.gguf", "x");
    std::string const other_ = second_.write("Other.gguf", "x");

    std::string resolve(std::string const& name) {
        auto const path = resolve_model(name, folders_);
        return path ? path.value() : path.error().message;
    }
};

TEST_F(Resolve, FindsPathsAndNamesInAnyCase) {
    EXPECT_EQ(resolve(model_), model_);
    EXPECT_EQ(resolve("SmolLM.Q4_1"), model_);
    EXPECT_EQ(resolve("SmolLM.Q4_1.gguf"), model_);
    EXPECT_EQ(resolve("smollm.q4_1.GGUF"), model_);
    EXPECT_EQ(resolve("other"), other_);
}

TEST_F(Resolve, PrefersTheExactNameAndTheEarlierFolder) {
    auto const lower = first_.write("other.gguf", "x");
    EXPECT_EQ(resolve("Other"), lower) << "the first folder has one in another case";
    auto const exact = first_.write("OTHER.gguf", "x");
    EXPECT_EQ(resolve("OTHER"), exact);
    EXPECT_TRUE(says(resolve("oTHER"), "means more than one model", "OTHER.gguf", "other.gguf"));
}

TEST_F(Resolve, GivesTheFirstSplit) {
    auto const split = first_.write("big-00001-of-00002.gguf", "x");
    auto const second = first_.write("big-00002-of-00002.gguf", "x");
    EXPECT_EQ(resolve("Big"), split);
    EXPECT_EQ(resolve(second), split);
}

TEST_F(Resolve, ListsWhatThereIs) {
    EXPECT_TRUE(says(resolve("missing"), "no model 'missing'", "SmolLM.Q4_1", "Other", first_.path()));
    EXPECT_EQ(resolve_model("missing", folders_).error().code, Code::not_found);
    EXPECT_TRUE(says(resolve_model("missing", {}).error().message, "no folder to look in"));
    EXPECT_TRUE(says(resolve_model("missing", {"/no/such/folder"}).error().message, "no models in /no/such/folder"));
    for (int i = 10; i < 40; ++i) (void)first_.write("m" + std::to_string(i) + ".gguf", "x");
    EXPECT_TRUE(says(resolve("missing"), " and 12 more"));
}

TEST_F(Resolve, RefusesWhatIsNeitherNameNorFile) {
    EXPECT_TRUE(says(resolve(""), "name is empty"));
    EXPECT_TRUE(says(resolve(first_.path()), "it is a folder"));
    EXPECT_TRUE(says(resolve("../SmolLM.Q4_1"), "no such file"));
    EXPECT_TRUE(says(resolve(first_.path() + "/none.gguf"), "no such file"));
}

TEST(ModelId, IsTheFileNameWithoutItsSuffixes) {
    EXPECT_EQ(model_id("/a/b/SmolLM2-135M-Instruct.Q4_1.gguf"), "SmolLM2-135M-Instruct.Q4_1");
    EXPECT_EQ(model_id("m.GGUF"), "m");
    EXPECT_EQ(model_id("/a/big-00001-of-00003.gguf"), "big");
    EXPECT_EQ(model_id("noext"), "noext");
    EXPECT_EQ(model_id(".gguf"), ".gguf");
}

}  // namespace
}  // namespace hearth::models
