#include "engine/engine_core.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using domain::FinishReason;
using testing::counted;
using testing::counting;
using testing::Driver;
using testing::prompt_of;
using testing::Transcript;

llama::ScriptedOptions saying(std::vector<std::string> pieces) {
    llama::ScriptedOptions options;
    options.pieces = std::move(pieces);
    return options;
}

TEST(engine_core, says_the_script_and_accounts_for_every_token) {
    Driver driver(saying({"Hel", "lo"}));
    driver.submit(1, prompt_of(10));
    driver.run();
    auto& t = driver.of(1);
    EXPECT_EQ(t.started, (domain::Started{10, 0}));
    EXPECT_EQ(t.text(), "Hello");
    EXPECT_EQ(t.choices[0].deltas, (std::vector<std::string>{"Hel", "lo", ""}));
    EXPECT_EQ(t.choices[0].done, (domain::ChoiceDone{0, FinishReason::stop, ""}));
    ASSERT_TRUE(t.done.has_value());
    EXPECT_EQ(t.done->usage, (domain::Usage{10, 0, 3})) << "the end token counts";
    driver.expect_empty();
}

TEST(engine_core, ends_with_length_at_max_tokens_and_lets_the_end_token_win_a_tie) {
    Driver driver(saying({"a", "b", "c"}));
    auto request = prompt_of(3);
    request.max_tokens = 2;
    driver.submit(1, request);
    request.max_tokens = 4;  // the fourth is the end token
    driver.submit(2, request);
    driver.run();
    EXPECT_EQ(driver.of(1).text(), "ab");
    EXPECT_EQ(driver.of(1).reason(), FinishReason::length);
    EXPECT_EQ(driver.of(1).done->usage.completion_tokens, 2U);
    EXPECT_EQ(driver.of(2).text(), "abc");
    EXPECT_EQ(driver.of(2).reason(), FinishReason::stop);
}

TEST(engine_core, runs_until_the_context_is_full_without_max_tokens) {
    auto options = saying({"a"});
    options.repeat = true;
    options.context_request = 20;
    Driver driver(options);
    driver.submit(1, prompt_of(12));
    auto request = prompt_of(19);
    request.max_tokens = 1000;
    driver.submit(2, request);
    driver.run();
    EXPECT_EQ(driver.of(1).text(), "aaaaaaaa");
    EXPECT_EQ(driver.of(1).reason(), FinishReason::length);
    EXPECT_EQ(driver.of(2).text(), "a");
    EXPECT_EQ(driver.of(2).reason(), FinishReason::length);
}

TEST(engine_core, a_request_may_join_and_leave_at_any_step) {
    for (int join = 0; join < 12; ++join) {
        Driver driver(counting(10));
        driver.submit(1, prompt_of(5));
        for (int i = 0; i < join; ++i) driver.step();
        driver.submit(2, prompt_of(7));
        driver.run();
        EXPECT_EQ(driver.of(1).text(), counted(10)) << join;
        EXPECT_EQ(driver.of(2).text(), counted(10)) << join;
        driver.expect_empty();
    }
}

TEST(engine_core, one_batch_carries_a_token_of_every_running_sequence) {
    Driver driver(counting(10));
    for (RequestId id = 1; id <= 5; ++id) driver.submit(id, prompt_of(4));
    driver.step();
    driver.step();
    ASSERT_EQ(driver.backend.batches.size(), 2U);
    EXPECT_EQ(driver.backend.batches[0].size(), 20U);
    EXPECT_EQ(driver.backend.batches[1].size(), 5U);
}

TEST(engine_core, asks_for_logits_only_where_it_samples) {
    Driver driver(counting(3));
    driver.submit(1, prompt_of(600));
    driver.run();
    for (auto const& batch : driver.backend.batches) {
        for (auto const& entry : batch) EXPECT_EQ(entry.wants_logits, entry.position >= 599);
    }
}

TEST(engine_core, computes_a_prompt_alone_in_large_chunks_and_beside_streams_in_small_ones) {
    Driver driver([] {
        auto options = counting(500);
        options.batch_max = 512;
        return options;
    }());
    driver.submit(1, prompt_of(1000));
    driver.step();
    driver.step();
    driver.step();
    driver.step();
    std::vector<std::size_t> sizes;
    for (auto const& batch : driver.backend.batches) sizes.push_back(batch.size());
    EXPECT_EQ(sizes, (std::vector<std::size_t>{256, 256, 256, 232}));

    driver.submit(2, prompt_of(3));
    driver.step();
    driver.backend.batches.clear();
    driver.submit(3, prompt_of(200));
    while (driver.of(3).tokens() == 0) driver.step();
    sizes.clear();
    for (auto const& batch : driver.backend.batches) sizes.push_back(batch.size());
    EXPECT_EQ(sizes, (std::vector<std::size_t>{64, 64, 64, 16}))
        << "two decode tokens in each; the rest prompt, in whole groups of 16";
}

TEST(engine_core, never_makes_a_batch_larger_than_the_backend_takes) {
    for (std::uint32_t const batch_max : {2U, 7U, 16U, 33U, 100U}) {
        auto options = counting(20);
        options.batch_max = batch_max;
        Driver driver(options);
        for (RequestId id = 1; id <= 12; ++id) driver.submit(id, prompt_of(40));
        driver.run();
        for (auto const& batch : driver.backend.batches) EXPECT_LE(batch.size(), batch_max);
        for (RequestId id = 1; id <= 12; ++id) EXPECT_EQ(driver.of(id).text(), counted(20)) << batch_max;
    }
}

TEST(engine_core, sequences_take_turns_when_a_batch_cannot_hold_them_all) {
    auto options = counting(300);
    options.batch_max = 4;
    Driver driver(options);
    for (RequestId id = 1; id <= 10; ++id) driver.submit(id, prompt_of(1));
    while (driver.of(10).tokens() == 0) driver.step();
    std::vector<std::uint32_t> before;
    for (RequestId id = 1; id <= 10; ++id) before.push_back(driver.of(id).tokens());
    for (int i = 0; i < 100; ++i) driver.step();
    for (RequestId id = 1; id <= 10; ++id) EXPECT_NEAR(driver.of(id).tokens() - before[id - 1], 40, 1) << id;
}

TEST(engine_core, reports_progress_once_per_chunk_when_asked) {
    Driver driver(counting(1));
    auto request = prompt_of(600);
    request.return_prompt_progress = true;
    driver.submit(1, request);
    driver.submit(2, prompt_of(5));
    driver.backend.on_decode = [&](auto) {
        driver.clock.advance(std::chrono::milliseconds(10));
        return ok();
    };
    driver.run();
    auto const& progress = driver.of(1).progress;
    ASSERT_GE(progress.size(), 2U);
    EXPECT_EQ(progress.front().processed, 251U) << "the short prompt has joined it";
    EXPECT_EQ(progress.front().total, 600U);
    EXPECT_EQ(progress.front().ms, 10);
    EXPECT_EQ(progress.back().processed, 600U);
    EXPECT_TRUE(driver.of(2).progress.empty());
}

TEST(engine_core, cancel_takes_effect_at_every_step_and_frees_everything) {
    for (int at = 0; at < 14; ++at) {
        Driver driver(counting(10));
        auto request = prompt_of(600);
        request.choices = 3;
        driver.submit(1, request);
        driver.submit(2, prompt_of(4));
        for (int i = 0; i < at; ++i) driver.step();
        bool const was_over = driver.of(1).ended();
        driver.cancel(1);
        EXPECT_EQ(driver.core.stats().kv_cached, 0U) << "without a cache nothing is kept; cancelled at step " << at;
        auto& t = driver.of(1);
        ASSERT_TRUE(t.done.has_value()) << at;
        for (std::uint32_t choice = 0; choice < 3; ++choice) {
            if (!was_over) EXPECT_EQ(t.reason(choice), FinishReason::cancelled) << at;
        }
        EXPECT_EQ(t.started.has_value(), at > 0);
        driver.run();
        EXPECT_EQ(driver.of(2).text(), counted(10));
        driver.expect_empty();
    }
}

TEST(engine_core, a_cancelled_request_gives_what_was_held_back) {
    Driver driver(saying({"ab", "cd"}));
    auto request = prompt_of(2);
    request.stop = {"bcx"};
    driver.submit(1, request);
    driver.step();
    EXPECT_EQ(driver.of(1).text(), "a");
    driver.cancel(1);
    EXPECT_EQ(driver.of(1).text(), "ab");
    EXPECT_EQ(driver.of(1).done->usage.completion_tokens, 1U);
}

TEST(engine_core, cancels_and_grants_of_strangers_are_ignored) {
    Driver driver(counting(2));
    driver.submit(1, prompt_of(2));
    driver.cancel(7);
    driver.core.grant(7, 5);
    driver.run();
    driver.cancel(1);
    EXPECT_EQ(driver.of(1).text(), counted(2));
    EXPECT_FALSE(driver.transcripts.contains(7));
}

TEST(engine_core, a_stop_string_split_across_tokens_never_gets_out) {
    Driver driver(saying({"Hel", "lo S", "TOP more", "never"}));
    auto request = prompt_of(2);
    request.stop = {"unused", "STOP"};
    driver.submit(1, request);
    driver.run();
    auto& t = driver.of(1);
    EXPECT_EQ(t.choices[0].deltas, (std::vector<std::string>{"Hel", "lo ", ""}));
    EXPECT_EQ(t.choices[0].done, (domain::ChoiceDone{0, FinishReason::stop, "STOP"}));
    EXPECT_EQ(t.done->usage.completion_tokens, 3U) << "tokens whose text is withheld count";
}

TEST(engine_core, text_held_for_a_stop_string_comes_out_when_none_appears) {
    Driver driver(saying({"a", "ST", "OP"}));
    auto request = prompt_of(2);
    request.stop = {"STOPPED"};
    driver.submit(1, request);
    request.max_tokens = 2;
    driver.submit(2, request);
    driver.run();
    EXPECT_EQ(driver.of(1).choices[0].deltas, (std::vector<std::string>{"a", "", "", "STOP"}));
    EXPECT_EQ(driver.of(1).reason(), FinishReason::stop);
    EXPECT_EQ(driver.of(2).choices[0].deltas, (std::vector<std::string>{"a", "ST"}));
    EXPECT_EQ(driver.of(2).reason(), FinishReason::length);
}

TEST(engine_core, the_templates_own_stops_end_a_turn_without_being_named) {
    Driver driver(saying({"a", "</turn>", "b"}));
    driver.backend.additional_stops = {"</turn>"};
    domain::GenerateRequest request;
    request.prompt = domain::ChatPrompt{.messages = {{"user", "hi"}}};
    request.sampling.temperature = 0;
    request.stop = {"zzz"};
    driver.submit(1, request);
    driver.run();
    EXPECT_EQ(driver.of(1).text(), "a");
    EXPECT_EQ(driver.of(1).choices[0].done, (domain::ChoiceDone{0, FinishReason::stop, ""}));
}

TEST(engine_core, code_points_split_across_tokens_reach_the_reader_whole) {
    Driver driver(saying({"caf\xC3", "\xA9 \xF0\x9F", "\x98", "\x80!"}));
    driver.submit(1, prompt_of(2));
    driver.run();
    EXPECT_EQ(driver.of(1).choices[0].deltas,
              (std::vector<std::string>{"caf", "\xC3\xA9 ", "", "\xF0\x9F\x98\x80!", ""}));
}

TEST(engine_core, a_code_point_that_never_completes_becomes_a_replacement_character) {
    Driver driver(saying({"a\xF0\x9F"}));
    driver.submit(1, prompt_of(2));
    driver.run();
    EXPECT_EQ(driver.of(1).text(), "a\xEF\xBF\xBD");
}

TEST(engine_core, choices_share_their_prompt_and_differ_by_seed) {
    auto options = counting(20);
    Driver driver(options);
    auto request = prompt_of(50);
    request.choices = 4;
    request.sampling.temperature = 2.5F;
    request.sampling.seed = 5;
    driver.submit(1, request);
    driver.step();
    EXPECT_EQ(driver.core.stats().kv_used, 50U) << "the prompt's cells once";
    driver.run();
    std::size_t prompt_entries = 0;
    for (auto const& batch : driver.backend.batches) {
        prompt_entries += static_cast<std::size_t>(
            std::count_if(batch.begin(), batch.end(), [](auto const& e) { return e.position < 50; }));
    }
    EXPECT_EQ(prompt_entries, 50U) << "computed once";
    auto& t = driver.of(1);
    EXPECT_NE(t.text(0), t.text(1));
    EXPECT_NE(t.text(1), t.text(2));
    EXPECT_EQ(t.done->usage.prompt_tokens, 50U);
    EXPECT_EQ(t.done->timings.prompt_n, 50U);
    driver.expect_empty();

    // Choice i is what a request of its own would say with seed + i.
    for (std::uint32_t i = 0; i < 4; ++i) {
        auto alone = request;
        alone.choices = 1;
        alone.sampling.seed = 5 + i;
        driver.submit(10 + i, alone);
        driver.run();
        EXPECT_EQ(driver.of(10 + i).text(), t.text(i));
    }
}

TEST(engine_core, choices_that_end_at_their_first_token_never_hold_a_cell) {
    Driver driver(saying({}));
    auto request = prompt_of(8);
    request.choices = 3;
    driver.submit(1, request);
    driver.run();
    EXPECT_EQ(driver.of(1).done->usage.completion_tokens, 3U);
    for (std::uint32_t i = 0; i < 3; ++i) EXPECT_EQ(driver.of(1).reason(i), FinishReason::stop);
    driver.expect_empty();
}

TEST(engine_core, logprobs_come_one_per_token) {
    Driver driver(saying({"a", "b"}));
    auto request = prompt_of(3);
    request.top_logprobs = 2;
    request.stop = {"bz"};
    driver.submit(1, request);
    driver.run();
    auto const& logprobs = driver.of(1).choices[0].logprobs;
    ASSERT_EQ(logprobs.size(), 3U) << "withheld text and the end token have theirs";
    EXPECT_EQ(logprobs[1].chosen.bytes, "b");
    EXPECT_EQ(logprobs[1].top.size(), 2U);
    EXPECT_NEAR(logprobs[1].chosen.logprob, 0, 1e-4);
    EXPECT_EQ(logprobs[2].chosen.bytes, "");
}

TEST(engine_core, a_seed_gives_the_same_text_whatever_else_runs) {
    auto request = prompt_of(20);
    request.sampling.temperature = 2;
    request.sampling.seed = 99;
    Driver alone(counting(30));
    alone.submit(1, request);
    alone.run();
    Driver crowded(counting(30));
    for (RequestId id = 2; id < 9; ++id) crowded.submit(id, prompt_of(100 * id));
    crowded.step();
    crowded.submit(1, request);
    crowded.run();
    EXPECT_EQ(alone.of(1).text(), crowded.of(1).text());
}

TEST(engine_core, requests_without_a_seed_get_different_ones) {
    Driver driver(counting(30));
    auto request = prompt_of(20);
    request.sampling.temperature = 3;
    driver.submit(1, request);
    driver.submit(2, request);
    driver.run();
    EXPECT_NE(driver.of(1).text(), driver.of(2).text());
}

TEST(engine_core, timings_tell_queue_prompt_and_prediction_apart) {
    auto options = counting(4);
    options.sequences_max = 1;
    Driver driver(options);
    driver.backend.on_decode = [&](auto) {
        driver.clock.advance(std::chrono::milliseconds(10));
        return ok();
    };
    driver.submit(1, prompt_of(3));
    driver.submit(2, prompt_of(300));
    driver.run();
    auto const& first = driver.of(1).done->timings;
    EXPECT_EQ(first.queue_ms, 0);
    EXPECT_EQ(first.prompt_ms, 10);
    EXPECT_EQ(first.predicted_ms, 40);
    EXPECT_EQ(first.predicted_n, 5U);
    auto const& second = driver.of(2).done->timings;
    EXPECT_EQ(second.queue_ms, 50);
    EXPECT_EQ(second.prompt_ms, 20);
    EXPECT_EQ(second.prompt_n, 300U);
    EXPECT_EQ(second.cache_n, 0U);
}

// --- failures ---

TEST(engine_core, a_failed_decode_fails_the_request_and_the_engine_goes_on) {
    for (std::uint64_t at = 0; at < 5; ++at) {
        auto options = counting(10);
        options.before_decode = [at](std::uint64_t index) {
            return index == at ? Status(Error(Code::internal, "boom")) : ok();
        };
        Driver driver(options);
        driver.submit(1, prompt_of(300));
        driver.run();
        ASSERT_TRUE(driver.of(1).failed.has_value());
        EXPECT_EQ(driver.of(1).failed->message, "boom");
        driver.expect_empty();
        driver.submit(2, prompt_of(3));
        driver.run();
        EXPECT_EQ(driver.of(2).text(), counted(10));
    }
}

TEST(engine_core, only_the_request_whose_work_fails_ends) {
    Driver driver(counting(10));
    for (RequestId id = 1; id <= 4; ++id) driver.submit(id, prompt_of(id));
    driver.step();
    driver.step();
    llama::SequenceId const poisoned = 2;
    driver.backend.on_decode = [&](std::span<llama::BatchEntry const> batch) -> Status {
        bool const hit = std::any_of(batch.begin(), batch.end(), [&](auto const& e) { return e.sequence == poisoned; });
        return hit ? Status(Error(Code::internal, "poisoned")) : ok();
    };
    driver.step();
    EXPECT_TRUE(driver.of(3).failed.has_value());
    driver.run();
    for (RequestId const id : {1U, 2U, 4U}) EXPECT_EQ(driver.of(id).text(), counted(10)) << id;
    driver.expect_empty();
}

TEST(engine_core, a_machine_that_fails_every_decode_ends_every_request) {
    Driver driver(counting(10));
    for (RequestId id = 1; id <= 4; ++id) driver.submit(id, prompt_of(5));
    driver.backend.on_decode = [](auto) { return Error(Code::internal, "no memory"); };
    driver.run();
    for (RequestId id = 1; id <= 4; ++id) EXPECT_TRUE(driver.of(id).failed.has_value());
    driver.expect_empty();
}

TEST(engine_core, broken_logits_fail_their_request_alone) {
    Driver driver(counting(10));
    auto request = prompt_of(5);
    request.choices = 2;
    driver.submit(1, request);
    driver.step();
    driver.backend.on_logits = [](std::span<float> row) { row[3] = std::numeric_limits<float>::quiet_NaN(); };
    driver.step();
    ASSERT_TRUE(driver.of(1).failed.has_value());
    EXPECT_EQ(driver.of(1).failed->code, Code::internal);
    driver.backend.on_logits = {};
    driver.submit(2, prompt_of(5));
    driver.run();
    EXPECT_EQ(driver.of(2).text(), counted(10));
    driver.expect_empty();
}

TEST(engine_core, a_fork_that_fails_ends_the_request_and_leaks_nothing) {
    for (int at = 0; at < 3; ++at) {
        Driver driver(counting(10));
        int copies = 0;
        driver.backend.on_copy = [&]() { return copies++ == at ? Status(Error(Code::internal, "no copy")) : ok(); };
        auto request = prompt_of(5);
        request.choices = 4;
        driver.submit(1, request);
        driver.run();
        EXPECT_TRUE(driver.of(1).failed.has_value());
        driver.expect_empty();
    }
}

// --- latency ---

// A machine like two cores with a small model: 4 ms per step, 0.7 per token.
}  // namespace
}  // namespace hearth::engine
