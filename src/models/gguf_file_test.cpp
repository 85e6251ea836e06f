#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/gguf.h"
#include "models/gguf_header.h"
#include "models/report.h"
#include "models/testing/says.h"
#include "testing/gguf_writer.h"

namespace hearth::models {
namespace {

using testing::GgufWriter;
using testing::says;
using testing::ScratchFolder;
using testing::tiny_llama;

// The tiny model in three splits: metadata alone, two tensors, the rest.
std::vector<GgufWriter> splits() {
    auto whole = tiny_llama();
    auto const tensors = whole.tensors();
    std::vector<GgufWriter> parts(3);
    parts[0] = whole;
    parts[0].tensors().clear();
    for (std::size_t i = 0; i < tensors.size(); ++i) parts[i < 2 ? 1 : 2].tensors().push_back(tensors[i]);
    for (std::uint16_t i = 0; i < 3; ++i) {
        parts[i]
            .u16("split.no", i)
            .u16("split.count", 3)
            .i32("split.tensors.count", static_cast<std::int32_t>(tensors.size()));
    }
    return parts;
}

std::string write(ScratchFolder const& folder, std::vector<GgufWriter> const& parts) {
    for (std::uint32_t i = 0; i < parts.size(); ++i) {
        (void)folder.write(split_path("m", i + 1, static_cast<std::uint32_t>(parts.size())), parts[i].build());
    }
    return folder.path() + "/" + split_path("m", 1, static_cast<std::uint32_t>(parts.size()));
}

template <typename Change>
std::string refusal_after(Change const& change) {
    ScratchFolder const folder;
    auto parts = splits();
    change(parts);
    auto const files = read_gguf_model(write(folder, parts));
    return files ? std::string() : files.error().message;
}

TEST(GgufFiles, AreReadFromDiskAsFromMemory) {
    ScratchFolder const folder;
    auto const bytes = tiny_llama().build();
    auto const path = folder.write("tiny.gguf", bytes);

    auto const files = read_gguf_model(path);
    ASSERT_TRUE(files) << files.error().message;
    ASSERT_EQ(files->size(), 1U);
    EXPECT_EQ(files->front().path, path);
    EXPECT_EQ(files->front().file_bytes, bytes.size());
    EXPECT_EQ(files->front().tensors.size(), 11U);
}

TEST(GgufFiles, HeadersBeyondTheFirstReadAreReadOn) {
    ScratchFolder const folder;
    auto writer = tiny_llama();
    writer.text("general.description", std::string(3'000'000, 'x'));
    auto const file = read_gguf(folder.write("large.gguf", writer.build()));

    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->text("general.description").size(), 3'000'000U);
    EXPECT_GT(file->data_offset, 3'000'000U);
}

TEST(GgufFiles, ThatAreNoRegularFileAreRefusedAtOnce) {
    ScratchFolder const folder;
    auto const fifo = folder.path() + "/fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);

    EXPECT_TRUE(says(read_gguf(fifo).error().message, "not a regular file"));
    EXPECT_TRUE(says(read_gguf(folder.path()).error().message, "a folder, not a model file"));
    EXPECT_EQ(read_gguf(folder.path() + "/none").error().code, Code::not_found);
    EXPECT_EQ(read_gguf("").error().code, Code::not_found);
    EXPECT_EQ(read_gguf(folder.write("empty.gguf", "")).error().code, Code::corrupt);
}

// A header that never ends costs its limit and no more.
TEST(GgufFiles, SparseFilesOfATerabyteAreRefused) {
    ScratchFolder const folder;
    auto const path = folder.write("sparse.gguf", tiny_llama().build());
    std::filesystem::resize_file(path, std::uint64_t{1} << 40);
    EXPECT_TRUE(says(read_gguf(path).error().message, "follow the last tensor"));

    GgufWriter writer;
    writer.array("x", GgufType::u8, std::vector<std::uint8_t>{});
    auto bytes = writer.build();
    std::uint64_t const elements = std::uint64_t{1} << 39;
    bytes.replace(bytes.size() - 8, 8, reinterpret_cast<char const*>(&elements), 8);
    auto const huge = folder.write("huge.gguf", bytes);
    std::filesystem::resize_file(huge, std::uint64_t{1} << 40);
    EXPECT_TRUE(says(read_gguf(huge).error().message, "a header may have at most 134217728 bytes"));
}

TEST(GgufFiles, VocabulariesWithoutTensorsAreNoModels) {
    ScratchFolder const folder;
    auto writer = tiny_llama();
    writer.tensors().clear();
    auto const path = folder.write("vocabulary.gguf", writer.build());

    EXPECT_TRUE(read_gguf(path));
    EXPECT_TRUE(says(read_gguf_model(path).error().message, "it holds no tensors"));
}

// A source that has less than the file's size promised, as when it shrinks.
TEST(GgufFiles, ThatShrinkWhileBeingReadAreAnError) {
    class Shrinking final : public HeaderSource {
    public:
        Status extend(std::uint64_t end) override { return Error(Code::io, "gone at " + std::to_string(end)); }
        [[nodiscard]] std::span<std::byte const> bytes() const override { return {}; }
    } source;
    auto const file = validate(source, 1000, "shrinking.gguf");
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, Code::io);
}

TEST(GgufSplits, AreReadInOrderFromAnyOfThem) {
    ScratchFolder const folder;
    (void)write(folder, splits());
    for (std::uint32_t i = 1; i <= 3; ++i) {
        auto const files = read_gguf_model(folder.path() + "/" + split_path("m", i, 3));
        ASSERT_TRUE(files) << files.error().message;
        ASSERT_EQ(files->size(), 3U);
        EXPECT_EQ((*files)[0].tensors.size() + (*files)[1].tensors.size() + (*files)[2].tensors.size(), 11U);
        EXPECT_EQ((*files)[2].number("split.no"), 2U);
    }
}

TEST(GgufSplits, ThatDoNotBelongTogetherAreRefused) {
    EXPECT_EQ(refusal_after([](auto&) {}), "");
    EXPECT_TRUE(says(refusal_after([](auto& p) { p[1].u16("split.no", 2); }), "m-00002-of-00003",
                     "split.no is 2, but its name says 1"));
    EXPECT_TRUE(says(refusal_after([](auto& p) { p[0].remove("split.no"); }), "lacks split.no or split.count"));
    EXPECT_TRUE(
        says(refusal_after([](auto& p) { p[0].u16("split.count", 4); }), "split.count is 4, but its name says 3"));
    EXPECT_TRUE(
        says(refusal_after([](auto& p) { p[0].i32("split.tensors.count", 12); }), "the first split says otherwise"));
    EXPECT_TRUE(
        says(refusal_after([](auto& p) { p[0].remove("split.tensors.count"); }), "the first split says otherwise"));
    EXPECT_TRUE(
        says(refusal_after([](auto& p) { p[2].tensors().pop_back(); }), "is 11, but the splits hold 10 tensors"));
    EXPECT_TRUE(says(refusal_after([](auto& p) { p[2].tensors().push_back(p[1].tensors()[0]); }),
                     "is in an earlier split too"));
    EXPECT_TRUE(says(refusal_after([](auto& p) { p[2].text("general.architecture", "gemma"); }),
                     "'gemma', but the first split says 'llama'"));
    EXPECT_TRUE(says(refusal_after([](auto& p) { p[2].magic = "????"; }), "m-00003-of-00003.gguf: byte 0"));
}

TEST(GgufSplits, ThatAreMissingOrRenamedAreNamed) {
    ScratchFolder const folder;
    auto const first = write(folder, splits());
    std::filesystem::rename(folder.path() + "/" + split_path("m", 2, 3), folder.path() + "/second.gguf");

    EXPECT_TRUE(says(read_gguf_model(first).error().message, "split 2 of 3 is missing"));
    EXPECT_EQ(read_gguf_model(first).error().code, Code::not_found);
    EXPECT_TRUE(says(read_gguf_model(folder.path() + "/second.gguf").error().message, "one of 3 splits",
                     "-00001-of-00003.gguf"));
    EXPECT_EQ(read_gguf_model(folder.path() + "/m-00001-of-09999.gguf").error().code, Code::too_large);
}

TEST(GgufSplits, AreRecognisedByName) {
    auto const name = parse_split_name("a/b-00002-of-00010.gguf");
    ASSERT_TRUE(name);
    EXPECT_EQ(name->prefix, "a/b");
    EXPECT_EQ(name->number, 2U);
    EXPECT_EQ(name->count, 10U);
    EXPECT_EQ(split_path(name->prefix, 1, 10), "a/b-00001-of-00010.gguf");
    for (auto const* const other :
         {"b.gguf", "-00001-of-00002.gguf", "a/-00001-of-00002.gguf", "b-00003-of-00002.gguf", "b-00000-of-00002.gguf",
          "b-0001-of-00002.gguf", "b-+0001-of-00002.gguf", "b-00001-of-00002.GGUF", "b-00001of--00002.gguf", ""}) {
        EXPECT_FALSE(parse_split_name(other)) << other;
    }
}

TEST(GgufFiles, TheDefaultModelIsValid) {
    auto const* cache = std::getenv("XDG_CACHE_HOME");
    auto const* home = std::getenv("HOME");
    auto const root =
        cache != nullptr && *cache != '\0' ? std::string(cache) : std::string(home == nullptr ? "" : home) + "/.cache";
    auto const path = root + "/hearth/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";

    auto const report = check_model(path);
    ASSERT_TRUE(report.valid) << report.problems.front();
    EXPECT_TRUE(report.warnings.empty()) << report.warnings.front();
    EXPECT_EQ(report.vocabulary, 49152U);
    EXPECT_EQ(report.parameters, 134515008U);
    EXPECT_EQ(report.quantization, "Q4_1");
    EXPECT_TRUE(report.chat_template);
    std::printf("%s: %.1f ms\n", path.c_str(), report.elapsed_ms);
}

}  // namespace
}  // namespace hearth::models
