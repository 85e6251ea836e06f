#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using domain::FinishReason;
using testing::Driver;
using testing::prompt_of;

llama::ScriptedOptions counting(int count, std::uint32_t cells, std::uint32_t sequences = 16) {
    auto options = testing::counting(count);
    options.kv_cells = cells;
    options.sequences_max = sequences;
    options.context_request = std::min(cells, 4096U);
    return options;
}

// A request whose text depends on the prompt's end, the script's place and the
// sampler's history: any slip in swapping changes it.
domain::GenerateRequest delicate(std::size_t size, std::uint64_t seed) {
    auto request = prompt_of(size);
    request.sampling.temperature = 2.5F;
    request.sampling.presence_penalty = 0.3F;
    request.sampling.seed = seed;
    request.max_tokens = 60;
    return request;
}

TEST(engine_memory, swapping_changes_no_text) {
    std::vector<std::string> texts[2];
    std::uint64_t preemptions[2] = {};
    for (int const tight : {0, 1}) {
        Driver driver(counting(50, tight != 0 ? 200 : 4000));
        for (RequestId id = 1; id <= 8; ++id) {
            auto request = delicate(20, id);
            if (id % 3 == 0) request.choices = 3;
            driver.submit(id, request);
        }
        driver.run();
        for (RequestId id = 1; id <= 8; ++id) {
            for (auto& [index, said] : driver.of(id).choices) texts[tight].push_back(said.text);
        }
        preemptions[tight] = driver.core.stats().preemptions_total;
        driver.expect_empty();
    }
    EXPECT_EQ(texts[0], texts[1]);
    EXPECT_EQ(preemptions[0], 0U);
    EXPECT_GT(preemptions[1], 5U);
}

TEST(engine_memory, with_room_for_what_others_emitted_nobody_is_swapped_out) {
    std::uint64_t preemptions[2] = {};
    std::size_t together[2] = {};
    for (int const reserve : {0, 1}) {
        Driver driver(counting(50, 400), {.prompt_tokens = Driver::kPromptTokens,
                                          .credit = 1000,
                                          .prefix_cache = false,
                                          .reserve_output = reserve != 0});
        for (RequestId id = 1; id <= 3; ++id) {  // what it learns from
            driver.submit(id, prompt_of(20));
            driver.run();
        }
        for (RequestId id = 11; id <= 26; ++id) driver.submit(id, prompt_of(20));
        while (driver.core.has_work()) {
            driver.step();
            if (!driver.backend.batches.empty())
                together[reserve] = std::max(together[reserve], driver.backend.batches.back().size());
        }
        preemptions[reserve] = driver.core.stats().preemptions_total;
        for (RequestId id = 11; id <= 26; ++id) EXPECT_EQ(driver.of(id).tokens(), 51U);
        driver.expect_empty();
    }
    EXPECT_GT(preemptions[0], 5U);
    EXPECT_EQ(preemptions[1], 0U);
    EXPECT_GT(together[1], 1U) << "not one after the other";
}

TEST(engine_memory, the_oldest_is_never_swapped_out_and_the_youngest_goes_first) {
    Driver driver(counting(100, 120));
    for (RequestId id = 1; id <= 3; ++id) driver.submit(id, prompt_of(20));
    std::vector<RequestId> ends;
    bool waited = false;
    while (driver.core.has_work()) {
        auto const before = driver.of(1).tokens();
        auto const third = driver.of(3).tokens();
        driver.step();
        if (!driver.of(1).ended()) EXPECT_EQ(driver.of(1).tokens(), before + 1);
        if (driver.of(3).tokens() == third && !driver.of(3).ended()) waited = true;
        for (RequestId id = 1; id <= 3; ++id) {
            if (driver.of(id).ended() && std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
        }
    }
    EXPECT_TRUE(waited);
    EXPECT_EQ(ends, (std::vector<RequestId>{1, 2, 3}));
    for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(driver.of(id).tokens(), 100U) << "until its context is full";
}

TEST(engine_memory, one_request_alone_can_use_every_cell) {
    auto options = counting(1000, 64);
    Driver driver(options);
    auto request = prompt_of(30);
    driver.submit(1, request);
    driver.run();
    EXPECT_EQ(driver.of(1).tokens(), 34U);
    EXPECT_EQ(driver.of(1).reason(), FinishReason::length);
    request.choices = 4;  // 4 x 64 positions in 64 cells: one after another
    driver.submit(2, request);
    driver.run();
    for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(driver.of(2).choices[i].tokens, 34U) << i;
    driver.expect_empty();
}

TEST(engine_memory, a_request_waits_for_ids_for_all_its_choices) {
    Driver driver(counting(5, 1000, 4));
    driver.submit(1, prompt_of(5));
    auto request = prompt_of(5);
    request.choices = 4;
    driver.submit(2, request);
    driver.submit(3, prompt_of(5));
    driver.step();
    EXPECT_TRUE(driver.of(1).started.has_value());
    EXPECT_FALSE(driver.of(2).started.has_value());
    EXPECT_FALSE(driver.of(3).started.has_value()) << "nobody overtakes: the large one would starve";
    EXPECT_EQ(driver.core.stats().waiting, 2U);
    driver.run();
    EXPECT_TRUE(driver.of(3).done.has_value());
    driver.expect_empty();
}

TEST(engine_memory, a_request_waits_for_cells_for_its_prompt) {
    Driver driver(counting(5, 100));
    driver.submit(1, prompt_of(60));
    driver.submit(2, prompt_of(60));
    driver.step();
    EXPECT_FALSE(driver.of(2).started.has_value());
    driver.run();
    EXPECT_TRUE(driver.of(2).done.has_value());
    EXPECT_EQ(driver.core.stats().preemptions_total, 0U);
}

TEST(engine_memory, a_cancelled_swapped_sequence_leaves_nothing_behind) {
    Driver driver(counting(200, 100));
    for (RequestId id = 1; id <= 3; ++id) driver.submit(id, prompt_of(20));
    while (driver.core.stats().preemptions_total == 0) driver.step();
    driver.cancel(3);
    EXPECT_TRUE(driver.of(3).done.has_value());
    driver.cancel(2);
    driver.run();
    driver.expect_empty();
}

TEST(engine_memory, a_prompt_being_computed_can_be_swapped_and_finishes_later) {
    auto options = counting(400, 600);
    Driver driver(options, [] {
        Options o;
        o.prefix_cache = false;
        o.reserve_output = false;
        o.mixed_tokens_max = 32;  // many steps for the prompt, so that the stream catches up with the free cells
        return o;
    }());
    driver.submit(1, prompt_of(20));
    driver.core.grant(1, 1000);
    for (int i = 0; i < 20; ++i) driver.step();
    driver.submit(2, prompt_of(540));
    driver.run();
    EXPECT_TRUE(driver.of(1).done.has_value());
    EXPECT_EQ(driver.of(2).reason(), FinishReason::length);
    EXPECT_EQ(driver.of(2).tokens(), 60U);
    EXPECT_GT(driver.core.stats().preemptions_total, 0U);
    std::size_t prompt_entries = 0;
    for (auto const& batch : driver.backend.batches) {
        for (auto const& entry : batch) prompt_entries += entry.token == 'x' ? 1 : 0;
    }
    EXPECT_EQ(prompt_entries, 560U) << "nothing is computed twice";
    driver.expect_empty();
}

TEST(engine_memory, when_the_backend_refuses_cells_the_ledger_had_the_rest_goes_on) {
    Driver driver(counting(30, 4000));
    // A backend that secretly holds only 100 cells.
    driver.backend.on_decode = [&](std::span<llama::BatchEntry const> batch) {
        bool const fits = driver.backend.scripted().cells_used() + batch.size() <= 100;
        return fits ? ok() : Status(Error(Code::overloaded, "no slot"));
    };
    driver.backend.on_restore = [&]() -> Status {
        if (driver.backend.scripted().cells_used() < 60) return ok();
        return Error(Code::overloaded, "no slot");
    };
    for (RequestId id = 1; id <= 6; ++id) driver.submit(id, prompt_of(15));
    driver.run();
    for (RequestId id = 1; id <= 6; ++id) EXPECT_EQ(driver.of(id).tokens(), 31U) << id;
    driver.expect_empty();
}

TEST(engine_memory, a_request_alone_that_the_backend_cannot_hold_fails_with_its_words) {
    Driver driver(counting(30, 4000));
    driver.backend.on_decode = [](auto) { return Error(Code::overloaded, "no slot"); };
    driver.submit(1, prompt_of(15));
    driver.run();
    ASSERT_TRUE(driver.of(1).failed.has_value());
    EXPECT_EQ(driver.of(1).failed->code, Code::overloaded);
    driver.expect_empty();
}

TEST(engine_memory, a_failing_save_or_restore_ends_that_request_only) {
    for (bool const save : {true, false}) {
        Driver driver(counting(100, 120));
        auto const fail = []() -> Status { return Error(Code::internal, "broken"); };
        (save ? driver.backend.on_save : driver.backend.on_restore) = fail;
        for (RequestId id = 1; id <= 3; ++id) driver.submit(id, prompt_of(20));
        driver.run();
        EXPECT_TRUE(driver.of(1).done.has_value());
        EXPECT_TRUE(driver.of(3).failed.has_value());
        driver.expect_empty();
    }
}

// --- credit ---

TEST(engine_credit, at_zero_a_request_pauses_and_nobody_else_does) {
    Driver driver(counting(50, 1000), [] {
        Options o;
        o.reserve_output = false;
        o.credit = 10;
        return o;
    }());
    driver.submit(1, prompt_of(5));
    driver.submit(2, prompt_of(5));
    driver.core.grant(2, 1000);
    for (int i = 0; i < 30; ++i) driver.step();
    EXPECT_EQ(driver.of(1).tokens(), 10U);
    EXPECT_EQ(driver.of(2).tokens(), 30U);
    driver.run();
    EXPECT_TRUE(driver.of(2).done.has_value());
    EXPECT_FALSE(driver.core.has_work()) << "a paused engine has nothing to do";
    EXPECT_FALSE(driver.of(1).ended());
    driver.core.grant(1, 3);
    EXPECT_TRUE(driver.core.has_work());
    driver.run();
    EXPECT_EQ(driver.of(1).tokens(), 13U);
    driver.core.grant(1, 1000);
    driver.run();
    EXPECT_EQ(driver.of(1).tokens(), 51U);
    EXPECT_EQ(driver.of(1).text().substr(0, 6), "0 1 2 ");
    driver.expect_empty();
}

TEST(engine_credit, a_paused_request_can_be_cancelled) {
    Driver driver(counting(50, 1000), [] {
        Options o;
        o.reserve_output = false;
        o.credit = 4;
        return o;
    }());
    driver.submit(1, prompt_of(5));
    driver.run();
    driver.cancel(1);
    EXPECT_EQ(driver.of(1).done->usage.completion_tokens, 4U);
    driver.expect_empty();
}

TEST(engine_credit, choices_take_turns_when_credit_is_short) {
    Driver driver(counting(50, 1000), [] {
        Options o;
        o.reserve_output = false;
        o.credit = 1;
        return o;
    }());
    auto request = prompt_of(5);
    request.choices = 4;
    driver.submit(1, request);
    driver.run();
    for (std::uint32_t i = 0; i < 4; ++i)
        EXPECT_EQ(driver.of(1).choices[i].tokens, 1U) << "every choice may say its first token";
    for (int i = 0; i < 20; ++i) {
        driver.core.grant(1, 2);
        driver.run();
    }
    EXPECT_EQ(driver.of(1).tokens(), 44U);
    for (std::uint32_t i = 0; i < 4; ++i) EXPECT_NEAR(driver.of(1).choices[i].tokens, 11, 4) << i;
}

TEST(engine_credit, a_slow_reader_gives_up_its_cells_and_ids_to_others_and_gets_them_back) {
    Driver driver(counting(60, 100, 1), [] {
        Options o;
        o.reserve_output = false;
        o.credit = 10;
        return o;
    }());
    driver.submit(1, prompt_of(30));
    driver.run();
    driver.submit(2, prompt_of(60));  // neither the cells nor the one id are free
    driver.core.grant(2, 1000);
    driver.run();
    EXPECT_TRUE(driver.of(2).done.has_value());
    EXPECT_EQ(driver.core.stats().preemptions_total, 1U);
    driver.core.grant(1, 1000);
    driver.run();
    std::string counted;
    for (int i = 0; i < 60; ++i) counted += std::to_string(i) + " ";
    EXPECT_EQ(driver.of(1).text(), counted);
    driver.expect_empty();
}

TEST(engine_credit, paused_sequences_are_not_swapped_for_a_request_that_would_not_fit_anyway) {
    Driver driver(counting(300, 200, 8), [] {
        Options o;
        o.reserve_output = false;
        o.credit = 5;
        return o;
    }());
    driver.submit(1, prompt_of(10));  // will pause
    driver.submit(2, prompt_of(120));
    driver.core.grant(2, 1000);
    driver.run();
    while (driver.core.has_work()) driver.step();
    auto const before = driver.core.stats().preemptions_total;
    EXPECT_EQ(before, 1U) << "only when the running one needed the cells";
}

// Of one that was parked before it was computed: what it holds is promised, not used.
class PromisedRoom : public ::testing::Test {
protected:
    static domain::GenerateRequest request_of(std::size_t prompt, std::uint32_t choices, domain::Priority priority) {
        auto request = prompt_of(prompt);
        request.choices = choices;
        request.priority = priority;
        return request;
    }

    // The one of a better class needs what the other, in its place, was promised.
    static void play(llama::ScriptedOptions scripted, domain::GenerateRequest first, domain::GenerateRequest better) {
        Driver driver(std::move(scripted), {.prompt_tokens = 16, .prefix_cache = false, .reserve_output = false});
        driver.backend.on_decode = [](auto) { return Status(Error(Code::cancelled, "stopped")); };
        driver.submit(1, std::move(first));
        driver.step();
        ASSERT_EQ(driver.core.stats().interruptions_total, 1U);
        driver.backend.on_decode = {};
        driver.submit(3, request_of(10, 1, domain::Priority::interactive));
        driver.step();  // the first one is parked
        driver.submit(2, std::move(better));
        driver.run();
        EXPECT_TRUE(driver.of(2).done.has_value());
        EXPECT_TRUE(driver.of(1).done.has_value());
        driver.expect_empty();
    }
};

TEST_F(PromisedRoom, its_cells_are_in_reach_of_a_better_class) {
    play(counting(5, 100, 1), request_of(40, 1, domain::Priority::batch),
         request_of(80, 1, domain::Priority::interactive));
}

TEST_F(PromisedRoom, the_ids_of_its_choices_are_in_reach_of_a_better_class) {
    auto scripted = counting(5, 400, 4);
    scripted.sequences_kept = 1;
    play(std::move(scripted), request_of(40, 4, domain::Priority::batch),
         request_of(80, 4, domain::Priority::interactive));
}

}  // namespace
}  // namespace hearth::engine
