// A request of a better class comes while a step is computed.
#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using domain::Priority;
using testing::counted;
using testing::counting;
using testing::Driver;
using testing::prompt_of;

using Batch = std::span<llama::BatchEntry const>;

constexpr RequestId kFirstStream = 1, kComer = 100;
constexpr std::size_t kShort = 20;

// A step takes 10 ms and half of one for each entry.
class Interruption : public ::testing::Test {
protected:
    static llama::ScriptedOptions options() {
        auto scripted = counting(60);
        scripted.can_interrupt = true;
        return scripted;
    }

    Interruption()
        : driver(options(), {.prompt_tokens = 256, .credit = 1000, .prefix_cache = false, .reserve_output = false}) {
        driver.backend.on_decode = [this](Batch batch) {
            auto const cost = std::chrono::microseconds(10'000 + 500 * batch.size());
            if (!comes) {
                driver.clock.advance(cost);
                return ok();
            }
            driver.clock.advance(cost / 4 * slowness);
            stopped = driver.core.hurry(*std::exchange(comes, std::nullopt));
            if (!stopped) driver.clock.advance(cost - cost / 4);
            return ok();
        };
    }

    void submit(RequestId id, std::size_t prompt, Priority priority) {
        auto request = prompt_of(prompt);
        request.priority = priority;
        driver.submit(id, std::move(request));
    }

    void run_streams(int count) {
        for (int i = 0; i < count; ++i) submit(kFirstStream + static_cast<RequestId>(i), 30, Priority::normal);
        while (driver.of(kFirstStream + static_cast<RequestId>(count) - 1).tokens() < 5) driver.step();
    }

    // As the engine does it: what came is added when the step has ended.
    void comes_during_step(Priority priority, std::size_t prompt = kShort) {
        stopped = false;
        comes = priority;
        driver.step();
        submit(kComer, prompt, priority);
    }

    Driver driver;
    std::optional<Priority> comes;
    bool stopped = false;
    int slowness = 1;  // of the step in which somebody comes
};

TEST_F(Interruption, gives_the_step_up_and_computes_what_came_first) {
    run_streams(6);
    auto const said = driver.of(kFirstStream).tokens();
    auto const before = driver.clock.now();
    comes_during_step(Priority::interactive);
    EXPECT_TRUE(stopped);
    EXPECT_LT(to_ms(driver.clock.now() - before), 5);
    EXPECT_EQ(driver.of(kFirstStream).tokens(), said) << "the step did not happen";
    driver.step();
    ASSERT_EQ(driver.backend.batches.back().size(), kShort) << "nobody of a worse class is in it";
    EXPECT_EQ(driver.of(kComer).tokens(), 1U);
    driver.step();
    EXPECT_EQ(driver.of(kFirstStream).tokens(), said + 1);
    EXPECT_EQ(driver.core.stats().interruptions_total, 1U);
    driver.run();
    for (RequestId id = kFirstStream; id < kFirstStream + 6; ++id) EXPECT_EQ(driver.of(id).text(), counted(60)) << id;
    EXPECT_EQ(driver.of(kComer).text(), counted(60));
    driver.expect_empty();
}

TEST_F(Interruption, gives_a_step_up_that_takes_longer_than_predicted) {
    run_streams(6);
    slowness = 8;
    driver.backend.share = 0.25;
    comes_during_step(Priority::interactive);
    EXPECT_TRUE(stopped);
    driver.step();
    EXPECT_EQ(driver.of(kComer).tokens(), 1U);
    driver.run();
    driver.expect_empty();
}

// The step's requests were chosen, but it has not begun.
TEST_F(Interruption, a_step_that_is_being_planned_does_not_begin) {
    run_streams(6);
    auto const steps = driver.backend.batches.size();
    EXPECT_FALSE(driver.core.hurry(Priority::interactive)) << "no step runs";
    driver.step();
    EXPECT_EQ(driver.backend.batches.size(), steps);
    submit(kComer, kShort, Priority::interactive);
    driver.step();
    EXPECT_EQ(driver.of(kComer).tokens(), 1U);
    EXPECT_FALSE(driver.core.hurry(Priority::normal));
    driver.step();
    EXPECT_EQ(driver.backend.batches.size(), steps + 2) << "the same class does not hold it up";
    driver.run();
    driver.expect_empty();
}

// They are announced, but there is no room for them.
TEST_F(Interruption, who_finds_no_room_does_not_hold_steps_up_for_ever) {
    run_streams(6);
    auto const said = driver.of(kFirstStream).tokens();
    for (int i = 0; i < 20; ++i) {
        EXPECT_FALSE(driver.core.hurry(Priority::interactive)) << "no step runs";
        driver.step();
    }
    EXPECT_EQ(driver.of(kFirstStream).tokens(), said + 10);
    driver.run();
    driver.expect_empty();
}

TEST_F(Interruption, the_same_class_waits_for_the_step) {
    run_streams(6);
    auto const said = driver.of(kFirstStream).tokens();
    comes_during_step(Priority::normal);
    EXPECT_FALSE(stopped);
    EXPECT_EQ(driver.of(kFirstStream).tokens(), said + 1);
    driver.step();
    EXPECT_EQ(driver.backend.batches.back().size(), kShort + 6);
    EXPECT_EQ(driver.core.stats().interruptions_total, 0U);
    driver.run();
    driver.expect_empty();
}

TEST_F(Interruption, a_prompt_that_is_computed_goes_on_afterwards) {
    submit(kFirstStream, 1500, Priority::batch);
    driver.step();
    comes_during_step(Priority::normal);
    EXPECT_TRUE(stopped);
    driver.step();
    EXPECT_EQ(driver.of(kComer).tokens(), 1U);
    driver.run();
    EXPECT_EQ(driver.of(kFirstStream).text(), counted(60));
    EXPECT_EQ(driver.of(kComer).text(), counted(60));
    driver.expect_empty();
}

TEST_F(Interruption, a_long_prompt_does_not_keep_streams_waiting) {
    run_streams(6);
    comes_during_step(Priority::interactive, 900);
    int steps = 0, waited = 0;
    for (; driver.of(kComer).tokens() == 0; ++steps) {
        auto const said = driver.of(kFirstStream).tokens();
        driver.step();
        waited += driver.of(kFirstStream).tokens() == said ? 1 : 0;
    }
    EXPECT_GT(steps, 5);
    EXPECT_LE(waited, 1) << "for its end alone";
    driver.run();
    driver.expect_empty();
}

// One after another, for as long as the streams run.
TEST_F(Interruption, streams_get_on_whatever_comes) {
    run_streams(6);
    RequestId next = kComer;
    int waited = 0;
    while (driver.of(kFirstStream).tokens() < 50) {
        auto const said = driver.of(kFirstStream).tokens();
        auto request = prompt_of(kShort);
        request.priority = Priority::interactive;
        request.max_tokens = 1;
        driver.submit(next++, std::move(request));
        driver.step();
        waited = driver.of(kFirstStream).tokens() == said ? waited + 1 : 0;
        ASSERT_LE(waited, 1) << "of two steps streams are in one";
    }
    driver.run();
    for (RequestId id = kComer; id < next; ++id) EXPECT_EQ(driver.of(id).tokens(), 1U) << id;
    driver.expect_empty();
}

TEST_F(Interruption, of_a_backend_that_cannot_be_stopped_every_step_ends) {
    Driver fixed(counting(30), {.prompt_tokens = 256, .reserve_output = false});
    bool stopped_it = true;
    fixed.backend.on_decode = [&](Batch) {
        fixed.clock.advance(std::chrono::milliseconds(5));
        stopped_it = fixed.core.hurry(Priority::interactive);
        fixed.clock.advance(std::chrono::milliseconds(50));
        return ok();
    };
    fixed.submit(1, prompt_of(30));
    fixed.step();
    EXPECT_FALSE(stopped_it);
    fixed.run();
    EXPECT_EQ(fixed.of(1).text(), counted(30));
}

}  // namespace
}  // namespace hearth::engine
