// What goes into a step together, and what does not.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using testing::counted;
using testing::counting;
using testing::Driver;
using testing::prompt_of;

using Batch = std::vector<llama::BatchEntry>;

bool has_text(Batch const& batch) {
    return std::any_of(batch.begin(), batch.end(), [](auto const& entry) { return entry.token == 'x'; });
}
bool has_streams(Batch const& batch) {
    return std::any_of(batch.begin(), batch.end(), [](auto const& entry) { return entry.token != 'x'; });
}

// A model of a recurrent kind: a pass over the weights takes 10 ms, and one batch
// is as many passes as its sequences have lengths.
class Alternating : public ::testing::Test {
protected:
    static llama::ScriptedOptions recurrent() {
        auto options = counting(200);
        options.needs_checkpoints = options.mixing_saves_nothing = true;
        return options;
    }

    Alternating()
        : driver(recurrent(), {.prompt_tokens = Driver::kPromptTokens, .credit = 1000, .reserve_output = false}) {
        driver.backend.on_decode = [this](std::span<llama::BatchEntry const> batch) {
            std::map<llama::SequenceId, int> lengths;
            for (auto const& entry : batch) ++lengths[entry.sequence];
            std::map<int, int> passes;
            for (auto const& [sequence, length] : lengths) ++passes[length];
            driver.clock.advance(std::chrono::microseconds(10'000 * passes.size() + 500 * batch.size()));
            return ok();
        };
    }

    Driver driver;
};

TEST_F(Alternating, never_mixes_and_takes_turns) {
    for (RequestId id = 1; id <= 3; ++id) driver.submit(id, prompt_of(10));
    while (driver.of(3).tokens() == 0) driver.step();
    for (RequestId id = 4; id <= 6; ++id) driver.submit(id, prompt_of(300));
    driver.backend.batches.clear();
    driver.run();
    bool prompts_before = false;
    for (auto const& batch : driver.backend.batches) {
        EXPECT_FALSE(has_text(batch) && has_streams(batch));
        EXPECT_FALSE(has_text(batch) && prompts_before) << "streams wait for one step of prompts at most";
        prompts_before = has_text(batch);
    }
    for (RequestId id = 1; id <= 6; ++id) EXPECT_EQ(driver.of(id).text(), counted(200)) << id;
    driver.expect_empty();
}

TEST_F(Alternating, keeps_the_gaps_of_streams_within_the_target) {
    driver.submit(1, prompt_of(100));
    driver.submit(2, prompt_of(100));
    while (driver.of(2).tokens() < 5) driver.step();
    driver.submit(3, prompt_of(2000));
    Instant last = driver.clock.now();
    double gap_max = 0;
    std::uint32_t said = driver.of(1).tokens();
    int steps_of_prompts = 0;
    while (driver.of(3).tokens() == 0) {
        auto const batches = driver.backend.batches.size();
        driver.step();
        if (driver.backend.batches.size() > batches && has_text(driver.backend.batches.back())) ++steps_of_prompts;
        if (driver.of(1).tokens() == said) continue;
        said = driver.of(1).tokens();
        gap_max = std::max(gap_max, to_ms(driver.clock.now() - last));
        last = driver.clock.now();
    }
    EXPECT_LE(gap_max, 61);
    EXPECT_LE(steps_of_prompts, 2000 / 48) << "some 78 rows fit beside a step of two streams";
    driver.run();
    driver.expect_empty();
}

TEST_F(Alternating, computes_prompts_however_slow_the_streams_are) {
    driver.backend.on_decode = [this](std::span<llama::BatchEntry const> batch) {
        driver.clock.advance(std::chrono::milliseconds(has_streams({batch.begin(), batch.end()}) ? 200 : 20));
        return ok();
    };
    driver.submit(1, prompt_of(10));
    while (driver.of(1).tokens() < 3) driver.step();
    driver.submit(2, prompt_of(160));
    auto const before = driver.core.stats().steps_total;
    while (driver.of(2).tokens() == 0) driver.step();
    EXPECT_LE(driver.core.stats().steps_total - before, 2 * 160 / 16 + 2);
    driver.run();
    driver.expect_empty();
}

// A model that computes other bits in other company, and a request that wants none.
class Pinned : public ::testing::Test {
protected:
    static llama::ScriptedOptions shaped(bool needs_checkpoints) {
        auto options = counting(300);
        options.determinism = domain::Determinism::on_request;
        options.needs_checkpoints = options.mixing_saves_nothing = needs_checkpoints;
        options.context_request = 260;
        return options;
    }
    static domain::GenerateRequest alone_please() {
        auto request = prompt_of(0);
        request.prompt = domain::TokenPrompt{std::vector<domain::Token>(150, 'p')};
        request.deterministic = true;
        request.overflow = domain::Overflow::shift;
        request.keep_tokens = 10;
        request.max_tokens = 200;
        return request;
    }

    // Where each step of request 1 began, and how many rows it had; fails where there are rows of others.
    static std::vector<std::pair<llama::Position, std::size_t>> shapes(Driver& driver) {
        std::vector<std::pair<llama::Position, std::size_t>> out;
        std::optional<llama::SequenceId> mine;
        driver.backend.batches.clear();
        driver.backend.on_logits = {};
        while (!driver.of(1).ended()) {
            auto const before = driver.backend.batches.size();
            driver.step();
            if (driver.backend.batches.size() == before) continue;
            auto const& batch = driver.backend.batches.back();
            auto const text = std::any_of(batch.begin(), batch.end(), [](auto const& e) { return e.token == 'p'; });
            if (text) mine = batch.front().sequence;
            auto const is_mine = [&](auto const& entry) { return mine && entry.sequence == *mine; };
            if (std::none_of(batch.begin(), batch.end(), is_mine)) continue;
            EXPECT_TRUE(std::all_of(batch.begin(), batch.end(), is_mine)) << "somebody is in its step";
            out.emplace_back(batch.front().position, batch.size());
        }
        return out;
    }
};

TEST_F(Pinned, is_computed_in_the_same_steps_alone_and_in_a_crowd) {
    for (bool const needs_checkpoints : {false, true}) {
        Driver alone(shaped(needs_checkpoints), {.credit = 1000});
        alone.submit(1, alone_please());
        auto const expected = shapes(alone);
        ASSERT_GT(expected.size(), 200U);
        EXPECT_EQ(expected[0], std::pair(0, std::size_t{64}));
        EXPECT_EQ(expected[1], std::pair(64, std::size_t{64}));
        EXPECT_EQ(expected[2], std::pair(128, std::size_t{22}));
        EXPECT_GE(alone.of(1).done->usage.context_shifts, 1U);
        alone.expect_empty();

        Driver crowd(shaped(needs_checkpoints), {.credit = 1000});
        auto same = alone_please();
        same.deterministic = false;
        same.max_tokens = 5;
        crowd.submit(9, same);  // leaves the prefix
        crowd.run();
        for (RequestId id = 2; id <= 5; ++id) crowd.submit(id, prompt_of(20 * id));
        crowd.submit(1, alone_please());
        EXPECT_EQ(shapes(crowd), expected);
        EXPECT_EQ(crowd.of(1).done->usage.cached_tokens, 0U);
        EXPECT_EQ(crowd.of(1).text(), alone.of(1).text());
        crowd.run();
        for (RequestId id = 2; id <= 5; ++id)
            EXPECT_EQ(crowd.of(id).text(), counted(260 - 20 * static_cast<int>(id))) << id;
        crowd.expect_empty();
    }
}

TEST_F(Pinned, leaves_every_second_step_to_others) {
    Driver driver(shaped(false), {.credit = 1000});
    driver.submit(2, prompt_of(10));
    driver.step();
    auto request = alone_please();
    request.choices = 3;
    request.sampling.temperature = 2;
    driver.submit(1, request);
    for (std::uint32_t said = driver.of(2).tokens(); driver.of(2).tokens() < 50; said = driver.of(2).tokens()) {
        driver.step();
        driver.step();
        EXPECT_GE(driver.of(2).tokens(), said + 1);
    }
    driver.run();
    EXPECT_EQ(driver.of(1).choices.size(), 3U);
    driver.expect_empty();
}

// Streams and a group of a prompt take 84 ms, give or take `noise`: rows of the prompt
// in its last steps, and the longest step.
std::pair<double, double> crowded(double noise) {
    Driver driver(counting(2000), {.prompt_tokens = Driver::kPromptTokens, .credit = 4000, .reserve_output = false});
    std::mt19937 random(1);
    driver.backend.on_decode = [&](std::span<llama::BatchEntry const> batch) {
        auto const rows = static_cast<double>(
            std::count_if(batch.begin(), batch.end(), [](auto const& entry) { return entry.token == 'x'; }));
        double const streams = static_cast<double>(batch.size()) - rows;
        double const ms = (10 + 3 * streams + 4 * rows) * (1 + noise * std::uniform_real_distribution<>(-1, 1)(random));
        driver.clock.advance(std::chrono::microseconds(std::llround(1000 * ms)));
        return ok();
    };
    for (RequestId id = 1; id <= 3; ++id) driver.submit(id, prompt_of(40));
    while (driver.of(3).tokens() < 100) driver.step();
    driver.submit(4, prompt_of(1500));
    double longest = 0;
    int steps = 0;
    for (; driver.of(4).tokens() == 0; ++steps) {
        Instant const begin = driver.clock.now();
        driver.step();
        longest = std::max(longest, to_ms(driver.clock.now() - begin));
    }
    driver.core.cancel_all();
    return {1500.0 / steps, longest};
}

TEST(engine_plan, leaves_room_for_steps_that_take_longer_than_predicted) {
    auto const [rows, longest] = crowded(0);
    EXPECT_GE(rows, 15);
    EXPECT_LE(longest, 90);
    auto const [rows_noisy, longest_noisy] = crowded(0.4);
    EXPECT_LT(rows_noisy, 0.95 * rows);
    EXPECT_GE(rows_noisy, 8) << "but goes on";
    EXPECT_LE(longest_noisy, 84 * 1.4) << "a group fits all the same";
}

TEST(engine_plan, mixes_where_that_saves_something) {
    Driver driver(counting(50));
    driver.submit(1, prompt_of(10));
    driver.step();
    driver.submit(2, prompt_of(10));
    driver.step();
    EXPECT_TRUE(has_text(driver.backend.batches.back()) && has_streams(driver.backend.batches.back()));
    driver.run();
}

}  // namespace
}  // namespace hearth::engine
