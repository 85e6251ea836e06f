// Files made to break a reader: every truncation and every flipped bit of a
// real header, and generated nonsense. Each must be refused with a message or
// read right; what was read must be what the validator promises.
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "base/sanitized.h"
#include "models/gguf.h"
#include "models/testing/says.h"
#include "testing/gguf_writer.h"

namespace hearth::models {
namespace {

using testing::GgufWriter;
using testing::says;
using testing::tiny_llama;

std::string stories() {
    auto const* root = std::getenv("HEARTH_SOURCE_DIR");
    auto const path = std::filesystem::path(root == nullptr ? "." : root) / "../shared/models/stories260Ktok512.gguf";
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

constexpr std::uint64_t kGrowthMax = (kSanitized ? 512U : 64U) << 20;  // a sanitizer keeps freed memory back

// Peak resident memory of this process, in bytes.
std::uint64_t peak_memory() {
    struct ::rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

// What holds of every file that was accepted.
::testing::AssertionResult keeps_promises(GgufFile const& file) {
    std::uint64_t end = file.data_offset;
    for (auto const& tensor : file.tensors) {
        auto const start = file.data_offset + tensor.offset;
        if (start < end || start % kGgufAlignmentMin != 0)
            return ::testing::AssertionFailure() << tensor.name << " overlaps or is not aligned";
        if (tensor.bytes == 0 || start + tensor.bytes > file.file_bytes)
            return ::testing::AssertionFailure() << tensor.name << " is outside";
        end = start + tensor.bytes;
    }
    return ::testing::AssertionSuccess();
}

::testing::AssertionResult refused_or_right(std::string_view bytes, std::uint64_t file_bytes, std::size_t& accepted) {
    auto const file = parse_gguf(std::as_bytes(std::span(bytes)), file_bytes, "hostile.gguf");
    if (file) {
        ++accepted;
        return keeps_promises(file.value());
    }
    auto const& error = file.error();
    if (error.message.size() < 20 || error.message.size() > 1000)
        return ::testing::AssertionFailure() << "message: " << error.message;
    if (error.code != Code::corrupt && error.code != Code::too_large)
        return ::testing::AssertionFailure() << to_string(error.code);
    return says(error.message, "byte ");
}

TEST(GgufHostile, EveryTruncationIsRefused) {
    auto const whole = stories();
    if (whole.empty()) GTEST_SKIP() << "../shared/models/stories260Ktok512.gguf is not there";
    auto const file = testing::parse(whole);
    ASSERT_TRUE(file) << file.error().message;

    for (std::uint64_t length = 0; length <= file->data_offset; ++length) {
        auto const cut = testing::parse(std::string_view(whole).substr(0, length));
        ASSERT_FALSE(cut) << length;
        ASSERT_TRUE(says(cut.error().message, "test.gguf: byte ")) << length;
    }
    for (auto length = file->data_offset; length < whole.size(); length += 4099) {
        auto const cut = testing::parse(std::string_view(whole).substr(0, length));
        ASSERT_FALSE(cut) << length;
        ASSERT_TRUE(says(cut.error().message, "it is truncated")) << length;
    }
}

TEST(GgufHostile, EveryFlippedBitIsRefusedOrHarmless) {
    auto whole = stories();
    if (whole.empty()) GTEST_SKIP() << "../shared/models/stories260Ktok512.gguf is not there";
    auto const file = testing::parse(whole);
    ASSERT_TRUE(file) << file.error().message;
    auto const before = peak_memory();

    auto header = whole.substr(0, file->data_offset);
    std::size_t survivors = 0;
    for (std::size_t bit = 0; bit < header.size() * 8; ++bit) {
        auto const flip = static_cast<char>(1 << (bit % 8));
        header[bit / 8] = static_cast<char>(header[bit / 8] ^ flip);
        ASSERT_TRUE(refused_or_right(header, whole.size(), survivors)) << "bit " << bit % 8 << " of byte " << bit / 8;
        header[bit / 8] = static_cast<char>(header[bit / 8] ^ flip);
    }
    RecordProperty("survivors", static_cast<int>(survivors));
    // Most of the header is token texts, where a flip makes another text.
    EXPECT_LT(survivors, header.size() * 8 / 2);
    EXPECT_LT(peak_memory() - before, kGrowthMax);
}

// Seeded, so that a failure names the file that caused it.
class Hostile {
public:
    explicit Hostile(std::uint32_t seed) : random_(seed) {}

    std::string make() {
        auto writer = tiny_llama();
        auto const wrongs = 1 + pick(3);
        for (std::uint64_t i = 0; i < wrongs; ++i) spoil(writer);
        auto bytes = writer.build();
        if (pick(4) == 0) splice(bytes);
        if (pick(8) == 0) bytes.resize(pick(bytes.size()));
        return bytes;
    }

private:
    std::uint64_t pick(std::uint64_t below) {
        return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random_);
    }

    // Numbers at which arithmetic goes wrong.
    std::uint64_t edge() {
        constexpr std::array<std::uint64_t, 14> kEdges = {0,
                                                          1,
                                                          31,
                                                          32,
                                                          1U << 20,
                                                          0x7fffffff,
                                                          0x80000000,
                                                          0xffffffff,
                                                          std::uint64_t{1} << 40,
                                                          std::uint64_t{1} << 62,
                                                          (std::uint64_t{1} << 63) - 1,
                                                          std::uint64_t{1} << 63,
                                                          ~std::uint64_t{31},
                                                          ~std::uint64_t{0} - 1};
        return kEdges[pick(kEdges.size())] + pick(2);
    }

    void spoil(GgufWriter& writer) {
        auto& tensors = writer.tensors();
        auto& victim = tensors[pick(tensors.size())];
        switch (pick(14)) {
            case 0: victim.offset = edge(); break;
            case 1: victim.offset = tensors[pick(tensors.size())].offset; break;
            case 2: victim.dimensions.assign(pick(6), edge()); break;
            case 3: victim.dimensions = {edge(), edge(), edge(), edge()}; break;
            case 4: victim.type = static_cast<std::uint32_t>(pick(4) == 0 ? edge() : pick(45)); break;
            case 5: victim.name = tensors[pick(tensors.size())].name; break;
            case 6: victim.name = std::string(pick(130), static_cast<char>(pick(256))); break;
            case 7: writer.tensor_count = edge(); break;
            case 8: writer.pair_count = edge(); break;
            case 9: writer.raw(key(), static_cast<GgufType>(pick(15)), random_bytes(pick(24))); break;
            case 10: writer.scalar(key(), pick(2) == 0 ? GgufType::string : GgufType::u64, edge()); break;
            case 11: nested(writer); break;
            case 12: writer.repeat("llama.block_count"); break;
            case 13: writer.u32(key(), static_cast<std::uint32_t>(edge())); break;
        }
    }

    void nested(GgufWriter& writer) {
        ByteWriter out;
        for (std::uint64_t depth = 1 + pick(1000); depth > 0; --depth) {
            out.write(std::uint32_t{9});
            out.write(pick(2) == 0 ? std::uint64_t{1} : edge());
        }
        writer.raw(key(), GgufType::array, std::move(out).take());
    }

    std::string key() {
        constexpr std::array kKeys = {"general.architecture",
                                      "general.alignment",
                                      "llama.block_count",
                                      "llama.attention.head_count",
                                      "llama.embedding_length",
                                      "llama.expert_count",
                                      "llama.rope.dimension_count",
                                      "split.no",
                                      "split.count",
                                      "tokenizer.ggml.model",
                                      "tokenizer.ggml.tokens",
                                      "tokenizer.ggml.scores",
                                      "tokenizer.ggml.merges",
                                      "tokenizer.ggml.eos_token_id",
                                      "tokenizer.ggml.add_bos_token",
                                      "tokenizer.chat_template",
                                      "unheard.of"};
        return kKeys[pick(kKeys.size())];
    }

    std::string random_bytes(std::uint64_t count) {
        std::string out;
        for (; count > 0; --count) out += static_cast<char>(pick(256));
        return out;
    }

    // Copies a stretch of the file over another.
    void splice(std::string& bytes) {
        auto const length = 1 + pick(64);
        if (bytes.size() <= length) return;
        bytes.replace(pick(bytes.size() - length), length, bytes.substr(pick(bytes.size() - length), length));
    }

    std::mt19937 random_;
};

TEST(GgufHostile, GeneratedMalformedFilesAreRefusedOrRight) {
    std::size_t accepted = 0;
    std::size_t accepted_huge = 0;
    auto const before = peak_memory();
    for (std::uint32_t seed = 0; seed < 1000; ++seed) {
        auto const bytes = Hostile(seed).make();
        ASSERT_TRUE(refused_or_right(bytes, bytes.size(), accepted)) << "seed " << seed;
        // The same header in front of a file said to be huge: sparse files cost nothing to make.
        ASSERT_TRUE(refused_or_right(bytes, std::uint64_t{1} << 40, accepted_huge)) << "seed " << seed;
    }
    EXPECT_LT(accepted, 100U) << "the generator makes files that are not wrong";
    EXPECT_EQ(accepted_huge, 0U) << "nothing accounts for the bytes behind the tensors";
    EXPECT_LT(peak_memory() - before, kGrowthMax);
}

// A header of the largest vocabularies there are.
TEST(GgufHostile, LargeVocabulariesTakeMilliseconds) {
    std::vector<std::string> words;
    for (int i = 0; i < 262'000; ++i) words.push_back("token" + std::to_string(i));
    auto const tokens = testing::byte_vocabulary(words);
    auto writer = tiny_llama();
    writer.texts("tokenizer.ggml.tokens", tokens).remove("tokenizer.ggml.scores").remove("tokenizer.ggml.token_type");
    auto const bytes = writer.build();

    auto const start = std::chrono::steady_clock::now();
    auto const file = testing::parse(bytes);
    auto const elapsed = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->array("tokenizer.ggml.tokens")->count, tokens.size());
    std::printf("%zu tokens: %.1f ms\n", tokens.size(), elapsed);
}

}  // namespace
}  // namespace hearth::models
