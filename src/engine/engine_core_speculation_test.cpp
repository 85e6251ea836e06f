#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using testing::Driver;
using testing::prompt_of;

// A model that says a few pieces again and again, so that it can be guessed.
llama::ScriptedOptions chanting(std::uint32_t cells = 4096) {
    llama::ScriptedOptions options;
    for (int i = 0; i < 5; ++i) options.pieces.push_back("w" + std::to_string(i) + " ");
    options.repeat = true;
    options.kv_cells = cells;
    return options;
}

Options engine_options(bool speculation) {
    Options options;
    options.credit = 100000;
    options.speculation = speculation;
    return options;
}

// Steps cost much, rows little, as on a real machine.
void run_at_a_price(Driver& driver) {
    driver.backend.on_decode = [&driver](std::span<llama::BatchEntry const> batch) {
        driver.clock.advance(std::chrono::microseconds(3000 + 300 * batch.size()));
        return ok();
    };
}

domain::GenerateRequest speaking(std::uint32_t tokens, float temperature = 0) {
    auto request = prompt_of(12);
    request.max_tokens = tokens;
    request.sampling.temperature = temperature;
    request.sampling.seed = 5;
    return request;
}

TEST(engine_speculation, says_the_same_in_fewer_steps) {
    std::string texts[2];
    std::uint64_t steps[2];
    for (int const on : {0, 1}) {
        Driver driver(chanting(), engine_options(on != 0));
        run_at_a_price(driver);
        driver.submit(1, speaking(300));
        driver.run();
        texts[on] = driver.of(1).text();
        steps[on] = driver.core.stats().steps_total;
        EXPECT_EQ(driver.of(1).tokens(), 300U);
        auto const& timings = driver.of(1).done->timings;
        if (on == 0) EXPECT_EQ(timings.draft_n, 0U);
        if (on == 1) EXPECT_GT(timings.draft_n_accepted, 200U);
        EXPECT_LE(timings.draft_n_accepted, timings.draft_n);
        driver.expect_empty();
    }
    EXPECT_EQ(texts[0], texts[1]);
    EXPECT_EQ(steps[0], 300U);
    EXPECT_LT(steps[1], 60U);
}

TEST(engine_speculation, changes_no_sampled_text_even_when_it_guesses_wrong) {
    std::vector<std::string> texts[2];
    for (int const on : {0, 1}) {
        Driver driver(chanting(400), engine_options(on != 0));  // so few cells that sequences are swapped
        run_at_a_price(driver);
        for (RequestId id = 1; id <= 6; ++id) {
            auto request = speaking(80, 2.2F);  // strays from the chant now and then
            request.sampling.seed = id;
            request.sampling.presence_penalty = 0.2F;
            request.choices = id % 3 == 0 ? 2 : 1;
            if (id % 2 == 0) request.stop = {"w3 w4 w0 w1 w2 w3 w4 w0 w1 w2 w3"};
            if (id == 5) request.top_logprobs = 2;
            driver.submit(id, request);
        }
        driver.run();
        for (RequestId id = 1; id <= 6; ++id) {
            for (auto& [index, said] : driver.of(id).choices) texts[on].push_back(said.text);
        }
        if (on == 1) {
            EXPECT_GT(driver.core.stats().accepted_total, 20U);
            EXPECT_GT(driver.core.stats().drafted_total, driver.core.stats().accepted_total);
        }
        driver.expect_empty();
    }
    EXPECT_EQ(texts[0], texts[1]);
}

TEST(engine_speculation, never_emits_more_than_was_granted) {
    auto options = engine_options(true);
    options.credit = 10;
    Driver driver(chanting(), options);
    run_at_a_price(driver);
    driver.submit(1, speaking(200));
    driver.run();
    EXPECT_EQ(driver.of(1).tokens(), 10U);
    for (std::uint32_t granted = 11; granted < 60; ++granted) {
        driver.core.grant(1, 1);
        driver.run();
        EXPECT_EQ(driver.of(1).tokens(), granted);
    }
    driver.core.grant(1, 1000);
    driver.run();
    EXPECT_EQ(driver.of(1).tokens(), 200U);
    driver.expect_empty();
}

TEST(engine_speculation, leaves_most_of_a_step_to_prompts) {
    auto scripted = chanting(16384);
    scripted.batch_max = 512;
    Driver driver(scripted, engine_options(true));
    run_at_a_price(driver);
    for (RequestId id = 1; id <= 3; ++id) driver.submit(id, speaking(4000));
    for (int i = 0; i < 40; ++i) driver.step();
    auto const drafted = driver.core.stats().drafted_total;
    EXPECT_GT(drafted, 500U);
    auto request = prompt_of(3000);
    request.max_tokens = 1;
    driver.submit(4, request);
    int steps = 0;
    for (; driver.of(4).tokens() == 0 && steps < 1000; ++steps) driver.step();
    EXPECT_LT(steps, 40);  // 60 ms are 190 rows; of those some 140 are the prompt's
    EXPECT_GT(driver.core.stats().drafted_total - drafted, 10U * static_cast<unsigned>(steps));
}

// Prompts whose time is in proportion to their length say that a step costs nothing but its rows; a single stream's
// steps are all alike and cannot say otherwise. Without a hope of its own, nothing would be guessed ever after.
TEST(engine_speculation, guesses_though_prompts_say_that_rows_cost_all) {
    auto options = engine_options(true);
    options.prefix_cache = false;
    Driver driver(chanting(), options);
    driver.backend.on_decode = [&driver](std::span<llama::BatchEntry const> batch) {
        bool const is_prompt = std::ranges::count(batch, true, &llama::BatchEntry::wants_logits) < std::ssize(batch);
        driver.clock.advance(std::chrono::microseconds(is_prompt ? 100 * batch.size() : 3000 + 300 * batch.size()));
        return ok();
    };
    RequestId id = 0;
    for (int i = 0; i < 40; ++i) {
        auto request = prompt_of(i % 2 == 0 ? 20 : 300);
        request.max_tokens = 3;
        driver.submit(++id, request);
        driver.run();
    }
    auto const steps = driver.core.stats().steps_total;
    driver.submit(++id, speaking(300));
    driver.run();
    EXPECT_LT(driver.core.stats().steps_total - steps, 100U);
    driver.expect_empty();
}

// What was guessed wrong cannot be cut off: the state goes back, and what was right is computed once more.
TEST(engine_speculation, goes_back_where_a_state_cannot_be_cut) {
    std::vector<std::string> texts[2];
    std::uint64_t steps[2];
    for (int const on : {0, 1}) {
        auto scripted = chanting(600);
        scripted.needs_checkpoints = true;
        Driver driver(scripted, engine_options(on != 0));
        run_at_a_price(driver);
        for (RequestId id = 1; id <= 12; ++id) {
            auto request = speaking(80, id % 2 == 0 ? 2.2F : 1.6F);  // strays from the chant now and then
            request.sampling.seed = id;
            request.prompt = domain::TokenPrompt{std::vector<domain::Token>(12 + id, 'x')};
            request.top_logprobs = 0;
            if (id % 3 == 0) request.stop = {"w3 w4 w0 w1 w2 w3 w4 w0 w1 w2 w3"};
            driver.submit(id, request);
            driver.run();
            texts[on].push_back(driver.of(id).text());
            // What ended in the midst of guesses can be gone on from.
            std::vector<domain::Token> tokens(12 + id, 'x');
            for (auto const& logprob : driver.of(id).choices[0].logprobs) tokens.push_back(logprob.chosen.token);
            auto more = speaking(20);
            more.prompt = domain::TokenPrompt{std::move(tokens)};
            driver.submit(100 + id, more);
            driver.run();
            EXPECT_GT(driver.of(100 + id).started->cached_tokens, 12 + id);
            texts[on].push_back(driver.of(100 + id).text());
        }
        auto const stats = driver.core.stats();
        steps[on] = stats.steps_total;
        if (on == 1) {
            EXPECT_GT(stats.accepted_total, 100U);
            EXPECT_GT(stats.drafted_total, stats.accepted_total);
        }
        std::uint64_t prompts = 0;
        for (auto const& [id, said] : driver.transcripts)
            prompts += said.started->prompt_tokens - said.started->cached_tokens;
        EXPECT_EQ(stats.prompt_tokens_total, prompts);  // what is done again is no prompt
        driver.expect_empty();
    }
    EXPECT_EQ(texts[0], texts[1]);
    EXPECT_LT(steps[1], steps[0]);
}

TEST(engine_speculation, guesses_where_a_state_cannot_be_cut_only_for_one_alone) {
    auto scripted = chanting();
    scripted.needs_checkpoints = true;
    Driver driver(scripted, engine_options(true));
    run_at_a_price(driver);
    for (RequestId id = 1; id <= 2; ++id) driver.submit(id, speaking(100));
    driver.run();
    EXPECT_EQ(driver.core.stats().drafted_total, 0U);
    driver.submit(3, speaking(300));
    auto const steps = driver.core.stats().steps_total;
    driver.run();
    EXPECT_LT(driver.core.stats().steps_total - steps, 100U);
}

TEST(engine_speculation, is_off_for_a_request_that_says_so) {
    Driver driver(chanting(), engine_options(true));
    run_at_a_price(driver);
    auto request = speaking(100);
    request.speculate = false;
    driver.submit(1, request);
    driver.run();
    EXPECT_EQ(driver.core.stats().drafted_total, 0U);
    EXPECT_EQ(driver.core.stats().steps_total, 100U);
}

TEST(engine_speculation, stops_guessing_where_guesses_do_not_come_true) {
    Driver driver(chanting(), engine_options(true));
    run_at_a_price(driver);
    // Whatever it said last it says once more, then something else: drafts look good and are wrong.
    std::uint64_t calls = 0;
    driver.backend.on_logits = [&](std::span<float> logits) {
        std::fill(logits.begin(), logits.end(), 0.0F);
        logits[static_cast<std::size_t>(97 + (calls * calls / 3) % 7)] = 20;
        ++calls;
    };
    driver.submit(1, speaking(2000));
    driver.run();
    auto const stats = driver.core.stats();
    double const wasted = static_cast<double>(stats.drafted_total - stats.accepted_total);
    EXPECT_LT(wasted, 0.25 * 2000) << stats.drafted_total << " drafted, " << stats.accepted_total << " accepted";
}

TEST(engine_speculation, guesses_what_another_was_told_behind_the_same_prompt) {
    auto scripted = chanting();
    scripted.repeat = false;
    scripted.pieces.clear();
    for (int i = 0; i < 60; ++i) scripted.pieces.push_back(std::to_string(i) + " ");  // nothing in it repeats
    Driver driver(scripted, engine_options(true));
    run_at_a_price(driver);
    driver.submit(1, speaking(100));
    driver.run();
    EXPECT_EQ(driver.core.stats().accepted_total, 0U);
    auto const steps = driver.core.stats().steps_total;
    driver.submit(2, speaking(100));
    driver.run();
    EXPECT_GT(driver.core.stats().accepted_total, 40U);
    EXPECT_LT(driver.core.stats().steps_total - steps, 30U);
    EXPECT_EQ(driver.of(1).text(), driver.of(2).text());
    driver.expect_empty();
}

TEST(engine_speculation, cells_for_guesses_are_never_taken_from_anybody) {
    Driver driver(chanting(64), engine_options(true));
    run_at_a_price(driver);
    driver.submit(1, speaking(52));
    driver.run();
    EXPECT_EQ(driver.of(1).tokens(), 52U);
    EXPECT_EQ(driver.core.stats().preemptions_total, 0U);
    EXPECT_GT(driver.core.stats().accepted_total, 10U);
    driver.expect_empty();
}

}  // namespace
}  // namespace hearth::engine
