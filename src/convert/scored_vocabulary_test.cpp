#include "convert/scored_vocabulary.h"

#include <string>

#include <gtest/gtest.h>

namespace hearth::convert {
namespace {

json::Document document(std::string text) {
    auto parsed = json::Document::parse(std::move(text), {}, "test");
    EXPECT_TRUE(parsed);
    return std::move(parsed).value();
}

SentencePieceModel model() {
    return {.pieces = {{"<unk>", 0, PieceKind::unknown},
                       {"<s>", 0, PieceKind::control},
                       {"\xe2\x96\x81\xe2\x96\x81", -5, PieceKind::user_defined},
                       {"a", -1, PieceKind::normal}}};
}

TokenType type_of(ScoredTokens const& scored, std::size_t id) {
    return static_cast<TokenType>(scored.tokens.types.at(id));
}

TEST(ScoredTokens, TakesPiecesOverAndFillsTheRest) {
    auto const scored = scored_tokens(model(), {}, 6);
    ASSERT_TRUE(scored) << scored.error().message;
    EXPECT_EQ(scored->tokens.texts, (std::vector<std::string>{"<unk>", "<s>", "  ", "a", "[PAD4]", "[PAD5]"}));
    EXPECT_EQ(scored->scores, (std::vector<float>{0, 0, -5, -1, -10000, -10000}));
    EXPECT_EQ(type_of(*scored, 1), TokenType::control);
    EXPECT_EQ(type_of(*scored, 2), TokenType::user_defined);
    EXPECT_EQ(type_of(*scored, 5), TokenType::unused);
}

TEST(ScoredTokens, AddedTokensReplaceAndTheLastWordIsTheConfigs) {
    auto const by_text = document(R"({"<x>": 4, "<y>": 5, "<z>": 6})");
    auto const by_id = document(R"({"3": {"content": "\u2581b"}, "4": {"content": "<x>", "special": true},
                                    "1": {"content": "<unused7>", "special": false}, "99": {"content": "far"}})");
    auto const scored = scored_tokens(model(), {.by_text = by_text.root(), .by_id = by_id.root()}, 6);
    ASSERT_TRUE(scored) << scored.error().message;
    EXPECT_EQ(scored->tokens.texts, (std::vector<std::string>{"<unk>", "<unused7>", "  ", " b", "<x>", "<y>"}));
    EXPECT_EQ(type_of(*scored, 1), TokenType::control);  // by its looks
    EXPECT_EQ(type_of(*scored, 3), TokenType::user_defined);
    EXPECT_EQ(type_of(*scored, 4), TokenType::control);
    EXPECT_EQ(type_of(*scored, 5), TokenType::user_defined);
    EXPECT_EQ(scored->scores, (std::vector<float>{0, -1000, -5, -1000, -1000, -1000}));
}

TEST(ScoredTokens, RefusesWhatDoesNotFit) {
    EXPECT_NE(scored_tokens(model(), {}, 3).error().message.find("has 4 pieces, but config.json says vocab_size is 3"),
              std::string::npos);
    for (auto const* text : {R"({"x": -1})", R"({"x": "1"})", R"({"": 1})"}) {
        auto const added = document(text);
        EXPECT_NE(scored_tokens(model(), {.by_text = added.root()}, 6).error().message.find("no token with an id"),
                  std::string::npos);
    }
    for (auto const* text : {R"({"1x": {"content": "a"}})", R"({"-1": {"content": "a"}})", R"({"1": {}})"}) {
        auto const added = document(text);
        EXPECT_NE(scored_tokens(model(), {.by_id = added.root()}, 6).error().message.find("no id with a token"),
                  std::string::npos);
    }
}

TokenizerJson tokenizer(std::string const& merges, std::string const& rest = "") {
    auto parsed = parse_tokenizer_json(
        R"({"model":{"type":"BPE","byte_fallback":true,"vocab":{"a":0,"b":1,"c":2,"ab":3,"bc":4,"abc":5},"merges":[)" +
            merges + "]}" + rest + "}",
        "tokenizer.json");
    EXPECT_TRUE(parsed) << parsed.error().message;
    return std::move(parsed).value();
}

std::string refusal(std::string const& merges) {
    auto const scores = scores_of_merges(tokenizer(merges), "tokenizer.json");
    return scores ? "" : scores.error().message;
}

TEST(ScoresOfMerges, AreTheRanksOfWhatTheyMake) {
    auto const scores = scores_of_merges(tokenizer(R"(["b","c"],["a","b"],["ab","c"],["a","bc"])"), "tokenizer.json");
    ASSERT_TRUE(scores) << scores.error().message;
    EXPECT_EQ(*scores, (std::vector<float>{-1000, -1000, -1000, -1, 0, -2}));
}

TEST(ScoresOfMerges, RefuseWhatNoScoreCanStandFor) {
    EXPECT_NE(refusal(R"(["b","c"],["ab","c"],["a","b"],["a","bc"])").find("merge 3 does not stand with the others"),
              std::string::npos);
    EXPECT_NE(refusal(R"(["b","c"],["a","b"],["ab","c"])").find("1 merges make token 5, which 2 pairs"),
              std::string::npos);
    EXPECT_NE(refusal(R"(["b","c"],["a","b"],["ab","c"],["a","bc"],["a","a"])").find("merge 4 makes no token"),
              std::string::npos);
    EXPECT_NE(refusal(R"(["b","c"])").find("0 merges make token 3, which 1 pairs"), std::string::npos);
}

TEST(ScoresOfMerges, AddedTokensNeedNone) {
    auto const scores = scores_of_merges(
        tokenizer(R"(["b","c"],["a","b"])", R"(,"added_tokens":[{"id":5,"content":"abc"}])"), "tokenizer.json");
    EXPECT_TRUE(scores) << scores.error().message;
}

// "yes", "no", or why not.
std::string spaced(std::string const& rules) {
    auto const before = space_before(tokenizer(R"(["b","c"])", rules), "tokenizer.json");
    return before ? *before ? "yes" : "no" : before.error().message;
}

TEST(SpaceBefore, IsToldByTheRules) {
    std::string const replace = R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"})";
    std::string const prepend = R"({"type":"Prepend","prepend":"\u2581"})";
    EXPECT_EQ(spaced(R"(,"normalizer":{"type":"Sequence","normalizers":[)" + prepend + "," + replace + "]}"), "yes");
    EXPECT_EQ(spaced(R"(,"normalizer":)" + replace), "no");
    EXPECT_EQ(spaced(R"(,"normalizer":)" + replace +
                     R"(,"pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious"})"),
              "no");
    std::string const meta = R"(,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581","split":false)";
    EXPECT_EQ(spaced(meta + "}"), "yes");
    EXPECT_EQ(spaced(meta + R"(,"prepend_scheme":"first"})"), "yes");
    EXPECT_EQ(spaced(meta + R"(,"prepend_scheme":"never"})"), "no");
    EXPECT_EQ(spaced(meta + R"(,"add_prefix_space":false})"), "no");
}

TEST(SpaceBefore, RefusesOtherRules) {
    EXPECT_NE(spaced("").find("not marked"), std::string::npos);
    EXPECT_NE(spaced(R"(,"normalizer":{"type":"NFC"})").find("\"NFC\""), std::string::npos);
    EXPECT_NE(spaced(R"(,"normalizer":{"type":"Sequence","normalizers":[{"type":"Sequence","normalizers":[]}]})")
                  .find("in another"),
              std::string::npos);
    EXPECT_NE(spaced(R"(,"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581"})").find("Metaspace"),
              std::string::npos);
    EXPECT_NE(spaced(R"(,"pre_tokenizer":{"type":"Split","pattern":{"String":" "}})").find("Split"), std::string::npos);
}

}  // namespace
}  // namespace hearth::convert
