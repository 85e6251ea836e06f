#include "models/gguf.h"

#include <cstdlib>
#include <functional>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "models/testing/says.h"
#include "testing/gguf_writer.h"

namespace hearth::models {
namespace {

using testing::GgufWriter;
using testing::parse;
using testing::says;
using testing::tiny_llama;

// The message of a refusal; empty if the bytes were accepted.
std::string refusal(std::string_view bytes) {
    auto const file = parse(bytes);
    if (file) return {};
    EXPECT_EQ(file.error().code, Code::corrupt) << file.error().message;
    EXPECT_EQ(file.error().param, "test.gguf");
    return file.error().message;
}

std::string refusal(GgufWriter const& writer) { return refusal(writer.build()); }

template <typename Change>
std::string refusal_after(Change const& change) {
    auto writer = tiny_llama();
    change(writer);
    return refusal(writer);
}

TEST(Gguf, AcceptsACompleteModelAndReportsWhatItHolds) {
    auto const bytes = tiny_llama().build();
    auto const file = parse(bytes);

    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->version, 3U);
    EXPECT_EQ(file->file_bytes, bytes.size());
    EXPECT_EQ(file->text("general.architecture"), "llama");
    EXPECT_EQ(file->number("llama.block_count"), 1U);
    EXPECT_EQ(file->number("no.such.key"), std::nullopt);
    EXPECT_EQ(file->text("llama.block_count"), "");
    ASSERT_NE(file->array("tokenizer.ggml.tokens"), nullptr);
    EXPECT_EQ(file->array("tokenizer.ggml.tokens")->count, 264U);
    EXPECT_EQ(file->array("tokenizer.ggml.token_type")->numbers[0], 2);
    ASSERT_EQ(file->tensors.size(), 11U);
    EXPECT_EQ(file->tensors[1].name, "output_norm.weight");
    EXPECT_EQ(file->tensors[1].bytes, 128U);
    EXPECT_EQ(file->data_offset % 32, 0U);
    EXPECT_TRUE(file->warnings.empty());
}

TEST(Gguf, ReadsEveryScalarType) {
    auto writer = tiny_llama();
    writer.scalar("x.u8", GgufType::u8, std::uint8_t{200}).scalar("x.i8", GgufType::i8, std::int8_t{-3});
    writer.scalar("x.u16", GgufType::u16, std::uint16_t{60000}).scalar("x.i16", GgufType::i16, std::int16_t{7});
    writer.scalar("x.i32", GgufType::i32, std::int32_t{-1}).scalar("x.u64", GgufType::u64, std::uint64_t{1} << 40);
    writer.scalar("x.i64", GgufType::i64, std::int64_t{5}).scalar("x.f64", GgufType::f64, 0.25).boolean("x.bool", true);
    auto const file = parse(writer.build());

    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->number("x.u8"), 200U);
    EXPECT_EQ(file->number("x.i8"), std::nullopt) << "negative";
    EXPECT_EQ(file->number("x.u16"), 60000U);
    EXPECT_EQ(file->number("x.i16"), 7U);
    EXPECT_EQ(file->number("x.u64"), std::uint64_t{1} << 40);
    EXPECT_EQ(file->number("x.i64"), 5U);
    EXPECT_EQ(std::get<double>(file->metadata.at("x.f64")), 0.25);
    EXPECT_TRUE(std::get<bool>(file->metadata.at("x.bool")));
}

TEST(Gguf, NamesWhatIsNoGguf) {
    EXPECT_TRUE(says(refusal(""), "needs 4 bytes, but the file has 0 left"));
    EXPECT_TRUE(says(refusal("PK\x03\x04rest of it"), "ZIP"));
    EXPECT_TRUE(says(refusal("version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"));
    EXPECT_TRUE(says(refusal("<!DOCTYPE html>"), "HTML"));
    EXPECT_TRUE(says(refusal("tjgg\x03\0\0\0"), "old GGML format"));
    EXPECT_TRUE(says(refusal("\x7f"
                             "ELF"),
                     "'\\x7fELF'"));
}

TEST(Gguf, NamesVersionsItDoesNotRead) {
    auto const version = [](std::uint32_t v) { return refusal_after([&](auto& w) { w.version = v; }); };
    EXPECT_EQ(version(2), "");
    EXPECT_TRUE(says(version(1), "byte 4", "no longer supported"));
    EXPECT_TRUE(says(version(4), "version 4 is unknown"));
    EXPECT_TRUE(says(version(0x03000000), "big-endian GGUF file (version 3)"));
    EXPECT_TRUE(says(version(0), "version 0 is unknown"));
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.tensor_count = kGgufTensorsMax + 1; }),
                     "claims 131073 tensors; at most 131072"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.tensor_count = 100'000; }), "claims 100000 tensors of at least 33 bytes"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.pair_count = kGgufMetadataMax + 1; }), "at most 65536"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.pair_count = 60'000; }), "claims 60000 metadata pairs"));
    EXPECT_NE(refusal_after([](auto& w) { w.pair_count = 3; }), "");
    EXPECT_NE(refusal_after([](auto& w) { w.tensor_count = 12; }), "");
}

TEST(Gguf, RefusesKeysThatUpstreamWouldReadDifferently) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("", 1); }), "key is empty"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32(std::string("a\0b", 3), 1); }), "'a\\x00b'"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.u32("sm\xc3\xb8r", 1); }), "printable ASCII"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.u32(std::string(70'000, 'k'), 1); }), "claims 70000 bytes; at most 65535"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.repeat("llama.block_count"); }), "'llama.block_count' appears twice"));
}

TEST(Gguf, RefusesValuesThatAreNotWhatTheySay) {
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.raw("x", static_cast<GgufType>(13), "0000"); }),
                     "value type 13; types 0 to 12"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.scalar("x", GgufType::boolean, std::uint8_t{2}); }), "bool with value 2"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.array("x", GgufType::boolean, std::vector<std::uint8_t>{1, 0, 7}); }),
             "bool with value 7"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.text("x", "\xff\xfe"); }), "not valid UTF-8"));
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.text("x", std::string_view("a\0b", 3)); }), "NUL byte"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.f32("x", std::numeric_limits<float>::infinity()); }), "must be finite"));
}

TEST(Gguf, RefusesLengthsBeyondTheirLimitOrTheFile) {
    auto const length = [](GgufType type, std::uint64_t claimed) {
        return refusal_after([&](auto& w) { w.scalar("x", type, claimed); });
    };
    EXPECT_TRUE(says(length(GgufType::string, std::uint64_t{4} << 30), "x claims 4294967296 bytes; at most 16777216"));
    EXPECT_TRUE(says(length(GgufType::string, 1'000'000), "x needs 1000000 bytes, but the file has"));
    EXPECT_TRUE(says(length(GgufType::string, ~std::uint64_t{0}), "claims 18446744073709551615 bytes"));
    EXPECT_TRUE(says(
        refusal_after([](auto& w) { w.text("tokenizer.chat_template", std::string(kGgufChatTemplateMax + 1, ' ')); }),
        "at most 1048576"));
}

TEST(Gguf, RefusesArraysThatAreTooLongNestedOrTruncated) {
    auto const array = [](std::uint32_t element, std::uint64_t count) {
        return refusal_after([&](auto& w) {
            ByteWriter out;
            out.write(element);
            out.write(count);
            w.raw("x", GgufType::array, std::move(out).take());
        });
    };
    EXPECT_TRUE(says(array(9, 1), "array of arrays"));
    EXPECT_TRUE(says(array(99, 1), "value type 99"));
    EXPECT_TRUE(says(array(4, std::uint64_t{1} << 62), "claims 4611686018427387904 elements of at least 4 bytes"));
    EXPECT_TRUE(says(array(8, 1'000'000'000), "elements of at least 8 bytes"));
    EXPECT_TRUE(
        says(refusal_after([](auto& w) { w.texts("tokenizer.ggml.merges", {std::string(kGgufTokenMax + 1, 'a')}); }),
             "claims 65537 bytes; at most 65536"));
}

TEST(Gguf, RefusesAlignmentsTheEngineCannotMap) {
    auto const alignment = [](std::uint32_t v) {
        return refusal_after([&](auto& w) { w.u32("general.alignment", v).alignment = v == 0 ? 32 : v; });
    };
    EXPECT_EQ(alignment(32), "");
    EXPECT_EQ(alignment(4096), "");
    for (std::uint32_t const bad : {0U, 1U, 16U, 33U, 48U, 1U << 21, 1U << 31}) {
        EXPECT_TRUE(
            says(refusal_after([&](auto& w) { w.u32("general.alignment", bad); }), "power of two from 32 to 1048576"))
            << bad;
    }
    EXPECT_TRUE(says(refusal_after([](auto& w) { w.scalar("general.alignment", GgufType::u64, std::uint64_t{32}); }),
                     "must be u32"));
}

TEST(Gguf, RefusesTensorNamesThatUpstreamWouldCutOrConfuse) {
    auto const name = [](std::string const& text) { return refusal_after([&](auto& w) { w.tensor(text, {1}); }); };
    EXPECT_EQ(name(std::string(63, 'n')), "");
    EXPECT_TRUE(says(name(std::string(64, 'n')), "claims 64 bytes; at most 63"));
    EXPECT_TRUE(says(name(""), "name is empty"));
    EXPECT_TRUE(says(name(std::string("a\0b", 3)), "control characters"));
    EXPECT_TRUE(says(name("\xc3"), "UTF-8"));
    EXPECT_TRUE(says(name("output_norm.weight"), "tensor 'output_norm.weight' appears twice"));
}

TEST(Gguf, RefusesDimensionsOutsideTheirRange) {
    auto const shape = [](std::vector<std::uint64_t> dimensions, std::uint32_t type = 0) {
        return refusal_after([&](auto& w) { w.tensor("t", std::move(dimensions), type); });
    };
    EXPECT_TRUE(says(shape({}), "0 dimensions; 1 to 4"));
    EXPECT_TRUE(says(shape({1, 1, 1, 1, 1}), "5 dimensions"));
    EXPECT_TRUE(says(shape({0}), "dimension 0 of 0"));
    EXPECT_TRUE(says(shape({4, 0}), "dimension 1 of 0"));
    EXPECT_TRUE(says(shape({std::uint64_t{1} << 63}), "dimension 0 of 9223372036854775808; 1 to 1099511627776"));
    EXPECT_TRUE(says(shape({~std::uint64_t{0}}), "18446744073709551615"));
    EXPECT_TRUE(
        says(shape({std::uint64_t{1} << 40, std::uint64_t{1} << 40}), "more than 4611686018427387904 elements"));
    EXPECT_TRUE(says(shape({std::uint64_t{1} << 40, std::uint64_t{1} << 22, 1, 1}), "beyond 64 bits"));
    EXPECT_TRUE(says(shape({std::uint64_t{1} << 40}), "it is truncated"));
}

TEST(Gguf, RefusesTypesThatDoNotExistAnyMoreOrFit) {
    auto const type = [](std::uint32_t id, std::uint64_t row) {
        return refusal_after([&](auto& w) { w.tensor("t", {row, 2}, id); });
    };
    EXPECT_EQ(type(3, 32), "");
    EXPECT_TRUE(says(type(3, 33), "rows of 33 elements, not a multiple of the 32 in a block of type Q4_1"));
    EXPECT_TRUE(says(type(4, 32), "type 4 (Q4_2), which was removed"));
    EXPECT_TRUE(says(type(31, 32), "Q4_0_4_4"));
    EXPECT_TRUE(says(type(43, 32), "unknown type 43"));
    EXPECT_TRUE(says(type(0xffffffff, 32), "unknown type 4294967295"));
}

TEST(Gguf, RefusesTensorsThatOverlapLeaveGapsOrAreOutOfOrder) {
    auto const offset = [](std::uint64_t delta) {
        auto writer = tiny_llama();
        writer.tensors()[1].offset = 264 * 32 * 4 + delta;
        return refusal(writer);
    };
    EXPECT_EQ(offset(0), "");
    EXPECT_TRUE(says(offset(32), "it leaves a gap"));
    EXPECT_TRUE(says(offset(~std::uint64_t{31}), "it overlaps them"));  // 32 less
    EXPECT_TRUE(says(offset(1), "not a multiple of the alignment 32"));
    EXPECT_TRUE(says(offset(std::uint64_t{1} << 63), "it leaves a gap"));
    auto writer = tiny_llama();
    writer.tensors()[0].offset = ~std::uint64_t{31};  // start + offset wraps to just before the data
    EXPECT_TRUE(says(refusal(writer), "it leaves a gap"));
}

TEST(Gguf, RefusesFilesThatEndTooEarlyOrTooLate) {
    auto const bytes = tiny_llama().build();
    EXPECT_TRUE(says(refusal(bytes.substr(0, bytes.size() - 1)), "ffn_down", "it is truncated"));
    EXPECT_TRUE(says(refusal(bytes + "x"), "1 bytes follow the last tensor"));
    // Padding behind the last tensor may be missing.
    auto writer = tiny_llama();
    writer.tensor("t.bias", {3});
    auto const padded = writer.build();
    EXPECT_EQ(refusal(padded.substr(0, padded.size() - 20)), "");
    EXPECT_TRUE(says(refusal(padded.substr(0, padded.size() - 21)), "it is truncated"));
}

TEST(Gguf, AsksForMoreThanItWasGivenOnlyByAnError) {
    auto const bytes = tiny_llama().build();
    auto const part = std::as_bytes(std::span(bytes)).first(200);

    auto const file = parse_gguf(part, bytes.size(), "part.gguf");
    ASSERT_FALSE(file);
    EXPECT_TRUE(says(file.error().message, "no more of the file was given"));
    EXPECT_FALSE(parse_gguf(part, ~std::uint64_t{0}, "part.gguf"));
}

TEST(Gguf, KnowsTheNamesOfTensorTypes) {
    EXPECT_EQ(ggml_type_name(3), "Q4_1");
    EXPECT_EQ(ggml_type_name(30), "BF16");
    EXPECT_EQ(ggml_type_name(4), "") << "removed";
    EXPECT_EQ(ggml_type_name(1000), "");
}

}  // namespace
}  // namespace hearth::models
