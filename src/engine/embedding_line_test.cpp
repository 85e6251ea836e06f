#include "engine/embedding_line.h"

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/sanitized.h"
#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using domain::FinishReason;
using testing::counting;
using testing::Driver;
using testing::prompt_of;

domain::GenerateRequest inputs_of(std::vector<domain::EmbedPrompt::Input> inputs) {
    domain::GenerateRequest request;
    request.prompt = domain::EmbedPrompt{std::move(inputs)};
    return request;
}

std::vector<float> alone(Driver& driver, std::string const& text) {
    std::vector<std::vector<Token>> const inputs{*driver.backend.tokenize(text, {})};
    return (*driver.backend.embed(inputs))[0];
}

TEST(embedding_line, gives_a_vector_per_input_in_their_order_and_counts_tokens) {
    Driver driver;
    driver.submit(1, inputs_of({std::string("one"), std::vector<Token>{'t', 'w', 'o'}, std::string("three")}));
    driver.run();
    auto& t = driver.of(1);
    EXPECT_EQ(t.started, (domain::Started{11, 0}));
    ASSERT_TRUE(t.embedded);
    EXPECT_EQ(t.embedded->vectors, (std::vector{alone(driver, "one"), alone(driver, "two"), alone(driver, "three")}));
    EXPECT_EQ(t.reason(), FinishReason::stop);
    ASSERT_TRUE(t.done);
    EXPECT_EQ(t.done->usage, (domain::Usage{.prompt_tokens = 11}));
    EXPECT_EQ(driver.core.stats().prompt_tokens_total, 11U);
    driver.expect_empty();
}

TEST(embedding_line, takes_turns_with_those_that_generate) {
    Driver driver(counting(40));
    driver.backend.on_embed = [&](auto inputs, auto&) {
        for (auto const& input : inputs) driver.clock.advance(std::chrono::microseconds(500) * input.size());
        return ok();
    };
    driver.submit(1, prompt_of(4));
    driver.step();
    for (RequestId id = 2; id < 8; ++id)
        driver.submit(id, inputs_of(std::vector<domain::EmbedPrompt::Input>(64, std::string(100, 'x'))));
    std::size_t steps = 0;
    while (!driver.of(7).ended()) {
        auto const before = driver.of(1).tokens();
        driver.step();
        ++steps;
        if (!driver.of(1).ended()) EXPECT_GT(driver.of(1).tokens(), before) << "the stream stood still";
        ASSERT_LT(steps, 1000U);
    }
    EXPECT_GT(steps, 6U) << "all inputs in one go";
    driver.run();
}

TEST(embedding_line, serves_the_better_class_first_and_shares_among_tenants) {
    Driver driver;
    auto slow = inputs_of(std::vector<domain::EmbedPrompt::Input>(64, std::string(600, 'x')));
    slow.tenant = "greedy";
    driver.submit(1, slow);
    driver.submit(2, slow);
    driver.step();
    auto small = inputs_of({std::string("a")});
    small.tenant = "modest";
    driver.submit(3, small);
    auto urgent = inputs_of({std::string("b")});
    urgent.tenant = "greedy";
    urgent.priority = domain::Priority::interactive;
    driver.submit(4, urgent);
    driver.step();
    EXPECT_TRUE(driver.of(4).ended());
    driver.step();
    EXPECT_TRUE(driver.of(3).ended()) << "its tenant got less by then";
    EXPECT_FALSE(driver.of(2).ended());
    driver.run();
    EXPECT_TRUE(driver.of(2).embedded);
}

TEST(embedding_line, refuses_or_cuts_an_input_that_is_too_long) {
    Driver driver({.context_request = 16});
    auto request = inputs_of({std::string("fits"), std::string(17, 'y')});
    auto const refused = driver.preparer.prepare(1, request, driver.clock.now());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::context_overflow);
    EXPECT_NE(refused.error().message.find("17"), std::string::npos);
    EXPECT_NE(refused.error().message.find("16"), std::string::npos);
    std::get<domain::EmbedPrompt>(request.prompt).truncate = true;
    driver.submit(1, request);
    driver.run();
    EXPECT_EQ(driver.of(1).embedded->vectors[1], alone(driver, std::string(16, 'y')));
    EXPECT_EQ(driver.of(1).done->usage.left_out_tokens, 1U);
    EXPECT_EQ(driver.of(1).done->usage.prompt_tokens, 20U);
}

TEST(embedding_line, refuses_tokens_outside_the_vocabulary_and_text_of_a_model_that_only_embeds) {
    Driver driver({.generates = false});
    auto const bad = driver.preparer.prepare(1, inputs_of({std::vector<Token>{1, 1 << 30}}), driver.clock.now());
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().code, Code::invalid_argument);
    EXPECT_NE(bad.error().message.find("'input' names token 1073741824"), std::string::npos);
    auto const text = driver.preparer.prepare(1, prompt_of(4), driver.clock.now());
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, Code::unsupported);
    EXPECT_NE(text.error().message.find("embeddings only"), std::string::npos);
    driver.submit(1, inputs_of({std::string("a")}));
    driver.run();
    EXPECT_TRUE(driver.of(1).embedded);
}

TEST(embedding_line, a_cancel_ends_it_at_once_and_its_tenant_leaves) {
    Driver driver;
    driver.submit(1, inputs_of({std::string("a")}));
    driver.cancel(1);
    EXPECT_EQ(driver.of(1).reason(), FinishReason::cancelled);
    EXPECT_FALSE(driver.of(1).embedded);
    EXPECT_FALSE(driver.core.has_work());
    driver.submit(2, inputs_of(std::vector<domain::EmbedPrompt::Input>(64, std::string(600, 'x'))));
    driver.step();
    EXPECT_FALSE(driver.of(2).ended()) << "too small to be cancelled halfway";
    driver.core.cancel_all();
    driver.collect();
    EXPECT_EQ(driver.of(2).reason(), FinishReason::cancelled);
    driver.expect_empty();
}

TEST(embedding_line, ends_requests_at_their_limits) {
    Driver driver(counting(4));
    auto request = inputs_of({std::string("a")});
    request.deadlines.queue_ms = 50;
    driver.submit(1, request);
    ASSERT_TRUE(driver.core.next_deadline());
    driver.clock.advance(std::chrono::milliseconds(50));
    driver.step();
    ASSERT_TRUE(driver.of(1).failed);
    EXPECT_EQ(driver.of(1).failed->code, Code::deadline_exceeded);
    EXPECT_EQ(driver.of(1).failed->param, "queue_timeout_ms");
    auto late = inputs_of(std::vector<domain::EmbedPrompt::Input>(64, std::string(600, 'x')));
    late.deadlines.prefill_ms = 10;
    driver.submit(2, late);
    driver.step();
    driver.clock.advance(std::chrono::milliseconds(10));
    driver.step();
    ASSERT_TRUE(driver.of(2).failed);
    EXPECT_EQ(driver.of(2).failed->param, "prefill_timeout_ms");
    driver.expect_empty();
}

// What fails is one request's: the others of its batch are computed without it.
TEST(embedding_line, only_the_request_that_fails_alone_fails) {
    Driver driver;
    driver.backend.on_embed = [](auto inputs, auto&) -> Status {
        for (auto const& input : inputs)
            if (std::ranges::find(input, Token{'!'}) != input.end()) return Error(Code::internal, "bad luck");
        return ok();
    };
    driver.submit(1, inputs_of({std::string("good"), std::string("fine")}));
    driver.submit(2, inputs_of({std::string("bad!")}));
    driver.submit(3, inputs_of({std::string("good")}));
    driver.run();
    EXPECT_TRUE(driver.of(1).embedded);
    ASSERT_TRUE(driver.of(2).failed);
    EXPECT_EQ(driver.of(2).failed->code, Code::internal);
    EXPECT_TRUE(driver.of(3).embedded);
    driver.expect_empty();
}

TEST(embedding_line, vectors_that_hold_no_numbers_fail_their_request_alone) {
    Driver driver;
    driver.backend.on_embed = [](auto inputs, auto& vectors) {
        for (std::size_t i = 0; i < inputs.size(); ++i)
            if (inputs[i][0] == '?') vectors[i][3] = std::numeric_limits<float>::quiet_NaN();
        return ok();
    };
    driver.submit(1, inputs_of({std::string("a"), std::string("?")}));
    driver.submit(2, inputs_of({std::string("b")}));
    driver.run();
    ASSERT_TRUE(driver.of(1).failed);
    EXPECT_NE(driver.of(1).failed->message.find("no numbers"), std::string::npos);
    EXPECT_TRUE(driver.of(2).embedded);
}

// By chance: whatever comes and goes, each request ends once, and what ends whole is right.
TEST(embedding_line, ends_every_request_once_whatever_comes_and_goes) {
    for (std::uint64_t seed = 0; seed < (kSanitized ? 20U : 200U); ++seed) {
        std::mt19937_64 random(seed);
        auto const below = [&](std::uint64_t limit) { return random() % limit; };
        Driver driver(counting(3));
        RequestId last = 0;
        for (int i = 0; i < 60; ++i) {
            auto const what = below(10);
            if (what < 4) {
                std::vector<domain::EmbedPrompt::Input> inputs(1 + below(5));
                for (auto& input : inputs) input = std::string(1 + below(400), static_cast<char>('a' + last % 26));
                auto request = inputs_of(std::move(inputs));
                request.tenant = std::string(1, static_cast<char>('A' + below(3)));
                request.priority = static_cast<domain::Priority>(below(3));
                driver.submit(++last, request);
            } else if (what < 5) {
                driver.submit(++last, prompt_of(1 + below(20)));
            } else if (what < 6 && last > 0) {
                driver.cancel(1 + below(last));
            } else {
                driver.step();
                driver.clock.advance(std::chrono::milliseconds(below(20)));
            }
        }
        driver.run();
        for (RequestId id = 1; id <= last; ++id) EXPECT_TRUE(driver.of(id).ended()) << "seed " << seed << ", " << id;
        driver.expect_empty();
    }
}

}  // namespace
}  // namespace hearth::engine
