#include "convert/gguf_output.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/gguf.h"

namespace hearth::convert {
namespace {

class Output : public ::testing::Test {
protected:
    void SetUp() override {
        auto pattern = (std::filesystem::temp_directory_path() / "hearth-output-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        metadata_.text("general.architecture", "llama");
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    [[nodiscard]] std::string path() const { return (folder_ / "m.gguf").string(); }
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (auto const& entry : std::filesystem::directory_iterator(folder_)) names.push_back(entry.path().filename());
        return names;
    }
    Result<GgufOutput> create(Existing existing = Existing::refuse) {
        return GgufOutput::create({path(), existing, 0640}, metadata_, tensors_);
    }
    Status write_all(GgufOutput& output) const {
        for (auto const& tensor : tensors_) {
            std::vector<std::byte> const bytes(tensor.bytes(), std::byte{1});
            auto const all = std::span(bytes);
            HEARTH_CHECK(output.write(all.first(3)));
            HEARTH_CHECK(output.write(all.subspan(3)));
        }
        return output.finish();
    }

    std::filesystem::path folder_;
    Metadata metadata_;
    std::vector<OutputTensor> tensors_{{"rope_freqs.weight", {5}, ElementType::f32},
                                       {"x.weight", {2, 3}, ElementType::bf16}};
};

// A llama that the validator takes.
void add_llama(Metadata& metadata) {
    metadata.text("general.architecture", "llama");
    for (auto const* key :
         {"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"})
        metadata.u32(std::string("llama.") + key, key == std::string_view("embedding_length") ? 4 : 2);
    metadata.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    metadata.text("tokenizer.ggml.model", "gpt2");
    metadata.texts("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
    metadata.i32s("tokenizer.ggml.token_type", std::vector<std::int32_t>{1, 1, 1});
    metadata.u32("tokenizer.ggml.bos_token_id", 0);
    metadata.u32("tokenizer.ggml.eos_token_id", 1);
    metadata.texts("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
}

TEST_F(Output, AppearsWholeUnderItsNameWithTheModeAskedFor) {
    add_llama(metadata_);
    auto output = create();
    ASSERT_TRUE(output) << output.error().message;
    EXPECT_FALSE(std::filesystem::exists(path()));
    auto const written = write_all(*output);
    ASSERT_TRUE(written) << written.error().message;
    EXPECT_EQ(files(), std::vector<std::string>{"m.gguf"});
    EXPECT_EQ(std::filesystem::file_size(path()), output->file_bytes());
    EXPECT_EQ(std::filesystem::status(path()).permissions(), std::filesystem::perms{0640});
    auto const read = models::read_gguf(path());
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->tensors[1].dimensions, (std::vector<std::uint64_t>{3, 2}));
}

TEST_F(Output, LeavesNothingBehindWhenItIsDropped) {
    {
        auto output = create();
        ASSERT_TRUE(output);
        ASSERT_EQ(files().size(), 1U);
        struct ::stat stat{};
        ASSERT_EQ(::stat((folder_ / files()[0]).c_str(), &stat), 0);
        EXPECT_EQ(stat.st_mode & 0777U, 0600U);
    }
    EXPECT_TRUE(files().empty());
}

TEST_F(Output, IsNotNamedWhenTheValidatorRefusesIt) {
    metadata_ = {};  // no architecture
    {
        auto output = create();
        ASSERT_TRUE(output);
        auto const written = write_all(*output);
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code, Code::unsupported);
    }
    EXPECT_TRUE(files().empty());
}

TEST_F(Output, ReplacesAnExistingFileOnlyWhenAsked) {
    add_llama(metadata_);
    std::ofstream(path()) << "old";
    EXPECT_EQ(create().error().code, Code::invalid_argument);
    auto output = create(Existing::replace);
    ASSERT_TRUE(output);
    EXPECT_EQ(std::filesystem::file_size(path()), 3U);
    ASSERT_TRUE(write_all(*output));
    EXPECT_EQ(std::filesystem::file_size(path()), output->file_bytes());
}

TEST_F(Output, DoesNotReplaceAFileThatAppearsMeanwhile) {
    add_llama(metadata_);
    auto output = create();
    ASSERT_TRUE(output);
    std::ofstream(path()) << "other";
    EXPECT_EQ(write_all(*output).error().code, Code::invalid_argument);
    EXPECT_EQ(std::filesystem::file_size(path()), 5U);
}

TEST_F(Output, RemovesWhatAKilledProcessLeftButNotWhatAnotherStillWrites) {
    std::ofstream(folder_ / ".m.gguf.abcdef.part") << "left";
    std::ofstream(folder_ / ".other.gguf.abcdef.part") << "not ours";
    auto first = create();
    auto second = create();
    ASSERT_TRUE(first && second);
    EXPECT_EQ(files().size(), 3U);
    EXPECT_FALSE(std::filesystem::exists(folder_ / ".m.gguf.abcdef.part"));
    EXPECT_TRUE(std::filesystem::exists(folder_ / ".other.gguf.abcdef.part"));
}

TEST_F(Output, SaysWhereItCannotWrite) {
    auto const output = GgufOutput::create({(folder_ / "no/such/m.gguf").string()}, metadata_, tensors_);
    ASSERT_FALSE(output);
    EXPECT_EQ(output.error().code, Code::io);
}

TEST(Metadata, SettingAKeyAgainLeavesItInItsPlace) {
    Metadata once;
    once.u32("a", 2);
    once.u32("b", 1);
    Metadata twice;
    twice.text("a", "x");
    twice.u32("b", 1);
    twice.text("empty", "");
    twice.u32("a", 2);
    EXPECT_EQ(twice.encode(), once.encode());
    EXPECT_FALSE(twice.has("empty"));
}

}  // namespace
}  // namespace hearth::convert
