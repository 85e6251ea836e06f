// Tokenising through the backend: what becomes a special token and what not.

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "base/sanitized.h"
#include "llama/testing/backend_probe.h"
#include "llama/testing/tiny_model.h"

namespace hearth::llama {
namespace {

using namespace testing;

constexpr Token kBos = 1, kEos = 2, kTurn = 259, kThink = 260;  // of the tiny vocabulary

class TinyVocabulary : public ::testing::Test {
protected:
    TinyVocabulary() : model_({}), backend_(load_or_die(small_options(model_.path()))) {}
    std::vector<Token> tokens(std::string_view text, TokenizeOptions options = {.add_special = false}) {
        auto result = backend_->tokenize(text, options);
        EXPECT_TRUE(result);
        return result ? *result : std::vector<Token>();
    }
    std::string text(std::vector<Token> const& ids) {
        std::string out;
        for (Token const id : ids) backend_->append_piece(id, out);
        return out;
    }
    TinyModel model_;
    std::unique_ptr<Backend> backend_;
};

std::ptrdiff_t count(std::vector<Token> const& tokens, Token token) {
    return std::count(tokens.begin(), tokens.end(), token);
}

TEST_F(TinyVocabulary, BosIsAddedOnlyWhenAsked) {
    EXPECT_EQ(tokens("abc", {.add_special = true}).front(), kBos);
    EXPECT_EQ(count(tokens("abc"), kBos), 0);
    EXPECT_EQ(tokens("", {.add_special = true}), std::vector<Token>{kBos});
    EXPECT_TRUE(tokens("").empty());
}

TEST_F(TinyVocabulary, ControlTextIsPlainUnlessParsed) {
    EXPECT_EQ(count(tokens("x<turn>y</s>"), kTurn), 0);
    EXPECT_EQ(count(tokens("x<turn>y</s>"), kEos), 0);
    EXPECT_EQ(text(tokens("<turn>")), " <turn>");

    auto const parsed = tokens("x<turn>y</s>", {.add_special = false, .parse_special = true});
    EXPECT_EQ(count(parsed, kTurn), 1);
    EXPECT_EQ(parsed.back(), kEos);
    EXPECT_EQ(text(parsed), " x y") << "control tokens have no text";
}

TEST_F(TinyVocabulary, UserDefinedTokensCountEverywhere) {
    EXPECT_EQ(count(tokens("a<think>b"), kThink), 1);
    EXPECT_EQ(text({kThink}), "<think>");
}

TEST_F(TinyVocabulary, AnyTextComesBackUnchanged) {
    std::mt19937 random(3);
    std::vector<std::string> const letters{"a",      "z",       " ", "\n",     "\t",     "<",         ">",
                                           "<turn>", "<think>", "7", "\u00e4", "\u4e16", "\U0001f642"};
    for (int round = 0; round < 200; ++round) {
        std::string written;
        for (std::size_t i = random() % 40; i > 0; --i) written += letters[random() % letters.size()];
        std::string back = text(tokens(written));
        // The tokenizer of this kind puts a space before each run of plain text.
        std::string expected, rest = written;
        for (std::size_t at = 0; !rest.empty(); rest.erase(0, at)) {
            bool const special = rest.starts_with("<think>");
            at = special ? 7 : std::min(rest.find("<think>"), rest.size());
            expected += (special ? "" : " ") + rest.substr(0, at);
        }
        EXPECT_EQ(back, expected) << round;
    }
}

TEST_F(TinyVocabulary, AnyBytesAreTokenised) {
    std::mt19937 random(4);
    for (int round = 0; round < 500; ++round) {
        std::string bytes(random() % 64, '\0');
        for (char& c : bytes) c = static_cast<char>(random());
        EXPECT_EQ(tokens(bytes).empty(), bytes.empty());
    }
}

TEST_F(TinyVocabulary, IdsOutsideTheVocabularyAreNothing) {
    EXPECT_EQ(text({-1, 320, 1 << 30}), "");
    EXPECT_FALSE(backend_->is_end_of_generation(-1));
    EXPECT_FALSE(backend_->is_end_of_generation(320));
    EXPECT_TRUE(backend_->is_end_of_generation(kEos));
    EXPECT_FALSE(backend_->is_end_of_generation(kBos));
}

TEST_F(TinyVocabulary, TooMuchTextIsRefused) {
    auto const result = backend_->tokenize(std::string(domain::kPromptBytesMax + 1, 'a'), {});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::too_large);
    EXPECT_NE(result.error().message.find(std::to_string(domain::kPromptBytesMax)), std::string::npos);
}

// Upstream cuts text into words with code of its own for some vocabularies and with std::regex, which
// recurses with the text, for others.
TEST(ByteVocabulary, LongRunsOfOneCharacterTokenise) {
    // Sanitized stack frames are larger.
    std::size_t const length = kSanitized ? 1U << 15 : 1U << 16;
    for (char const* cut : {"smollm", "gpt-2", "llama-bpe", "qwen2"}) {
        TinyModel const model({.pre_tokenizer = cut});
        auto const backend = load_or_die(small_options(model.path()));
        ASSERT_NE(backend, nullptr) << cut;
        for (char const* piece : {"a", "1", " ", "\xff"}) {
            std::string text;
            while (text.size() < length) text += piece;
            auto const tokens = backend->tokenize(text, {.add_special = false});
            ASSERT_TRUE(tokens) << cut << ": " << piece;
            std::string back;
            for (Token const token : *tokens) backend->append_piece(token, back);
            EXPECT_EQ(back == text, std::string_view(piece) != "\xff") << cut << ": " << piece;
        }
    }
}

// Upstream's own search takes quadratic time here: half a minute for 20,000.
TEST_F(TinyVocabulary, ManySpecialTokensInATextAreNoBurden) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += "<think>x";
    auto const begin = std::chrono::steady_clock::now();
    EXPECT_EQ(count(tokens(text), kThink), 100'000);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST(VocabularyForFillingIn, PutsThePrefixFirstAndTheMiddleLast) {
    TinyModel const model({.infills = true});
    auto const backend = load_or_die(small_options(model.path()));
    ASSERT_NE(backend, nullptr);
    EXPECT_TRUE(backend->properties().info.infills);
    auto const last = static_cast<Token>(backend->properties().vocabulary) - 1;
    auto const before = backend->tokenize("int a = <turn>", {.add_special = false});
    auto const behind = backend->tokenize(";", {.add_special = false});
    ASSERT_TRUE(before && behind);
    std::vector<Token> expected{kBos, last - 2};
    expected.insert(expected.end(), before->begin(), before->end());
    expected.push_back(last - 1);
    expected.insert(expected.end(), behind->begin(), behind->end());
    expected.push_back(last);
    auto const tokens = backend->tokenize_infill("int a = <turn>", ";");
    ASSERT_TRUE(tokens);
    EXPECT_EQ(*tokens, expected);
    EXPECT_EQ(count(*tokens, kTurn), 0) << "names of special tokens are text";
}

TEST_F(TinyVocabulary, WithoutTheTokensNothingIsFilledIn) {
    EXPECT_FALSE(backend_->properties().info.infills);
    auto const tokens = backend_->tokenize_infill("a", "b");
    ASSERT_FALSE(tokens);
    EXPECT_EQ(tokens.error().code, Code::unsupported);
    EXPECT_EQ(tokens.error().param, "suffix");
}

TEST(VocabularyOfBadFiles, BosWithoutATokenIsRefused) {
    TinyModel const model({.bos_without_token = true});
    auto const backend = load_libllama(small_options(model.path()));
    ASSERT_FALSE(backend);
    EXPECT_EQ(backend.error().code, Code::corrupt);
    EXPECT_NE(backend.error().message.find("BOS"), std::string::npos) << backend.error().message;
}

TEST(VocabularyOfBert, SeparatorsAreAddedAround) {
    TinyModel const model({.kind = TinyKind::embedding});
    auto const backend = load_or_die(small_options(model.path()));
    ASSERT_NE(backend, nullptr);
    auto const ids = backend->tokenize("abc", {});
    ASSERT_TRUE(ids);
    EXPECT_EQ(ids->front(), kBos);
    EXPECT_EQ(ids->back(), kEos);
}

}  // namespace
}  // namespace hearth::llama
