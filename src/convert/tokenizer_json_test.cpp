#include "convert/tokenizer_json.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "convert/pre_tokenizer.h"
#include "convert/probe_text.h"

namespace hearth::convert {
namespace {

constexpr auto kBpe = R"({"added_tokens":[{"id":3,"content":"<|x|>","special":true,"normalized":false}],
    "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b",["ab","ab"]]}})";

std::string refusal(std::string text) {
    auto const tokenizer = parse_tokenizer_json(std::move(text), "tokenizer.json");
    return tokenizer ? "" : tokenizer.error().message;
}

// A tokenizer with every byte as a token, and `rest` behind the model.
TokenizerJson bytes_tokenizer(std::string const& rest) {
    std::string vocabulary;
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
        bool const printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        auto const text = utf8_of(std::u32string(1, printable ? b : next++));
        vocabulary += "\"" + (text == "\"" || text == "\\" ? "\\" + text : text) + "\":" + std::to_string(b) + ",";
    }
    auto tokenizer = parse_tokenizer_json(
        R"({"model":{"type":"BPE","vocab":{)" + vocabulary + R"("cc":256},"merges":["c c"]})" + rest + "}",
        "tokenizer.json");
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return std::move(tokenizer).value();
}

std::string encoding_error(std::string const& rest) {
    auto const tokenizer = bytes_tokenizer(rest);
    auto const ids = encode_probe(tokenizer);
    return ids ? "" : ids.error().message;
}

TEST(TokenizerJson, ReadsVocabularyMergesAndAddedTokens) {
    auto const tokenizer = parse_tokenizer_json(kBpe, "tokenizer.json");
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    ASSERT_EQ(tokenizer->tokens.size(), 4U);
    EXPECT_EQ(tokenizer->tokens[2], "ab");
    EXPECT_EQ(tokenizer->added[0].content, "<|x|>");
    EXPECT_TRUE(tokenizer->added[0].special);
    ASSERT_EQ(tokenizer->merges.size(), 2U);
    EXPECT_EQ(tokenizer->merges[1].right, "ab");
}

TEST(TokenizerJson, RefusesWhatContradictsItself) {
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}})").find("the id 0"),
              std::string::npos);
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})").find("below 2097152"),
              std::string::npos);
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":2097152},"merges":[]}})").find("below"),
              std::string::npos);
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{},"merges":[]}})").find("empty"), std::string::npos);
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}})").find("merge 0"), std::string::npos);
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a b c"]}})").find("merge 0"),
              std::string::npos);
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":0}}})").find("model.merges"), std::string::npos);
    EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"added_tokens":[{"id":0,"content":"b"}]})")
                  .find("id 0"),
              std::string::npos);
    EXPECT_NE(refusal("{}").find("no model"), std::string::npos);
    EXPECT_NE(refusal("[]").find("no model"), std::string::npos);
}

TEST(TokenizerJson, TellsTheTwoKindsOfBpeApart) {
    auto const plain = parse_tokenizer_json(kBpe, "tokenizer.json");
    auto const scored = parse_tokenizer_json(
        R"({"model":{"type":"BPE","byte_fallback":true,"vocab":{"a":0},"merges":[]}})", "tokenizer.json");
    ASSERT_TRUE(plain && scored);
    EXPECT_FALSE(plain->byte_fallback);
    EXPECT_TRUE(scored->byte_fallback);
}

TEST(TokenizerJson, RefusesModelsThatAreNotConverted) {
    EXPECT_NE(refusal(R"({"model":{"type":"Unigram","vocab":[["a",0]]}})").find("Unigram"), std::string::npos);
}

TEST(PreTokenizer, EncodesTheProbeByteByByte) {
    auto const tokenizer =
        bytes_tokenizer(R"(,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":false})");
    auto const ids = encode_probe(tokenizer);
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ(ids->size(), probe_text().size());
    EXPECT_EQ(ids->front(), static_cast<std::uint32_t>('\n'));
}

TEST(PreTokenizer, CarriesOutThePostProcessor) {
    auto const tokenizer = bytes_tokenizer(
        R"(,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true},
            "post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},
                {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"Sequence":{"id":"A"}}]}]})");
    auto const ids = encode_probe(tokenizer);
    ASSERT_TRUE(ids) << ids.error().message;
    EXPECT_EQ((*ids)[0], static_cast<std::uint32_t>('a'));
    EXPECT_EQ((*ids)[1], static_cast<std::uint32_t>(' '));
}

TEST(PreTokenizer, RefusesRulesItDoesNotCarryOut) {
    EXPECT_NE(encoding_error(R"(,"normalizer":{"type":"Replace"})").find("Replace"), std::string::npos);
    EXPECT_NE(encoding_error(R"(,"pre_tokenizer":{"type":"Metaspace"})").find("Metaspace"), std::string::npos);
    EXPECT_NE(encoding_error(R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},"behavior":"Isolated"})")
                  .find("')'"),
              std::string::npos);
    EXPECT_NE(
        encoding_error(R"(,"pre_tokenizer":{"type":"ByteLevel"},"post_processor":{"type":"Magic"})").find("Magic"),
        std::string::npos);
    EXPECT_NE(encoding_error("").find("not in the vocabulary"), std::string::npos);
}

TEST(PreTokenizer, RefusesATokenizerThatIsNotInTheTable) {
    auto const tokenizer = bytes_tokenizer(R"(,"pre_tokenizer":{"type":"ByteLevel"})");
    auto const name = detect_pre_tokenizer(tokenizer, "tokenizer.json");
    ASSERT_FALSE(name);
    EXPECT_EQ(name.error().code, Code::unsupported);
    EXPECT_NE(name.error().message.find("hash "), std::string::npos);
}

}  // namespace
}  // namespace hearth::convert
