// Models whose past is not a list of positions: sliding windows, recurrent
// states, none at all.

#include <gtest/gtest.h>

#include "llama/testing/backend_probe.h"
#include "llama/testing/tiny_model.h"

namespace hearth::llama {
namespace {

using namespace testing;

constexpr std::uint32_t kVocabulary = 320;
constexpr double kClose = 1e-5;

LoadOptions tiny_options(TinyModel const& model) {
    auto options = small_options(model.path());
    options.context_request = 256;
    return options;
}

class EveryGeneratingKind : public ::testing::TestWithParam<TinyKind> {
protected:
    EveryGeneratingKind() : model_({.kind = GetParam()}), backend_(load_or_die(tiny_options(model_))) {}
    void SetUp() override { ASSERT_NE(backend_, nullptr); }
    TinyModel model_;
    std::unique_ptr<Backend> backend_;
};

INSTANTIATE_TEST_SUITE_P(Kinds, EveryGeneratingKind,
                         ::testing::Values(TinyKind::attention, TinyKind::window, TinyKind::hybrid,
                                           TinyKind::recurrent));

TEST_P(EveryGeneratingKind, SequencesDoNotMix) {
    auto const a = some_tokens(50, kVocabulary, 1), b = some_tokens(30, kVocabulary, 2);
    auto const alone = logits_after(*backend_, 0, a);
    ASSERT_TRUE(backend_->remove(0, 0));
    ASSERT_TRUE(feed(*backend_, 3, b));
    EXPECT_LT(difference(alone, logits_after(*backend_, 1, a)), kClose);
}

TEST_P(EveryGeneratingKind, MixedBatchesComputeWhatSeparateOnesDo) {
    auto const a = some_tokens(20, kVocabulary, 1), b = some_tokens(30, kVocabulary, 2);
    auto const alone_a = logits_after(*backend_, 0, a);
    auto const alone_b = logits_after(*backend_, 1, b);
    ASSERT_TRUE(backend_->remove(0, 0));
    ASSERT_TRUE(backend_->remove(1, 0));
    std::vector<BatchEntry> batch;
    for (std::size_t i = 0; i < a.size(); ++i) batch.push_back({a[i], static_cast<Position>(i), 0, i + 1 == a.size()});
    for (std::size_t i = 0; i < b.size(); ++i) batch.push_back({b[i], static_cast<Position>(i), 1, i + 1 == b.size()});
    ASSERT_TRUE(backend_->decode(batch));
    EXPECT_LT(difference(alone_a, backend_->logits(a.size() - 1)), kClose);
    EXPECT_LT(difference(alone_b, backend_->logits(batch.size() - 1)), kClose);
}

TEST_P(EveryGeneratingKind, AWholeSequenceCanBeCopiedAndBothGoOn) {
    auto const prompt = some_tokens(60, kVocabulary), tail = some_tokens(20, kVocabulary, 2);
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    ASSERT_TRUE(backend_->copy_sequence(0, 1, 60));
    ASSERT_TRUE(backend_->copy_sequence(0, 2, 60));
    auto const first = logits_after(*backend_, 1, tail, 60);
    ASSERT_TRUE(feed(*backend_, 0, some_tokens(20, kVocabulary, 9), 60));
    EXPECT_LT(difference(first, logits_after(*backend_, 2, tail, 60)), kClose);
}

TEST_P(EveryGeneratingKind, ASavedSequenceComesBack) {
    auto const prompt = some_tokens(60, kVocabulary), tail = some_tokens(20, kVocabulary, 2);
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    auto const blob = backend_->save(0);
    ASSERT_TRUE(blob) << blob.error().message;
    auto const expected = logits_after(*backend_, 0, tail, 60);
    ASSERT_TRUE(backend_->remove(0, 0));
    ASSERT_TRUE(feed(*backend_, 4, some_tokens(10, kVocabulary, 7)));
    auto const status = backend_->restore(5, *blob);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_LT(difference(expected, logits_after(*backend_, 5, tail, 60)), kClose);
}

TEST_P(EveryGeneratingKind, WhatCannotBeGoneBackToIsRefusedAndNothingChanges) {
    auto const prompt = some_tokens(100, kVocabulary), tail = some_tokens(5, kVocabulary, 2);
    ASSERT_TRUE(feed(*backend_, 0, prompt));
    ASSERT_TRUE(backend_->copy_sequence(0, 1, 100));
    auto const expected = logits_after(*backend_, 1, tail, 100);
    bool const can = backend_->properties().can_truncate;
    EXPECT_EQ(can, GetParam() == TinyKind::attention || GetParam() == TinyKind::window);
    EXPECT_EQ(backend_->properties().can_share_cells, can);
    EXPECT_EQ(backend_->properties().needs_checkpoints, !can);
    if (GetParam() == TinyKind::recurrent || GetParam() == TinyKind::hybrid) {
        auto const removed = backend_->remove(0, 50);
        ASSERT_FALSE(removed);
        EXPECT_EQ(removed.error().code, Code::unsupported);
        auto const copied = backend_->copy_sequence(0, 2, 50);
        ASSERT_FALSE(copied);
        EXPECT_EQ(copied.error().code, Code::unsupported);
    }
    EXPECT_LT(difference(expected, logits_after(*backend_, 0, tail, 100)), kClose);
    EXPECT_TRUE(backend_->remove(0, 0)) << "emptying always works";
    EXPECT_TRUE(feed(*backend_, 0, prompt));
}

TEST_P(EveryGeneratingKind, EmbeddingsWorkBesideGeneration) {
    ASSERT_TRUE(feed(*backend_, 0, some_tokens(10, kVocabulary)));
    std::vector<std::vector<Token>> const inputs{some_tokens(40, kVocabulary), some_tokens(7, kVocabulary, 3)};
    auto const together = backend_->embed(inputs);
    ASSERT_TRUE(together) << together.error().message;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        EXPECT_EQ((*together)[i].size(), kTinyEmbedding);
        EXPECT_LT(difference((*backend_->embed(std::span(&inputs[i], 1)))[0], (*together)[i]), kClose);
    }
}

// As many tokens in the last batch as a run without any prefix would have.
std::vector<float> logits_of_chunks(Backend& backend, SequenceId sequence, std::span<Token const> text, Position from) {
    constexpr std::size_t kChunk = 32;
    auto at = static_cast<std::size_t>(from);
    for (; text.size() - at > kChunk; at += kChunk)
        EXPECT_TRUE(feed(backend, sequence, text.subspan(at, kChunk), static_cast<Position>(at)));
    return logits_after(backend, sequence, text.subspan(at), static_cast<Position>(at));
}

TEST_P(EveryGeneratingKind, APrefixOfALongerSequenceIsTheSameBitForBit) {
    auto const text = some_tokens(224, kVocabulary), other = some_tokens(150, kVocabulary, 5);
    auto const cold = logits_of_chunks(*backend_, 0, text, 0);
    ASSERT_TRUE(backend_->remove(0, 0));
    for (Position const end : {32, 96, 192}) {
        // A donor that goes on elsewhere, and another that keeps the cache busy.
        ASSERT_TRUE(feed(*backend_, 1, other));
        for (Position at = 0; at < end; at += 32)
            ASSERT_TRUE(feed(*backend_, 0, std::span(text).subspan(static_cast<std::size_t>(at), 32), at));
        std::vector<std::byte> blob;
        if (backend_->properties().needs_checkpoints) {
            auto taken = backend_->checkpoint(0);
            ASSERT_TRUE(taken) << taken.error().message;
            blob = *std::move(taken);
        }
        ASSERT_TRUE(feed(*backend_, 0, some_tokens(40, kVocabulary, 7), end));
        for (SequenceId const to : {2, 3}) {
            auto const copied = backend_->copy_sequence(0, to, end, blob);
            ASSERT_TRUE(copied) << copied.error().message;
            EXPECT_EQ(logits_of_chunks(*backend_, to, text, end), cold) << "from " << end;
        }
        EXPECT_TRUE(feed(*backend_, 0, some_tokens(10, kVocabulary, 8), end + 40)) << "the donor goes on";
        for (SequenceId const sequence : {0, 1, 2, 3}) ASSERT_TRUE(backend_->remove(sequence, 0));
    }
}

// In another process, as it were: same model, nothing in the cache.
TEST_P(EveryGeneratingKind, PartsAndAStateMakeTheSameSequenceBitForBit) {
    ASSERT_TRUE(backend_->properties().saves_parts);
    auto const text = some_tokens(224, kVocabulary), other = some_tokens(90, kVocabulary, 5);
    auto const cold = logits_of_chunks(*backend_, 0, text, 0);
    ASSERT_TRUE(backend_->remove(0, 0));
    bool const with_state = backend_->properties().needs_checkpoints;
    for (Position const end : {32, 96, 192}) {
        std::vector<std::pair<Position, std::vector<std::byte>>> parts;
        std::vector<std::byte> state;
        for (Position at = 0; at < 224; at += 32) {
            ASSERT_TRUE(feed(*backend_, 0, std::span(text).subspan(static_cast<std::size_t>(at), 32), at));
            if (at + 32 == end && with_state) state = backend_->checkpoint(0).value();
        }
        // Of a sequence that has gone on, in pieces that are no multiples of anything.
        for (Position at = 0; at < end; at += 57) {
            auto const to = std::min(at + 57, end);
            auto part = backend_->save_part(0, at, to);
            ASSERT_TRUE(part) << part.error().message;
            parts.emplace_back(to, *std::move(part));
        }
        auto const fresh = load_or_die(tiny_options(model_));
        EXPECT_EQ(fresh->state_key(), backend_->state_key());
        ASSERT_TRUE(feed(*fresh, 1, other));  // cells lie elsewhere
        for (auto const& [to, part] : parts) {
            auto const appended = fresh->append_part(2, part, to);
            ASSERT_TRUE(appended) << appended.error().message;
        }
        if (with_state) {
            EXPECT_FALSE(feed(*fresh, 2, std::span(text).first(1), end)) << "it has no state yet";
            EXPECT_FALSE(fresh->copy_sequence(2, 3, end));
            auto const resumed = fresh->resume(2, state);
            ASSERT_TRUE(resumed) << resumed.error().message;
        }
        ASSERT_TRUE(feed(*fresh, 1, other, 90)) << "others go on";
        ASSERT_TRUE(fresh->copy_sequence(2, 3, end));
        EXPECT_EQ(logits_of_chunks(*fresh, 2, text, end), cold) << "from " << end;
        EXPECT_EQ(logits_of_chunks(*fresh, 3, text, end), cold) << "a copy of it, from " << end;
        if (!with_state && end > 32) {
            ASSERT_TRUE(fresh->copy_sequence(2, 4, 32)) << "it can be stood on anywhere";
            EXPECT_EQ(logits_of_chunks(*fresh, 4, text, 32), cold);
        }
        ASSERT_TRUE(backend_->remove(0, 0));
    }
}

TEST_P(EveryGeneratingKind, APartThatDoesNotFitChangesNothing) {
    auto const text = some_tokens(120, kVocabulary), tail = some_tokens(5, kVocabulary, 2);
    ASSERT_TRUE(feed(*backend_, 0, text));
    auto const part = backend_->save_part(0, 60, 120).value();
    ASSERT_TRUE(feed(*backend_, 1, std::span(text).first(80)));
    ASSERT_TRUE(backend_->copy_sequence(1, 2, 80));
    auto const expected = logits_after(*backend_, 2, tail, 80);
    EXPECT_FALSE(backend_->append_part(1, part, 121));
    EXPECT_FALSE(backend_->append_part(1, part, 70));
    EXPECT_FALSE(backend_->append_part(3, part, 120)) << "it begins behind";
    EXPECT_FALSE(backend_->append_part(1, std::span(part).first(part.size() - 1), 120));
    auto bent = part;
    bent.back() ^= std::byte{1};
    EXPECT_FALSE(backend_->append_part(1, bent, 120));
    EXPECT_EQ(logits_after(*backend_, 1, tail, 80), expected);
}

TEST_P(EveryGeneratingKind, ACheckpointThatDoesNotFitLeavesTheCopyEmpty) {
    if (!backend_->properties().needs_checkpoints) return;
    ASSERT_TRUE(feed(*backend_, 0, some_tokens(40, kVocabulary)));
    auto const blob = *backend_->checkpoint(0);
    ASSERT_TRUE(feed(*backend_, 0, some_tokens(40, kVocabulary), 40));
    auto broken = blob;
    broken.back() ^= std::byte{1};
    for (auto const& [end, bytes] : {std::pair{50, blob}, std::pair{40, broken}}) {
        auto const copied = backend_->copy_sequence(0, 1, end, bytes);
        ASSERT_FALSE(copied);
        EXPECT_EQ(copied.error().code, Code::corrupt);
        EXPECT_TRUE(feed(*backend_, 1, some_tokens(5, kVocabulary))) << "empty and usable";
        ASSERT_TRUE(backend_->remove(1, 0));
    }
}

TEST(SlidingWindow, GoingBackIsExactHoweverFullTheCacheWas) {
    TinyModel const model({.kind = TinyKind::window});
    auto const prompt = some_tokens(250, kVocabulary), tail = some_tokens(5, kVocabulary, 2);
    auto const backend = load_or_die(tiny_options(model));
    ASSERT_NE(backend, nullptr);
    auto const cells = backend->properties().kv_cells;
    for (Position const begin : {240, 200, 100, 10, 1}) {
        ASSERT_TRUE(feed(*backend, 1, std::span(prompt).first(static_cast<std::size_t>(begin))));
        auto const expected = logits_after(*backend, 1, tail, begin);
        ASSERT_TRUE(backend->remove(1, 0));
        // The next to look for cells begin in the hole before the prompt's and go on into them.
        ASSERT_TRUE(feed(*backend, 2, some_tokens(100, kVocabulary, 9)));
        ASSERT_TRUE(feed(*backend, 0, prompt));
        ASSERT_TRUE(backend->remove(2, 0));
        for (std::uint32_t used = 250, other = 2; used + 250 <= cells && other < 8; used += 250, ++other)
            ASSERT_TRUE(feed(*backend, static_cast<SequenceId>(other), some_tokens(250, kVocabulary, other)));
        ASSERT_TRUE(backend->copy_sequence(0, 1, begin));
        EXPECT_LT(difference(expected, logits_after(*backend, 1, tail, begin)), kClose) << begin;
        auto const status = backend->remove(0, begin);
        ASSERT_TRUE(status) << status.error().message;
        EXPECT_LT(difference(expected, logits_after(*backend, 0, tail, begin)), kClose) << begin;
        for (SequenceId sequence = 0; sequence < 8; ++sequence) ASSERT_TRUE(backend->remove(sequence, 0));
    }
}

TEST(EmbeddingModel, EmbedsAndDoesNothingElse) {
    TinyModel const model({.kind = TinyKind::embedding});
    auto const backend = load_or_die(tiny_options(model));
    ASSERT_NE(backend, nullptr);
    std::vector<std::vector<Token>> const inputs{*backend->tokenize("abc", {}), *backend->tokenize("xyz xyz", {})};
    auto const& info = backend->properties().info;
    EXPECT_FALSE(info.generates);
    EXPECT_TRUE(info.embeds);
    EXPECT_GT(info.embed_tokens_max, 0U);
    auto const vectors = backend->embed(inputs);
    ASSERT_TRUE(vectors) << vectors.error().message;
    EXPECT_EQ((*vectors)[0].size(), kTinyEmbedding);
    EXPECT_GT(difference((*vectors)[0], (*vectors)[1]), 1e-3);
    std::vector<BatchEntry> const batch{{5, 0, 0, true}};
    auto const status = backend->decode(batch);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::unsupported);
    EXPECT_NE(status.error().message.find("bert"), std::string::npos);
    EXPECT_FALSE(backend->remove(0, 0));
    EXPECT_FALSE(backend->save(0));
}

TEST(EmbeddingModel, WhatUpstreamAssertsWhileLoadingIsAnError) {
    TinyModel const model({.kind = TinyKind::embedding, .bytes_in_word_piece = true});
    auto const backend = load_libllama(small_options(model.path()));
    ASSERT_FALSE(backend);
    EXPECT_EQ(backend.error().code, Code::corrupt);
    EXPECT_NE(backend.error().message.find("llama-vocab.cpp"), std::string::npos) << backend.error().message;
}

TEST(UnknownArchitecture, IsUnsupported) {
    TinyModel const model({.architecture = "perceptron"});
    auto const backend = load_libllama(small_options(model.path()));
    ASSERT_FALSE(backend);
    EXPECT_EQ(backend.error().code, Code::unsupported);
    EXPECT_NE(backend.error().message.find("perceptron"), std::string::npos) << backend.error().message;
}

}  // namespace
}  // namespace hearth::llama
