// The rules of llama::Backend, and what only the simulated one promises.
#include "sim/sim_backend.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace hearth::sim {
namespace {

using llama::BatchEntry;

class SimBackendTest : public ::testing::Test {
protected:
    static SimModel model() {
        SimModel model;
        model.context_request = 16;
        model.kv_cells = 20;
        model.sequences_max = 3;
        model.sequences_kept = 1;
        model.batch_max = 8;
        model.vocabulary = 32;
        return model;
    }

    std::vector<BatchEntry> prompt(SequenceId sequence, std::vector<Token> const& tokens, Position begin = 0) {
        std::vector<BatchEntry> batch;
        for (auto const token : tokens) batch.push_back({token, begin++, sequence, false});
        batch.back().wants_logits = true;
        return batch;
    }
    Token best(SimBackend const& backend, std::size_t index) {
        auto const logits = backend.logits(index);
        return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }

    ManualClock clock_;
};

TEST_F(SimBackendTest, AnAnswerFollowsFromTheTokensAlone) {
    SimBackend backend(model(), clock_);
    std::vector<Token> const text{1, 2, 3, 4};
    auto const expected = backend.answer(text, 2);
    ASSERT_TRUE(backend.decode(prompt(0, text)));
    EXPECT_EQ(best(backend, 3), expected[0]);
    ASSERT_TRUE(backend.decode(prompt(0, {expected[0]}, 4)));
    EXPECT_EQ(best(backend, 0), expected[1]);

    // Two halves, the first shared with another sequence, and saved and restored between.
    ASSERT_TRUE(backend.copy_sequence(0, 1, 2, {}));
    auto const blob = backend.save(1);
    ASSERT_TRUE(blob);
    ASSERT_TRUE(backend.remove(1, 0));
    ASSERT_TRUE(backend.restore(1, *blob));
    ASSERT_TRUE(backend.decode(prompt(1, {3, 4}, 2)));
    EXPECT_EQ(best(backend, 1), expected[0]);

    // Other cells below, other answer.
    ASSERT_TRUE(backend.decode(prompt(2, {9, 9, 3, 4})));
    EXPECT_NE(best(backend, 3), expected[0]);
}

TEST_F(SimBackendTest, SharedCellsCountOnceAndLiveAsLongAsAnOwner) {
    SimBackend backend(model(), clock_);
    ASSERT_TRUE(backend.decode(prompt(0, {1, 2, 3, 4})));
    ASSERT_TRUE(backend.copy_sequence(0, 1, 3, {}));
    EXPECT_EQ(backend.cells_used(), 4U);
    ASSERT_TRUE(backend.remove(0, 0));
    EXPECT_EQ(backend.cells_used(), 3U);
    EXPECT_EQ(backend.sequences_used(), 1U);
    ASSERT_TRUE(backend.remove(1, 1));
    EXPECT_EQ(backend.cells_used(), 1U);
}

TEST_F(SimBackendTest, WhatBreaksTheRulesIsRefusedAndChangesNothing) {
    SimBackend backend(model(), clock_);
    ASSERT_TRUE(backend.decode(prompt(0, {1, 2})));
    EXPECT_EQ(backend.decode({}).error().code, Code::invalid_argument);
    EXPECT_EQ(backend.decode(prompt(0, {1}, 1)).error().code, Code::invalid_argument);
    EXPECT_EQ(backend.decode(prompt(4, {1})).error().code, Code::invalid_argument);
    EXPECT_EQ(backend.decode(prompt(1, {32})).error().code, Code::invalid_argument);
    EXPECT_EQ(backend.decode(prompt(1, std::vector<Token>(9, 1))).error().code, Code::invalid_argument);
    EXPECT_FALSE(backend.copy_sequence(0, 1, 3, {}));
    EXPECT_FALSE(backend.copy_sequence(1, 0, 0, {})) << "the target is not empty";
    EXPECT_FALSE(backend.restore(1, std::vector<std::byte>(7)));
    for (Position begin = 2; begin < 16; begin += 7)
        ASSERT_TRUE(backend.decode(prompt(0, std::vector<Token>(7, 1), begin)));
    EXPECT_EQ(backend.decode(prompt(0, {1}, 16)).error().code, Code::invalid_argument) << "beyond the context";
    EXPECT_EQ(backend.decode(prompt(1, std::vector<Token>(5, 1))).error().code, Code::overloaded);
    EXPECT_EQ(backend.cells_used(), 16U);
}

TEST_F(SimBackendTest, ARecurrentModelIsCopiedAsAWholeAndNeverCut) {
    auto recurrent = model();
    recurrent.recurrent = true;
    SimBackend backend(recurrent, clock_);
    EXPECT_FALSE(backend.properties().can_truncate);
    ASSERT_TRUE(backend.decode(prompt(0, {1, 2, 3})));
    EXPECT_FALSE(backend.copy_sequence(0, 1, 2, {}));
    EXPECT_FALSE(backend.remove(0, 2));
    EXPECT_TRUE(backend.copy_sequence(0, 1, 3, {}));
    EXPECT_TRUE(backend.remove(0, 0));
}

TEST_F(SimBackendTest, StepsTakeWhatTheyCost) {
    auto priced = model();
    priced.costs.step_ms = 5;
    priced.costs.row_ms = 2;
    priced.costs.prompt_token_ms = 1;
    priced.costs.attended_us = 100;
    SimBackend backend(priced, clock_);
    ASSERT_TRUE(backend.decode(prompt(0, {1, 2, 3})));
    // One row, two more tokens, 1 + 2 + 3 positions.
    EXPECT_NEAR(to_ms(clock_.now() - Instant{}), 5 + 2 + 2 * 1 + 6 * 0.1, 1e-3);
    EXPECT_EQ(backend.work().rows, 1U);
    EXPECT_EQ(backend.work().prompt_tokens, 2U);
}

TEST_F(SimBackendTest, FaultsComeAsOftenAsAsked) {
    auto faulty = model();
    faulty.faults.decode_one_in = 4;
    SimBackend backend(faulty, clock_);
    int failed = 0;
    for (int i = 0; i < 1000; ++i) {
        failed += backend.decode(prompt(0, {1})) ? 0 : 1;
        ASSERT_TRUE(backend.remove(0, 0));
    }
    EXPECT_NEAR(failed, 250, 60);
}

}  // namespace
}  // namespace hearth::sim
