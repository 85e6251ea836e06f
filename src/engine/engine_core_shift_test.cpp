// Contexts that are full. The scripted model says "0 ", "1 ", ... by how many of
// its own tokens it sees, so its text tells what is left of the context.
#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using domain::FinishReason;
using testing::counted;
using testing::counting;
using testing::Driver;
using testing::prompt_of;

llama::ScriptedOptions small_context(bool needs_checkpoints = false) {
    auto options = counting(100);
    options.context_request = 20;
    options.kv_cells = 200;
    options.needs_checkpoints = needs_checkpoints;
    return options;
}

Options caching() { return {.prompt_tokens = Driver::kPromptTokens, .credit = 1000, .reserve_output = false}; }

domain::GenerateRequest shifting(std::uint32_t tokens, std::optional<std::uint32_t> discard = {}) {
    auto request = prompt_of(8);
    request.overflow = domain::Overflow::shift;
    request.keep_tokens = 8;
    request.discard_tokens = discard;
    request.max_tokens = tokens;
    return request;
}

std::string from_to(int first, int last) {
    std::string text;
    for (int i = first; i <= last; ++i) text += std::to_string(i) + " ";
    return text;
}

// 12 pieces fill the context and a 13th is sampled; half of the 12 stay.
TEST(engine_shift, drops_half_of_what_is_behind_the_head_and_goes_on) {
    for (bool const needs_checkpoints : {false, true}) {
        for (bool const cache : {true, false}) {
            auto options = caching();
            options.prefix_cache = cache;
            Driver driver(small_context(needs_checkpoints), options);
            driver.submit(1, shifting(25));
            driver.run();
            EXPECT_EQ(driver.of(1).text(), counted(13) + from_to(7, 12) + from_to(7, 12));
            EXPECT_EQ(driver.of(1).reason(), FinishReason::length);
            auto const& usage = driver.of(1).done->usage;
            EXPECT_EQ(usage.prompt_tokens, 8U);
            EXPECT_EQ(usage.completion_tokens, 25U);
            EXPECT_EQ(usage.context_shifts, 2U);
            EXPECT_EQ(usage.shifted_tokens, 12U);
            EXPECT_EQ(driver.core.stats().shifts_total, 2U);
            EXPECT_EQ(driver.core.stats().shifted_tokens_total, 12U);
            EXPECT_EQ(driver.core.stats().preemptions_total, 0U);
            driver.expect_empty();
        }
    }
}

TEST(engine_shift, drops_as_many_as_the_request_says) {
    Driver driver(small_context(), caching());
    driver.submit(1, shifting(16, 11));
    driver.run();
    // One of the 12 stays, and the 13th: two pieces, so the next is "2".
    EXPECT_EQ(driver.of(1).text(), counted(13) + from_to(2, 4));
    EXPECT_EQ(driver.of(1).done->usage.shifted_tokens, 11U);
    driver.expect_empty();
}

TEST(engine_shift, computes_the_tail_only) {
    Driver driver(small_context(), caching());
    driver.submit(1, shifting(14, 6));
    driver.run();
    EXPECT_EQ(driver.core.stats().prompt_tokens_total, 8U + 6U) << "the head is in the tree";
}

TEST(engine_shift, never_happens_to_others) {
    Driver driver(small_context(), caching());
    auto request = shifting(25);
    request.overflow = domain::Overflow::error;
    driver.submit(1, request);
    driver.run();
    EXPECT_EQ(driver.of(1).text(), counted(12));
    EXPECT_EQ(driver.of(1).reason(), FinishReason::length);
    EXPECT_EQ(driver.of(1).done->usage.context_shifts, 0U);
}

TEST(engine_shift, is_each_choices_own) {
    Driver driver(small_context(), caching());
    auto request = shifting(25);
    request.choices = 3;
    driver.submit(1, request);
    driver.run();
    for (std::uint32_t i = 0; i < 3; ++i)
        EXPECT_EQ(driver.of(1).text(i), counted(13) + from_to(7, 12) + from_to(7, 12)) << i;
    EXPECT_EQ(driver.of(1).done->usage.context_shifts, 6U);
    driver.expect_empty();
}

TEST(engine_shift, holds_back_no_stop_string_and_no_sampler) {
    Driver driver(small_context(), caching());
    auto request = shifting(25);
    request.stop = {"12 7"};  // across the shift
    driver.submit(1, request);
    // A token that was said twice is out of reach, also of the one said before the shift.
    auto penalised = shifting(14);
    penalised.sampling.frequency_penalty = 2;
    penalised.sampling.repeat_last_n = -1;
    penalised.sampling.logit_bias = {{256 + 7, -15.0F}};  // wins without the penalty, not with it
    driver.submit(2, penalised);
    driver.run();
    EXPECT_EQ(driver.of(1).text(), counted(12));
    EXPECT_EQ(driver.of(1).reason(), FinishReason::stop);
    EXPECT_EQ(driver.of(1).choices[0].done->stop_string, "12 7");
    EXPECT_FALSE(driver.of(2).text().ends_with("12 7 ")) << driver.of(2).text();
    driver.expect_empty();
}

TEST(engine_shift, is_a_prompt_beside_those_that_decode) {
    auto scripted = counting(1000);
    scripted.context_request = 400;
    scripted.kv_cells = 4000;
    auto options = caching();
    options.mixed_tokens_max = 32;
    Driver driver(scripted, options);
    auto request = prompt_of(300);
    request.overflow = domain::Overflow::shift;
    request.keep_tokens = 0;
    request.discard_tokens = 100;
    request.max_tokens = 250;
    driver.submit(1, request);
    driver.submit(2, prompt_of(4));
    driver.run();
    EXPECT_EQ(driver.of(1).done->usage.context_shifts, 2U);
    EXPECT_EQ(driver.of(2).text(), counted(396)) << "to the end of its own context";
    std::size_t largest = 0;
    bool decoded = false;
    for (auto const& batch : driver.backend.batches) {
        if (decoded) largest = std::max(largest, batch.size());
        decoded = decoded || batch.front().token != 'x';
    }
    EXPECT_LE(largest, 32U);
    driver.expect_empty();
}

// Two fill their contexts where there is room for little more than one.
TEST(engine_shift, gets_along_with_swapping) {
    auto scripted = small_context();
    scripted.kv_cells = 24;
    Driver driver(scripted, caching());
    for (RequestId id = 1; id <= 4; ++id) driver.submit(id, shifting(40));
    driver.run();
    for (RequestId id = 1; id <= 4; ++id) {
        EXPECT_EQ(driver.of(id).tokens(), 40U);
        EXPECT_EQ(driver.of(id).text(), driver.of(1).text()) << id;
        EXPECT_GE(driver.of(id).done->usage.context_shifts, 3U);
    }
    driver.expect_empty();
}

TEST(engine_shift, ends_when_cancelled_or_failing) {
    Driver driver(small_context(), caching());
    driver.submit(1, shifting(1000, 1));
    for (int i = 0; i < 50; ++i) driver.step();
    driver.cancel(1);
    EXPECT_EQ(driver.of(1).reason(), FinishReason::cancelled);
    driver.submit(2, shifting(1000));
    driver.backend.on_copy = [] { return Error(Code::internal, "no copies today"); };
    driver.submit(3, shifting(1000));
    driver.run();
    EXPECT_TRUE(driver.of(2).failed || driver.of(3).failed);
    driver.expect_empty();
}

TEST(engine_shift, changes_no_guess_into_a_token) {
    std::string texts[2];
    for (int const on : {0, 1}) {
        auto scripted = small_context();
        scripted.pieces.resize(5);
        scripted.repeat = true;
        scripted.context_request = 64;
        auto options = caching();
        options.speculation = on != 0;
        Driver driver(scripted, options);
        driver.backend.on_decode = [&driver](std::span<llama::BatchEntry const> batch) {
            driver.clock.advance(std::chrono::microseconds(3000 + 300 * batch.size()));
            return ok();
        };
        driver.submit(1, shifting(300));
        driver.run();
        texts[on] = driver.of(1).text();
        EXPECT_EQ(driver.of(1).tokens(), 300U);
        EXPECT_EQ(driver.of(1).done->timings.draft_n_accepted > 100, on == 1);
        driver.expect_empty();
    }
    EXPECT_EQ(texts[0], texts[1]);
}

}  // namespace
}  // namespace hearth::engine
