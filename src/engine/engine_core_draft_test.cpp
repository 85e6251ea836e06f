// Guesses of a second model: the same text in fewer steps, never at a loss.
#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using testing::Driver;
using testing::prompt_of;
using testing::RecordingBackend;

// Nothing in what it says repeats, so that its own text is no guide.
llama::ScriptedOptions speech(std::uint32_t cells = 8192) {
    llama::ScriptedOptions options;
    for (int i = 0; i < 700; ++i) options.pieces.push_back(std::to_string(i) + " ");
    options.kv_cells = cells;
    return options;
}

Options engine_options() {
    Options options;
    options.credit = 100000;
    options.prefix_cache = false;
    return options;
}

// What a decode takes.
struct Price {
    std::uint32_t step_us;
    std::uint32_t row_us;
};
constexpr Price kMain{5000, 300};
constexpr Price kSmall{500, 50};

void set_price(RecordingBackend& backend, ManualClock& clock, Price price) {
    backend.on_decode = [&clock, price](std::span<llama::BatchEntry const> batch) {
        clock.advance(std::chrono::microseconds(price.step_us + price.row_us * batch.size()));
        return ok();
    };
}

// An engine with a draft model of the same script, and both on one clock.
struct Pair {
    explicit Pair(bool drafts = true, llama::ScriptedOptions const& scripted = speech(),
                  Options const& options = engine_options(), llama::ScriptedOptions const& small = speech(),
                  Price price = kSmall)
        : driver(scripted, options), draft(small) {
        set_price(driver.backend, driver.clock, kMain);
        set_price(draft, driver.clock, price);
        if (drafts) driver.core.guess_with(draft);
    }
    // Each logits row of the draft says something else than its script, one in `n` times.
    void err(std::uint64_t n) {
        draft.on_logits = [n, calls = std::uint64_t{0}](std::span<float> logits) mutable {
            if (++calls % n != 0) return;
            std::fill(logits.begin(), logits.end(), 0.0F);
            logits['!'] = 20;
        };
    }
    [[nodiscard]] double ms() { return to_ms(driver.clock.now() - Instant{}); }
    void expect_empty() {
        driver.expect_empty();
        EXPECT_EQ(draft.scripted().cells_used(), 0U);
        EXPECT_EQ(draft.scripted().sequences_used(), 0U);
    }

    Driver driver;
    RecordingBackend draft;
};

domain::GenerateRequest speaking(std::uint32_t tokens, float temperature = 0, std::uint32_t prompt = 12) {
    auto request = prompt_of(prompt);
    request.max_tokens = tokens;
    request.sampling.temperature = temperature;
    request.sampling.seed = 5;
    return request;
}

TEST(engine_draft, says_the_same_in_fewer_steps_and_less_time) {
    std::string texts[2];
    std::uint64_t steps[2];
    double ms[2];
    for (int const on : {0, 1}) {
        Pair pair(on != 0);
        pair.driver.submit(1, speaking(600));
        pair.driver.run();
        texts[on] = pair.driver.of(1).text();
        auto const stats = pair.driver.core.stats();
        steps[on] = stats.steps_total;
        ms[on] = pair.ms();
        EXPECT_EQ(pair.driver.of(1).tokens(), 600U);
        if (on == 1) {
            EXPECT_GT(stats.model_accepted_total, 400U);
            EXPECT_GT(pair.driver.of(1).done->timings.draft_n_accepted, 400U);
            EXPECT_GT(stats.draft_us_total, 0U);
        }
        pair.expect_empty();
    }
    EXPECT_EQ(texts[0], texts[1]);
    EXPECT_EQ(steps[0], 600U);
    EXPECT_LT(steps[1], 150U);
    EXPECT_LT(ms[1], 0.4 * ms[0]);
}

TEST(engine_draft, changes_no_text_whatever_it_guesses) {
    std::vector<std::string> texts[2];
    for (int const on : {0, 1}) {
        Pair pair(on != 0, speech(400));  // so few cells that sequences are swapped
        pair.err(3);
        for (RequestId id = 1; id <= 6; ++id) {
            auto request = speaking(80, id % 2 == 0 ? 2.0F : 0.0F);
            request.sampling.seed = id;
            request.choices = id % 3 == 0 ? 2 : 1;
            if (id == 4) request.stop = {"20 21"};
            if (id == 5) request.top_logprobs = 2;
            pair.driver.submit(id, request);
        }
        pair.driver.run();
        for (RequestId id = 1; id <= 6; ++id) {
            for (auto& [index, said] : pair.driver.of(id).choices) texts[on].push_back(said.text);
        }
        auto const stats = pair.driver.core.stats();
        if (on == 1) {
            EXPECT_GT(stats.preemptions_total, 0U);
            EXPECT_GT(stats.model_accepted_total, 20U);
            EXPECT_GT(stats.model_drafted_total, stats.model_accepted_total);
        }
        pair.expect_empty();
    }
    EXPECT_EQ(texts[0], texts[1]);
}

TEST(engine_draft, a_draft_that_is_always_wrong_costs_a_fiftieth_at_most) {
    double ms[2];
    for (int const on : {0, 1}) {
        Pair pair(on != 0);
        pair.err(1);
        for (RequestId id = 1; id <= 8; ++id) {
            pair.driver.submit(id, speaking(600));
            pair.driver.run();
        }
        ms[on] = pair.ms();
        auto const stats = pair.driver.core.stats();
        EXPECT_EQ(stats.model_accepted_total, 0U);
        if (on == 1) EXPECT_GT(stats.model_drafted_total, 0U);
    }
    EXPECT_LT(ms[1], 1.02 * ms[0]) << ms[1] << " ms, without " << ms[0];
}

TEST(engine_draft, a_draft_as_slow_as_the_model_is_left_alone) {
    double ms[2];
    for (int const on : {0, 1}) {
        Pair pair(on != 0, speech(), engine_options(), speech(), kMain);
        for (RequestId id = 1; id <= 4; ++id) {
            pair.driver.submit(id, speaking(600));
            pair.driver.run();
        }
        ms[on] = pair.ms();
    }
    EXPECT_LT(ms[1], 1.02 * ms[0]) << ms[1] << " ms, without " << ms[0];
}

TEST(engine_draft, a_long_prompt_before_a_short_answer_is_not_computed_twice) {
    double ms[2];
    for (int const on : {0, 1}) {
        Pair pair(on != 0);
        for (RequestId id = 1; id <= 20; ++id) {
            auto request = speaking(8);
            request.prompt = domain::TokenPrompt{std::vector<Token>(2000, static_cast<Token>('a' + id))};
            pair.driver.submit(id, request);
            pair.driver.run();
        }
        ms[on] = pair.ms();
        if (on == 1) EXPECT_LT(pair.draft.batches.size(), 20U);
    }
    EXPECT_LT(ms[1], 1.02 * ms[0]);
}

TEST(engine_draft, catching_up_on_a_long_prompt_stays_within_the_target_of_a_step) {
    auto options = engine_options();
    options.step_ms_target = 40;
    Pair pair(true, speech(), options);
    for (RequestId id = 10; id < 20; ++id) {  // teaches what steps cost, and that answers are long
        auto request = speaking(500);
        request.speculate = false;
        pair.driver.submit(id, request);
        pair.driver.run();
    }
    pair.driver.submit(2, speaking(600, 0, 3000));
    double longest = 0;
    while (pair.driver.core.has_work()) {
        Instant const begin = pair.driver.clock.now();
        bool const speaks = pair.driver.of(2).tokens() > 0;
        pair.driver.step();
        if (speaks && pair.driver.of(2).tokens() > 20)
            longest = std::max(longest, to_ms(pair.driver.clock.now() - begin));
    }
    EXPECT_GT(pair.driver.core.stats().model_accepted_total, 300U);
    EXPECT_LT(longest, 1.3 * 40);
}

TEST(engine_draft, never_emits_more_than_was_granted) {
    auto options = engine_options();
    options.credit = 10;
    Pair pair(true, speech(), options);
    auto request = speaking(100);
    request.choices = 3;
    pair.driver.submit(1, request);
    pair.driver.run();
    EXPECT_EQ(pair.driver.of(1).tokens(), 10U);
    for (std::uint32_t granted = 17; granted < 150; granted += 7) {
        pair.driver.core.grant(1, 7);
        pair.driver.run();
        EXPECT_EQ(pair.driver.of(1).tokens(), granted);
    }
    EXPECT_GT(pair.driver.core.stats().model_accepted_total, 0U);
    pair.driver.core.grant(1, 1000);
    pair.driver.run();
    EXPECT_EQ(pair.driver.of(1).tokens(), 300U);
    pair.expect_empty();
}

TEST(engine_draft, is_off_for_a_request_that_says_so) {
    Pair pair;
    auto request = speaking(100);
    request.speculate = false;
    pair.driver.submit(1, request);
    pair.driver.run();
    EXPECT_TRUE(pair.draft.batches.empty());
    EXPECT_EQ(pair.driver.core.stats().steps_total, 100U);
}

TEST(engine_draft, short_of_cells_some_are_not_guessed_for_and_nobody_fails) {
    auto small = speech(130);
    small.sequences_max = 3;
    small.sequences_kept = 0;
    Pair pair(true, speech(), engine_options(), small);
    for (RequestId id = 1; id <= 8; ++id) {
        auto request = speaking(100);
        request.prompt = domain::TokenPrompt{std::vector<Token>(12, static_cast<Token>('a' + id))};
        pair.driver.submit(id, request);
    }
    pair.driver.run();
    for (RequestId id = 1; id <= 8; ++id) EXPECT_EQ(pair.driver.of(id).tokens(), 100U);
    EXPECT_GT(pair.driver.core.stats().model_accepted_total, 0U);
    pair.expect_empty();
}

TEST(engine_draft, a_draft_that_fails_is_left_alone_and_nobody_notices) {
    Pair pair;
    int calls = 0;
    pair.draft.on_decode = [&](auto) -> Status {
        ++calls;
        return Error(Code::internal, "no");
    };
    pair.driver.submit(1, speaking(300));
    pair.driver.run();
    EXPECT_EQ(pair.driver.of(1).tokens(), 300U);
    EXPECT_GT(calls, 0);
    EXPECT_LE(calls, 8);
    pair.expect_empty();
}

TEST(engine_draft, where_a_text_repeats_itself_its_own_words_are_asked) {
    llama::ScriptedOptions chant;
    for (int i = 0; i < 5; ++i) chant.pieces.push_back("w" + std::to_string(i) + " ");
    chant.repeat = true;
    Pair pair(true, chant, engine_options(), chant);
    pair.err(3);
    pair.driver.submit(1, speaking(600));
    pair.driver.run();
    auto const report = pair.driver.core.report();
    EXPECT_GT(report.by_text.accepted, 300U);
    EXPECT_LT(report.by_model.drafted, 200U);
    EXPECT_EQ(report.by_text.accepted + report.by_model.accepted, pair.driver.core.stats().accepted_total);
}

TEST(engine_draft, is_reported) {
    Pair pair;
    pair.driver.submit(1, speaking(600));
    for (int i = 0; i < 40; ++i) pair.driver.step();
    auto const report = pair.driver.core.report();
    ASSERT_TRUE(report.draft.has_value());
    EXPECT_EQ(report.draft->sequences, 1U);
    EXPECT_GT(report.draft->tokens, 12U);
    EXPECT_EQ(report.draft->kv_cells, 8192U);
    EXPECT_GT(report.draft->belief, 0.9);
    EXPECT_GT(report.by_model.accepted, 20U);
    EXPECT_EQ(report.by_text.drafted, 0U);
    pair.driver.cancel(1);
    EXPECT_EQ(pair.driver.core.report().draft->sequences, 0U);
    pair.expect_empty();
}

}  // namespace
}  // namespace hearth::engine
