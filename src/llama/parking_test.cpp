// Backends that give their memory back for a while.

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "llama/runtime.h"
#include "llama/testing/backend_probe.h"
#include "llama/testing/tiny_model.h"
#include "llama/upstream.h"
#include "llama/weight_pages.h"

namespace hearth::llama {
namespace {

using namespace testing;

constexpr std::uint32_t kVocabulary = 320;

LoadOptions tiny_options(TinyModel const& model) {
    auto options = small_options(model.path());
    options.context_request = 256;
    return options;
}

struct Kind {
    TinyKind kind = TinyKind::attention;
    TinyWeights weights = TinyWeights::f32;
};

class Parking : public ::testing::TestWithParam<Kind> {
protected:
    Parking()
        : model_({.kind = GetParam().kind, .weights = GetParam().weights}),
          backend_(load_or_die(tiny_options(model_))) {}
    void SetUp() override { ASSERT_NE(backend_, nullptr); }
    TinyModel model_;
    std::unique_ptr<Backend> backend_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, Parking,
                         ::testing::Values(Kind{}, Kind{.kind = TinyKind::window}, Kind{.kind = TinyKind::hybrid},
                                           Kind{.kind = TinyKind::recurrent}, Kind{.weights = TinyWeights::q4_0},
                                           Kind{.weights = TinyWeights::iq4_nl}, Kind{.weights = TinyWeights::bf16}));

TEST_P(Parking, WhatWasParkedComputesTheSameBitsWhenItIsWoken) {
    auto const prompt = some_tokens(60, kVocabulary);
    auto const before = logits_after(*backend_, 0, prompt);
    for (int turn = 0; turn < 3; ++turn) {
        auto const parked = backend_->park();
        ASSERT_TRUE(parked) << parked.error().message;
        auto const woken = backend_->wake();
        ASSERT_TRUE(woken) << woken.error().message;
        EXPECT_EQ(logits_after(*backend_, 0, prompt), before) << "sequence 0 was empty again";
        auto const copied = backend_->copy_sequence(0, 1, 60);
        EXPECT_TRUE(copied) << copied.error().message;
    }
}

TEST_P(Parking, AParkedModelStillHasItsVocabulary) {
    auto const before = backend_->tokenize("Once upon a time", {});
    ASSERT_TRUE(backend_->park());
    auto const parked = backend_->tokenize("Once upon a time", {});
    ASSERT_TRUE(before && parked);
    EXPECT_EQ(*before, *parked);
    EXPECT_EQ(backend_->properties().info.vocabulary, kVocabulary);
}

TEST_P(Parking, StatesSavedBeforeComeBackAfterwards) {
    auto const prompt = some_tokens(60, kVocabulary), tail = some_tokens(20, kVocabulary, 2);
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    auto const blob = backend_->save(0);
    ASSERT_TRUE(blob);
    auto const expected = logits_after(*backend_, 0, tail, 60);
    ASSERT_TRUE(backend_->park());
    ASSERT_TRUE(backend_->wake());
    auto const restored = backend_->restore(3, *blob);
    ASSERT_TRUE(restored) << restored.error().message;
    EXPECT_EQ(logits_after(*backend_, 3, tail, 60), expected);
}

TEST_P(Parking, EmbeddingsAreTheSameAfterwards) {
    std::vector<std::vector<Token>> const inputs{some_tokens(20, kVocabulary)};
    auto const before = backend_->embed(inputs);
    if (!before) GTEST_SKIP() << before.error().message;
    ASSERT_TRUE(backend_->park());
    ASSERT_TRUE(backend_->wake());
    auto const after = backend_->embed(inputs);
    ASSERT_TRUE(after);
    EXPECT_EQ(*before, *after);
}

TEST(ParkedEncoder, EmbedsAfterwards) {
    TinyModel const model({.kind = TinyKind::embedding});
    auto const backend = load_or_die(tiny_options(model));
    ASSERT_NE(backend, nullptr);
    std::vector<std::vector<Token>> const inputs{some_tokens(20, 200)};
    auto const before = backend->embed(inputs);
    ASSERT_TRUE(before) << before.error().message;
    ASSERT_TRUE(backend->park());
    ASSERT_TRUE(backend->wake());
    auto const after = backend->embed(inputs);
    ASSERT_TRUE(after);
    EXPECT_EQ(*before, *after);
}

// A model whose weights upstream packs, on machines for which it does.
class PackedWeights : public ::testing::Test {
protected:
    PackedWeights() : file_({.weights = TinyWeights::iq4_nl}) {}
    void SetUp() override {
        ASSERT_TRUE(start_runtime("", {}));
        pages_ = WeightPages::open({file_.path()});
        model_.reset(llama_model_load_from_file(file_.path().c_str(), llama_model_default_params()));
        ASSERT_NE(model_, nullptr);
        pages_.attach(*model_);
        if (pages_.packed() == 0) GTEST_SKIP() << "nothing is packed for this machine";
    }
    TinyModel file_;
    WeightPages pages_;
    ModelPtr model_;
};

TEST_F(PackedWeights, ArePackedAgainByAnyNumberOfThreads) {
    for (std::uint32_t const threads : {1U, 2U, 64U}) {
        ASSERT_TRUE(pages_.check());
        pages_.give_back();
        auto const taken = pages_.take_again(threads);
        EXPECT_TRUE(taken) << taken.error().message;
    }
}

TEST_F(PackedWeights, AreNotPackedFromAFileThatChanged) {
    ASSERT_TRUE(pages_.check());
    pages_.give_back();
    auto const time = std::filesystem::last_write_time(file_.path());
    std::filesystem::last_write_time(file_.path(), time + std::chrono::seconds(2));
    auto const taken = pages_.take_again(2);
    ASSERT_FALSE(taken);
    EXPECT_EQ(taken.error().code, Code::corrupt);
    EXPECT_NE(taken.error().message.find(file_.path()), std::string::npos);
}

TEST_F(PackedWeights, AreKeptWhenAnotherFileHasTheName) {
    auto const other = file_.path() + ".new";
    std::filesystem::copy_file(file_.path(), other);
    std::filesystem::rename(other, file_.path());
    auto const checked = pages_.check();
    ASSERT_FALSE(checked);
    EXPECT_EQ(checked.error().code, Code::unsupported);
}

}  // namespace
}  // namespace hearth::llama
