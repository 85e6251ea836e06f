#include "engine/engine_core.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using testing::counted;
using testing::counting;
using testing::Driver;
using testing::prompt_of;

TEST(engine_order, a_short_prompt_passes_a_long_one_that_came_with_it) {
    Driver driver(counting(3));
    driver.submit(1, prompt_of(700));
    driver.submit(2, prompt_of(10));
    driver.submit(3, prompt_of(10));
    std::vector<RequestId> first_tokens;
    for (int i = 0; i < 10; ++i) {
        driver.step();
        for (RequestId id = 1; id <= 3; ++id) {
            bool const known = std::find(first_tokens.begin(), first_tokens.end(), id) != first_tokens.end();
            if (!known && driver.of(id).tokens() > 0) first_tokens.push_back(id);
        }
    }
    EXPECT_EQ(first_tokens, (std::vector<RequestId>{2, 3, 1}));
}

TEST(engine_order, a_long_prompt_is_not_passed_for_ever) {
    auto options = counting(3);
    options.context_request = 8192;
    Driver driver(options);
    driver.backend.on_decode = [&](std::span<llama::BatchEntry const> batch) {
        driver.clock.advance(std::chrono::microseconds(1000 * batch.size()));
        return ok();
    };
    driver.submit(1, prompt_of(600));
    RequestId next = 2;
    while (driver.of(1).tokens() == 0) {
        for (int i = 0; i < 20; ++i) driver.submit(next++, prompt_of(30));  // more than a step can hold
        driver.step();
        ASSERT_LT(next, 2000U);
    }
    EXPECT_GT(next, 40U) << "else nothing passed it";
}

TEST(engine_order, a_better_class_goes_first_and_takes_the_slots_of_a_worse_one) {
    auto options = counting(40);
    options.sequences_max = 2;
    options.sequences_kept = 4;
    Driver driver(options);
    int saves = 0;
    driver.backend.on_save = [&saves] {
        ++saves;
        return ok();
    };
    auto request = prompt_of(20);
    request.priority = domain::Priority::batch;
    driver.submit(1, request);
    driver.submit(2, request);
    for (int i = 0; i < 5; ++i) driver.step();
    request.priority = domain::Priority::interactive;
    driver.submit(3, request);
    auto const first = driver.of(1).tokens();
    auto const second = driver.of(2).tokens();
    for (int i = 0; i < 5; ++i) driver.step();
    EXPECT_EQ(driver.of(1).tokens(), first + 5);
    EXPECT_EQ(driver.of(2).tokens(), second) << "the younger of the worse class stands still";
    EXPECT_EQ(driver.of(3).tokens(), 5U);
    EXPECT_EQ(driver.core.stats().running, 2U);
    driver.run();
    for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(driver.of(id).text(), counted(40)) << id;
    EXPECT_EQ(saves, 0) << "its cells stayed where they were";
    driver.expect_empty();
}

// Nobody decodes: without the class all of these prompts would be one step.
TEST(engine_order, a_prompt_of_a_better_class_does_not_share_its_step) {
    Driver driver(counting(40), {.prefix_cache = false});
    driver.backend.on_decode = [&](auto batch) {
        driver.clock.advance(std::chrono::microseconds(10'000 + 500 * batch.size()));
        return ok();
    };
    driver.submit(1, prompt_of(30));
    driver.run();  // what a prompt costs is known now
    for (RequestId id = 2; id <= 5; ++id) driver.submit(id, prompt_of(30));
    auto request = prompt_of(20);
    request.priority = domain::Priority::interactive;
    driver.submit(6, request);
    driver.step();
    ASSERT_EQ(driver.backend.batches.back().size(), 20U);
    EXPECT_EQ(driver.of(6).tokens(), 1U);
    driver.step();
    EXPECT_GT(driver.backend.batches.back().size(), 30U) << "and then the others";
    driver.run();
    for (RequestId id = 1; id <= 6; ++id) EXPECT_EQ(driver.of(id).text(), counted(40)) << id;
    driver.expect_empty();
}

TEST(engine_order, who_waits_long_rises_to_the_best_class) {
    auto options = counting(200);
    options.sequences_max = 1;
    options.sequences_kept = 8;
    Driver driver(options, {.ageing_ms = 500, .prefix_cache = false});
    driver.backend.on_decode = [&](auto) {
        driver.clock.advance(std::chrono::milliseconds(10));
        return ok();
    };
    auto request = prompt_of(10);
    request.max_tokens = 10;
    request.priority = domain::Priority::batch;
    driver.submit(1, request);
    request.priority = domain::Priority::interactive;
    RequestId next = 2;
    while (driver.of(1).tokens() == 0) {
        while (driver.core.stats().waiting < 3) driver.submit(next++, request);  // always somebody better
        driver.step();
        ASSERT_LT(next, 1000U);
    }
    EXPECT_GE(to_ms(driver.clock.now() - Instant{}), 1000);
    EXPECT_LT(to_ms(driver.clock.now() - Instant{}), 2000);
}

TEST(engine_order, tenants_get_computing_by_weight_however_many_requests_they_send) {
    auto options = counting(100);
    options.sequences_max = 2;
    Driver driver(options, {.tenant_weights = {{"heavy", 3}}, .prefix_cache = false});
    auto request = prompt_of(40);
    request.max_tokens = 10;
    RequestId next = 1;
    for (int i = 0; i < 200; ++i) {
        request.tenant = "light";
        driver.submit(next++, request);
    }
    for (int i = 0; i < 60; ++i) {
        request.tenant = "heavy";
        driver.submit(next++, request);
    }
    auto const done = [&](RequestId from, RequestId to) {
        int count = 0;
        for (RequestId id = from; id < to; ++id) count += driver.of(id).ended() ? 1 : 0;
        return count;
    };
    while (done(201, 261) < 45) driver.step();
    EXPECT_NEAR(done(1, 201), 15, 3);
}

TEST(engine_order, ever_new_tenants_do_not_pass_one_that_got_much_for_ever) {
    auto options = counting(100);
    options.sequences_max = 1;
    Driver driver(options, {.ageing_ms = 1000, .prefix_cache = false});
    driver.backend.on_decode = [&](auto) {
        driver.clock.advance(std::chrono::milliseconds(10));
        return ok();
    };
    auto request = prompt_of(10);
    request.max_tokens = 10;
    request.tenant = "greedy";
    for (RequestId id = 1; id <= 20; ++id) driver.submit(id, request);
    request.tenant = "idle";  // got nothing yet: those who come in begin there
    request.priority = domain::Priority::batch;
    driver.submit(100, request);
    request.priority = domain::Priority::normal;
    RequestId next = 1000;
    while (!driver.of(20).ended()) {
        while (driver.core.stats().waiting < 30) {
            request.tenant = std::to_string(next);
            driver.submit(next++, request);
        }
        driver.step();
        ASSERT_LT(next, 5000U);
    }
}

TEST(engine_order, a_request_that_passes_a_deadline_ends_and_says_which) {
    auto options = counting(500);
    options.sequences_max = 1;
    Driver driver(options);
    driver.backend.on_decode = [&](auto) {
        driver.clock.advance(std::chrono::milliseconds(10));
        return ok();
    };
    auto request = prompt_of(600);
    request.deadlines.prefill_ms = 15;
    driver.submit(1, request);
    while (!driver.of(1).ended()) driver.step();
    request = prompt_of(10);
    request.deadlines.decode_ms = 100;
    driver.submit(2, request);
    request.deadlines = {.queue_ms = 50, .prefill_ms = {}, .decode_ms = {}};
    driver.submit(3, request);
    request.deadlines = {};
    request.max_tokens = 20;
    driver.submit(4, request);
    while (!driver.of(2).ended()) driver.step();
    ASSERT_TRUE(driver.of(1).failed.has_value() && driver.of(2).failed.has_value());
    EXPECT_EQ(driver.of(2).failed->code, Code::deadline_exceeded);
    EXPECT_EQ(driver.of(2).failed->message, "generating took 100 ms, the limit of this request is 100 ms");
    ASSERT_TRUE(driver.of(3).failed.has_value());
    EXPECT_EQ(driver.of(3).failed->message, "waiting for its turn took 50 ms, the limit of this request is 50 ms");
    EXPECT_EQ(driver.of(1).failed->message, "computing the prompt took 20 ms, the limit of this request is 15 ms");
    driver.run();
    EXPECT_TRUE(driver.of(4).done.has_value());
    driver.expect_empty();
}

TEST(engine_order, says_when_the_next_deadline_passes_even_if_nothing_can_run) {
    Driver driver(counting(50), {.credit = 3, .prefix_cache = false});
    auto request = prompt_of(5);
    request.deadlines.decode_ms = 1000;
    driver.submit(1, request);
    driver.run();
    EXPECT_FALSE(driver.core.has_work());
    ASSERT_TRUE(driver.core.next_deadline().has_value());
    driver.clock.advance(*driver.core.next_deadline() - driver.clock.now());
    driver.step();
    EXPECT_TRUE(driver.of(1).failed.has_value());
    EXPECT_FALSE(driver.core.next_deadline().has_value());
    driver.expect_empty();
}

TEST(engine_order, streams_hardly_notice_a_long_prompt_arriving) {
    auto options = counting(1000);
    options.context_request = 8192;
    Driver driver(options);
    driver.backend.on_decode = [&](std::span<llama::BatchEntry const> batch) {
        driver.clock.advance(std::chrono::microseconds(4000 + 700 * batch.size()));
        return ok();
    };
    for (RequestId id = 1; id <= 3; ++id) {
        driver.submit(id, prompt_of(30));
        driver.core.grant(id, 10000);
    }
    for (int i = 0; i < 20; ++i) driver.step();
    driver.submit(4, prompt_of(2000));
    Instant last = driver.clock.now();
    Instant const arrived = last;
    double gap_max = 0;
    while (driver.of(4).tokens() == 0) {
        auto const before = driver.of(1).tokens();
        driver.step();
        ASSERT_EQ(driver.of(1).tokens(), before + 1) << "every stream gets a token in every step";
        gap_max = std::max(gap_max, to_ms(driver.clock.now() - last));
        last = driver.clock.now();
    }
    EXPECT_LT(gap_max, 70);
    EXPECT_LT(to_ms(last - arrived), 1.25 * 2000 * 0.7) << "and the prompt does not pay much for it";
}

TEST(engine_order, a_slow_machine_gets_small_chunks) {
    auto options = counting(1000);
    options.context_request = 8192;
    Driver driver(options);
    driver.backend.on_decode = [&](std::span<llama::BatchEntry const> batch) {
        driver.clock.advance(std::chrono::milliseconds(30 + 5 * batch.size()));
        return ok();
    };
    driver.submit(1, prompt_of(300));
    while (driver.of(1).tokens() == 0) driver.step();
    driver.backend.batches.clear();
    driver.submit(2, prompt_of(400));
    while (driver.of(2).tokens() == 0) driver.step();
    for (auto const& batch : driver.backend.batches) EXPECT_LE(batch.size(), 32U);
}

}  // namespace
}  // namespace hearth::engine
