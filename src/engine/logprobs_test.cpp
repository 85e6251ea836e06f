#include "engine/logprobs.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "llama/scripted_backend.h"

namespace hearth::engine {
namespace {

TEST(logprobs, are_the_log_softmax_of_the_raw_logits_best_first) {
    auto const backend = llama::make_scripted({});
    SamplerScratch scratch;
    std::vector<float> const logits{std::log(0.1F), std::log(0.2F), std::log(0.3F), std::log(0.4F)};
    auto const logprob = make_logprob(logits, 1, 3, *backend, scratch);
    EXPECT_EQ(logprob.chosen.token, 1);
    EXPECT_NEAR(logprob.chosen.logprob, std::log(0.2), 1e-6);
    EXPECT_EQ(logprob.chosen.bytes, "\x01");
    ASSERT_EQ(logprob.top.size(), 3U);
    EXPECT_EQ(logprob.top[0].token, 3);
    EXPECT_NEAR(logprob.top[0].logprob, std::log(0.4), 1e-6);
    EXPECT_EQ(logprob.top[2].token, 1);
    EXPECT_EQ(logprob.top[2], logprob.chosen);
}

TEST(logprobs, never_hold_infinity) {
    auto const backend = llama::make_scripted({});
    SamplerScratch scratch;
    std::vector<float> const logits{0, -std::numeric_limits<float>::infinity(), -1e30F};
    auto const logprob = make_logprob(logits, 1, 3, *backend, scratch);
    EXPECT_EQ(logprob.chosen.logprob, kLogprobFloor);
    ASSERT_EQ(logprob.top.size(), 2U) << "a token that cannot be is no rival";
    EXPECT_EQ(logprob.top[1].logprob, kLogprobFloor);
}

TEST(logprobs, give_no_rivals_unless_asked_and_never_more_than_the_vocabulary) {
    auto const backend = llama::make_scripted({});
    SamplerScratch scratch;
    std::vector<float> const logits{0, 1};
    EXPECT_TRUE(make_logprob(logits, 0, 0, *backend, scratch).top.empty());
    EXPECT_EQ(make_logprob(logits, 0, 20, *backend, scratch).top.size(), 2U);
}

}  // namespace
}  // namespace hearth::engine
