#include "convert/sentencepiece.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace hearth::convert {
namespace {

std::string varint(std::uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
    return out;
}
std::string number(std::uint64_t field, std::uint64_t value) { return varint(field << 3) + varint(value); }
std::string text(std::uint64_t field, std::string_view value) {
    return varint(field << 3 | 2) + varint(value.size()) + std::string(value);
}
std::string real(std::uint64_t field, float value) {
    auto const bits = std::bit_cast<std::uint32_t>(value);
    return varint(field << 3 | 5) + std::string(reinterpret_cast<char const*>(&bits), sizeof bits);
}
std::string piece(std::string_view spelling, float score, int kind) {
    return text(1, text(1, spelling) + real(2, score) + (kind == 1 ? "" : number(3, static_cast<std::uint64_t>(kind))));
}

std::string bytes() {
    std::string out;
    for (int b = 0; b < 256; ++b) out += piece(fmt::format("<0x{:02X}>", b), 0, 6);
    return out;
}
std::string pieces() { return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + bytes() + piece("\xe2\x96\x81", -1, 1); }
std::string trainer(std::uint64_t type = 2) { return text(2, number(3, type) + number(35, 1)); }
std::string normalizer() { return text(3, text(1, "identity") + number(3, 1) + number(4, 0)); }
std::string whole() { return pieces() + trainer() + normalizer(); }

Error refusal(std::string const& model) {
    auto const result = parse_sentencepiece(model, "tokenizer.model");
    EXPECT_FALSE(result);
    return result ? Error() : result.error();
}
bool says(std::string const& model, std::string_view part) {
    auto const error = refusal(model);
    EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
    return error.message.find(part) != std::string::npos && error.message.starts_with("tokenizer.model: ");
}

TEST(SentencePiece, ReadsPiecesInTheOrderOfTheirIds) {
    auto const model = parse_sentencepiece(whole() + text(200, "an extension"), "tokenizer.model");
    ASSERT_TRUE(model) << model.error().message;
    ASSERT_EQ(model->pieces.size(), 259U);
    EXPECT_EQ(model->pieces[0].kind, PieceKind::unknown);
    EXPECT_EQ(model->pieces[1].text, "<s>");
    EXPECT_EQ(model->pieces[2].kind, PieceKind::byte);
    EXPECT_EQ(model->pieces[258].kind, PieceKind::normal);
    EXPECT_EQ(model->pieces[258].score, -1);
    EXPECT_TRUE(model->space_before);
}

TEST(SentencePiece, TellsWhetherATextBeginsWithASpace) {
    auto const model = parse_sentencepiece(pieces() + trainer() + text(3, number(3, 0) + number(4, 0)), "m");
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_FALSE(model->space_before);
}

TEST(SentencePiece, RefusesWhatTheEnginesTokenizerWouldDoOtherwise) {
    EXPECT_TRUE(says(pieces() + trainer(1) + normalizer(), "a model of type 1 is not converted; BPE (2) is"));
    EXPECT_EQ(refusal(pieces() + trainer(1) + normalizer()).code, Code::unsupported);
    EXPECT_TRUE(says(pieces() + normalizer(), "a model of type 1"));  // the default
    EXPECT_TRUE(says(pieces() + text(2, number(3, 2)) + normalizer(), "without byte_fallback"));
    EXPECT_TRUE(says(pieces() + text(2, number(3, 2) + number(35, 1) + number(24, 1)) + normalizer(), "behind words"));
    EXPECT_TRUE(says(pieces() + trainer(), "spaces are dropped"));  // the default
    EXPECT_TRUE(says(pieces() + trainer() + text(3, number(4, 0) + text(2, "table")), "normalised by a table"));
    EXPECT_TRUE(says(pieces() + trainer() + text(3, number(4, 0) + number(5, 0)), "spaces are not marked"));
}

TEST(SentencePiece, RefusesPiecesThatContradictEachOther) {
    auto const rest = trainer() + normalizer();
    EXPECT_TRUE(says("", "of type 1"));
    EXPECT_TRUE(says(rest, "no pieces"));
    EXPECT_TRUE(says(pieces() + piece("<s>", 0, 1) + rest, "piece 259 repeats another"));
    EXPECT_TRUE(says(pieces() + piece("<u>", 0, 2) + rest, "2 unknown pieces; there must be 1"));
    EXPECT_TRUE(says(bytes() + rest, "0 unknown pieces"));
    EXPECT_TRUE(says(piece("<unk>", 0, 2) + piece("<0x41>", 0, 6) + rest, "1 of 256 bytes are pieces"));
    EXPECT_TRUE(says(pieces() + piece("x", 0, 6) + rest, "piece 259 is called a byte, but is none"));
    EXPECT_TRUE(says(pieces() + piece("<0x4g>", 0, 6) + rest, "is called a byte"));
    EXPECT_TRUE(says(pieces() + piece("x", 0, 7) + rest, "of no known kind (7)"));
    EXPECT_TRUE(says(pieces() + piece("x", 0, 0) + rest, "of no known kind (0)"));
    EXPECT_TRUE(says(pieces() + piece("", 0, 1) + rest, "is empty"));
    EXPECT_TRUE(says(pieces() + piece("\xff", 0, 1) + rest, "is not UTF-8"));
    EXPECT_TRUE(says(pieces() + piece("x", std::numeric_limits<float>::quiet_NaN(), 1) + rest, "is no number"));
    EXPECT_TRUE(says(pieces() + piece(std::string(65537, 'x'), 0, 1) + rest, "65537 bytes; at most 65536"));
}

TEST(SentencePiece, RefusesWhatIsWrittenOtherwise) {
    EXPECT_TRUE(says(whole() + trainer(), "field 2 is there twice"));
    EXPECT_TRUE(says(whole() + text(1, text(1, "a") + text(1, "b")), "field 1 is there twice"));
    EXPECT_TRUE(says(pieces() + number(2, 1), "field 2 is no text"));
    EXPECT_TRUE(says(pieces() + text(1, text(1, "a") + number(2, 1)), "field 2 is no number"));
    EXPECT_TRUE(says(pieces() + text(1, text(1, "a") + real(3, 1)), "field 3 is no whole number"));
    EXPECT_TRUE(says(whole() + "\x0a", "byte"));
    EXPECT_TRUE(says(R"({"version": "1.0"})", "byte"));
}

TEST(SentencePiece, KnowsTheSpellingOfBytes) {
    EXPECT_TRUE(is_byte_piece("<0x0A>"));
    EXPECT_FALSE(is_byte_piece("<0x0a>"));
    EXPECT_FALSE(is_byte_piece("<0x0A"));
    EXPECT_FALSE(is_byte_piece("<0x0A>>"));
}

}  // namespace
}  // namespace hearth::convert
