#include "models/safetensors.h"

#include <array>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "models/testing/says.h"
#include "testing/safetensors_writer.h"

namespace hearth::models {
namespace {

using testing::safetensors_bytes;
using testing::SafetensorsWriter;
using testing::says;
using testing::write_file;

Result<std::vector<SafetensorsTensor>> parse(std::string const& file) {
    return parse_safetensors(std::as_bytes(std::span(file)), file.size(), "m.safetensors");
}

Error refusal(std::string const& file) {
    auto const tensors = parse(file);
    EXPECT_FALSE(tensors);
    return tensors ? Error() : tensors.error();
}

// One tensor of that description over `bytes` bytes of data.
Error refusal_of(std::string_view tensor, std::size_t bytes = 8) {
    return refusal(safetensors_bytes("{\"t\":" + std::string(tensor) + "}", std::string(bytes, 'x')));
}

class SafetensorsFolder : public ::testing::Test {
protected:
    void SetUp() override {
        auto pattern = (std::filesystem::temp_directory_path() / "hearth-safetensors-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    void write(std::string_view name, std::string_view bytes) { write_file(folder_ / name, bytes); }
    void index(std::string_view map) {
        write("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":" + std::string(map) + "}");
    }
    [[nodiscard]] Result<SafetensorsModel> open() const { return SafetensorsModel::open(folder_.string()); }

    std::filesystem::path folder_;
};

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirNames) {
    auto const tensors = parse(SafetensorsWriter()
                                   .tensor("b", "F32", {1, 2}, "01234567")
                                   .tensor("a", "BF16", {}, "89")
                                   .tensor("none", "I64", {0, 3}, "")
                                   .build());
    ASSERT_TRUE(tensors) << tensors.error().message;
    ASSERT_EQ(tensors->size(), 3U);
    auto const& a = (*tensors)[0];
    auto const& b = (*tensors)[1];
    EXPECT_EQ(a.name, "a");
    EXPECT_EQ(a.type, SafetensorsType::bf16);
    EXPECT_EQ(a.elements(), 1U);
    EXPECT_EQ(b.shape, (std::vector<std::uint64_t>{1, 2}));
    EXPECT_EQ(a.offset, b.offset + 8);
    EXPECT_EQ((*tensors)[2].bytes, 0U);
}

TEST(Safetensors, AllowsAnEmptyFileAMetadataObjectAndSpacesBehindTheHeader) {
    EXPECT_TRUE(parse(safetensors_bytes("{}", "")));
    auto const padded = safetensors_bytes(
        R"({"__metadata__":{"format":"pt"},"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   )", "x");
    EXPECT_EQ(parse(padded)->size(), 1U);
}

TEST(Safetensors, RefusesAHeaderThatDoesNotFit) {
    EXPECT_EQ(refusal("").code, Code::corrupt);
    EXPECT_EQ(refusal("1234567").code, Code::corrupt);
    EXPECT_EQ(refusal(std::string(8, '\0')).code, Code::corrupt);
    EXPECT_TRUE(says(refusal(std::string("\x03\0\0\0\0\0\0\0{}", 10)).message, "3 bytes", "a file of 10"));
    EXPECT_TRUE(says(refusal(std::string("\x01\0\0\x01\0\0\0\0{}", 10)).message, "16777217", "at most 16777216"));
    EXPECT_EQ(refusal(std::string(8, '\xff') + "{}").code, Code::too_large);
}

TEST(Safetensors, RefusesAHeaderThatIsNotOneObjectOfTensors) {
    for (auto const* header :
         {"[]", "  {}", "{]", "{\"t\":1}", "{\"t\":{}}", "{} {}", "{\"__metadata__\":[]}",
          "{\"__metadata__\":{\"a\":1}}", "{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"})
        EXPECT_EQ(refusal(safetensors_bytes(header, "")).code, Code::corrupt) << header;
    auto const tensor = std::string(R"("t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})");
    EXPECT_TRUE(says(refusal(safetensors_bytes("{" + tensor + "," + tensor + "}", "x")).message, "\"t\" twice"));
}

TEST(Safetensors, RefusesATensorThatContradictsItself) {
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})").message, "12 bytes", "hold 8"));
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[0,9]})").message, "8 bytes of data"));
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})").message, "in order"));
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})").message, "from 0 on"));
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})").message, "from 0 on"));
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","data_offsets":[0,8]})").message, "no shape"));
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})").message, "two numbers"));
    EXPECT_TRUE(says(refusal_of(R"({"shape":[2],"data_offsets":[0,8]})").message, "no dtype"));
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})").message, "unknown field"));
    EXPECT_EQ(refusal_of(R"({"dtype":"Q4","shape":[2],"data_offsets":[0,8]})").code, Code::unsupported);
    EXPECT_TRUE(says(refusal_of(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})", 1).message,
                     "9 dimensions", "at most 8"));
}

// CVE-2025-53630's class: a product that wraps around to a small number.
TEST(Safetensors, RefusesAShapeWhoseBytesPass64Bits) {
    EXPECT_TRUE(
        says(refusal_of(R"({"dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8]})").message, "2^64"));
    EXPECT_TRUE(
        says(refusal_of(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0).message, "2^64"));
}

TEST(Safetensors, RefusesOverlapsAndGaps) {
    auto const two = [](std::string const& second, std::size_t bytes) {
        return refusal(safetensors_bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":)" + second + "}",
                                         std::string(bytes, 'x')))
            .message;
    };
    EXPECT_TRUE(says(two(R"({"dtype":"U8","shape":[4],"data_offsets":[3,7]})", 7), "overlaps"));
    EXPECT_TRUE(says(two(R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})", 4), "overlaps"));
    EXPECT_TRUE(says(two(R"({"dtype":"U8","shape":[3],"data_offsets":[5,8]})", 8), "1 bytes before it"));
    EXPECT_TRUE(says(two(R"({"dtype":"U8","shape":[3],"data_offsets":[4,7]})", 9), "2 bytes at its end"));
}

TEST(Safetensors, BoundsTheNumberOfTensors) {
    std::string header = "{";
    for (std::uint64_t i = 0; i < kSafetensorsTensorsMax + 2; ++i)
        header += "\"" + std::to_string(i) + "\":" + (i % 2 == 0 ? "1" : "2") + ",";
    header.back() = '}';
    EXPECT_TRUE(says(refusal(safetensors_bytes(header, "")).message, "at most 65536"));
}

// Whatever is cut off or flipped, the result is an error or tensors that lie in the file.
TEST(Safetensors, SurvivesEveryTruncationAndEveryFlippedBit) {
    auto const whole =
        SafetensorsWriter().tensor("a.weight", "F16", {2, 2}, "01234567").tensor("b", "I64", {1}, "01234567").build();
    for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(parse(whole.substr(0, size))) << size;
    int accepted = 0;
    for (std::size_t bit = 0; bit < (whole.size() - 16) * 8; ++bit) {
        auto flipped = whole;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        auto const tensors = parse(flipped);
        if (!tensors) continue;
        ++accepted;  // a changed name, or a type of the same size
        for (auto const& tensor : *tensors) ASSERT_LE(tensor.offset + tensor.bytes, flipped.size()) << bit;
    }
    EXPECT_GT(accepted, 0);
    EXPECT_LT(accepted, 150);
}

TEST_F(SafetensorsFolder, ReadsASingleFileInPieces) {
    write("model.safetensors", SafetensorsWriter().tensor("t", "U8", {10}, "0123456789").build());
    auto const model = open();
    ASSERT_TRUE(model) << model.error().message;
    std::array<std::byte, 4> piece{};
    ASSERT_TRUE(model->read(model->tensors()[0], 5, piece));
    EXPECT_EQ(std::string(reinterpret_cast<char const*>(piece.data()), 4), "5678");
    EXPECT_TRUE(model->unchanged());
}

TEST_F(SafetensorsFolder, ReadsShardsInTheOrderOfTheirNames) {
    write("model-00001-of-00002.safetensors", SafetensorsWriter().tensor("z", "U8", {1}, "z").build());
    write("model-00002-of-00002.safetensors",
          SafetensorsWriter().tensor("b", "U8", {1}, "b").tensor("a", "U8", {1}, "a").build());
    index(R"({"b":"model-00002-of-00002.safetensors","z":"model-00001-of-00002.safetensors",)"
          R"("a":"model-00002-of-00002.safetensors"})");
    auto const model = open();
    ASSERT_TRUE(model) << model.error().message;
    std::string names;
    std::string data;
    for (auto const& tensor : model->tensors()) {
        std::array<std::byte, 1> byte{};
        ASSERT_TRUE(model->read(tensor, 0, byte));
        names += tensor.name;
        data += static_cast<char>(byte[0]);
    }
    EXPECT_EQ(names, "zab");
    EXPECT_EQ(data, "zab");
}

// The class of CVE-2024-37032: a name in a manifest that walks out of its folder.
TEST_F(SafetensorsFolder, RefusesAnIndexThatLeavesTheFolder) {
    write("a.safetensors", SafetensorsWriter().tensor("t", "U8", {1}, "x").build());
    for (auto const* file : {"../a.safetensors", "/etc/a.safetensors", "sub/a.safetensors", "..", ".a.safetensors",
                             "a.safetensors\\u0000", "a.bin", "", "..\\\\a.safetensors"}) {
        index("{\"t\":\"" + std::string(file) + "\"}");
        auto const model = open();
        ASSERT_FALSE(model) << file;
        EXPECT_TRUE(says(model.error().message, "no file beside the index"));
    }
}

TEST_F(SafetensorsFolder, RefusesAnIndexThatDisagreesWithItsShards) {
    write("a.safetensors", SafetensorsWriter().tensor("t", "U8", {1}, "x").build());
    write("b.safetensors", SafetensorsWriter().tensor("u", "U8", {1}, "x").build());
    auto const says_of = [&](std::string_view map) {
        index(map);
        auto const model = open();
        return model ? std::string() : model.error().message;
    };
    EXPECT_TRUE(says(says_of(R"({"t":"a.safetensors","u":"a.safetensors"})"), "\"u\"", "in no file"));
    EXPECT_TRUE(says(says_of(R"({"t":"b.safetensors"})"), "\"u\" is in b.safetensors", "nothing of it"));
    EXPECT_TRUE(says(says_of(R"({"t":"b.safetensors","u":"a.safetensors"})"), "index says"));
    EXPECT_TRUE(says(says_of(R"({"t":"c.safetensors"})"), "no such file"));
    EXPECT_TRUE(says(says_of("[]"), "no weight_map"));
    write("b.safetensors", SafetensorsWriter().tensor("t", "U8", {1}, "x").build());
    EXPECT_TRUE(says(says_of(R"({"t":"a.safetensors","u":"b.safetensors"})"), "index says"));
}

TEST_F(SafetensorsFolder, SaysWhatIsMissing) {
    auto const model = open();
    ASSERT_FALSE(model);
    EXPECT_EQ(model.error().code, Code::not_found);
    EXPECT_TRUE(says(model.error().message, "model.safetensors", "model.safetensors.index.json"));
}

TEST_F(SafetensorsFolder, DoesNotWaitForAPipe) {
    ASSERT_EQ(::mkfifo((folder_ / "model.safetensors").c_str(), 0600), 0);
    auto const model = open();
    ASSERT_FALSE(model);
    EXPECT_TRUE(says(model.error().message, "no regular file"));
}

TEST_F(SafetensorsFolder, NoticesAFileThatShrinks) {
    auto const file = SafetensorsWriter().tensor("t", "U8", {10}, "0123456789").build();
    write("model.safetensors", file);
    auto const model = open();
    ASSERT_TRUE(model) << model.error().message;
    std::filesystem::resize_file(folder_ / "model.safetensors", file.size() - 3);
    std::array<std::byte, 10> all{};
    auto const read = model->read(model->tensors()[0], 0, all);
    ASSERT_FALSE(read);
    EXPECT_TRUE(says(read.error().message, "it is being changed"));
    EXPECT_FALSE(model->unchanged());
}

}  // namespace
}  // namespace hearth::models
