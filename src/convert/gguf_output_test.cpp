#include "convert/gguf_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/gguf.h"
#include "testing/temporary_folder.h"

namespace hearth::convert {
namespace {

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

TEST(GgufOutput, WritesAFileThatTheReaderTakesInPieces) {
    hearth::testing::TemporaryFolder const folder;
    auto const path = folder / "m.gguf";
    Metadata metadata;
    add_llama(metadata);
    std::vector<OutputTensor> const tensors{{"rope_freqs.weight", {5}, ElementType::f32},
                                            {"x.weight", {2, 3}, ElementType::bf16}};
    int const fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    auto output = GgufOutput::create(fd, metadata, tensors);
    ASSERT_TRUE(output) << output.error().message;
    for (auto const& tensor : tensors) {
        EXPECT_FALSE(output->complete());
        std::vector<std::byte> const bytes(tensor.bytes(), std::byte{1});
        ASSERT_TRUE(output->write(std::span(bytes).first(3)));
        ASSERT_TRUE(output->write(std::span(bytes).subspan(3)));
    }
    EXPECT_TRUE(output->complete());
    ::close(fd);
    EXPECT_EQ(std::filesystem::file_size(path), GgufOutput::file_bytes(metadata, tensors));
    auto const read = models::read_gguf(path);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->tensors[1].dimensions, (std::vector<std::uint64_t>{3, 2}));
}

TEST(GgufOutput, SaysThatItCannotWrite) {
    Metadata metadata;
    add_llama(metadata);
    auto const output = GgufOutput::create(-1, metadata, {});
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
