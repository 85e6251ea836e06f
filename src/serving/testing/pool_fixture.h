// What the tests of the pool share: a loop, a pool, and requests for it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "net/loop.h"
#include "serving/pool.h"
#include "serving/testing/fake_worker.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::serving::testing {

using namespace std::chrono_literals;

// Real time, and what the test adds to it. One thread.
class ShiftedClock final : public Clock {
public:
    [[nodiscard]] Instant now() const override { return real_.now() + by_; }
    void shift(Duration by) { by_ += by; }

private:
    SteadyClock real_;
    Duration by_{};
};

class PoolFixture : public ::testing::Test {
public:
    static constexpr Duration kPatience = 30s;  // a test that takes longer hangs

    PoolFixture() {
        options.backoff_min = 1ms;
        options.backoff_max = 50ms;
        options.ping_interval = 20ms;
        options.hang_timeout = 20s;  // tests of hanging set their own
    }

    Pool& pool() {
        if (!pool_) pool_ = Pool::create(loop, options, launcher, clock, *log, metrics);
        return *pool_;
    }
    void destroy_pool() { pool_.reset(); }

    // Runs the test's coroutine to its end.
    void run(net::Task<void> test) {
        loop.spawn(guarded(std::move(test)));
        loop.spawn(watch());
        loop.run();
        EXPECT_TRUE(finished_) << "the test did not end";
    }

    static ModelSpec spec(std::string id) {
        ModelSpec out;
        out.id = std::move(id);
        out.path = out.id + ".gguf";
        return out;
    }

    static domain::GenerateRequest request(std::string prompt = "hello", std::uint32_t choices = 1) {
        domain::GenerateRequest out;
        out.prompt = domain::TextPrompt{std::move(prompt)};
        out.choices = choices;
        return out;
    }

    std::unique_ptr<Generation> submit(domain::GenerateRequest r = request()) {
        auto generation = pool().submit(std::move(r));
        EXPECT_TRUE(generation) << (generation ? "" : generation.error().message);
        return generation ? *std::move(generation) : nullptr;
    }

    // A model "m" whose worker is ready.
    net::Task<std::shared_ptr<FakeWorker>> ready_worker() {
        EXPECT_TRUE(pool().add(spec("m")));
        co_return co_await next_ready();
    }
    net::Task<std::shared_ptr<FakeWorker>> next_ready() {
        auto worker = co_await launcher.next();
        worker->ready();
        while (pool().models().back().state != ModelState::ready) co_await loop.sleep(1ms);
        co_return worker;
    }

    // The next frame, which must be a Submit; its id.
    static net::Task<RequestId> submitted(FakeWorker& worker) {
        auto frame = co_await worker.next();
        auto const* submit = std::get_if<SubmitFrame>(&frame);
        EXPECT_NE(submit, nullptr) << "frame kind " << frame.index();
        co_return submit ? submit->id : 0;
    }

    static domain::Delta delta(std::string text, std::uint32_t tokens = 1, std::uint32_t choice = 0) {
        return {choice, tokens, std::move(text), {}};
    }
    static domain::ChoiceDone choice_done(std::uint32_t choice = 0) { return {choice, domain::FinishReason::stop, {}}; }

    // Lets everything that is due happen.
    net::Task<void> settle() {
        for (int turn = 0; turn < 20; ++turn) co_await loop.sleep(Duration::zero());
    }

    static std::string text_of(domain::Event const& event) {
        auto const* piece = std::get_if<domain::Delta>(&event);
        return piece ? piece->text : "event kind " + std::to_string(event.index());
    }
    static Code failure(domain::Event const& event) {
        auto const* failed = std::get_if<domain::Failed>(&event);
        EXPECT_NE(failed, nullptr) << "event kind " << event.index();
        return failed ? failed->error.code : Code::invalid_argument;
    }
    // One token, taken to its end.
    static net::Task<void> answer(FakeWorker& worker, Generation& generation) {
        auto const id = co_await submitted(worker);
        EXPECT_EQ(id, generation.id());
        worker.event(id, domain::Started{1, 0});
        worker.event(id, delta("x"));
        worker.event(id, choice_done());
        worker.event(id, domain::Done{{1, 0, 1}, {}});
        for (;;) {
            auto const event = co_await generation.next();
            if (domain::is_terminal(event)) co_return;
        }
    }
    static void fail_here(char const* why) { ADD_FAILURE() << why; }
    template <typename T>
    static bool is(domain::Event const& event) {
        return std::holds_alternative<T>(event);
    }

    net::Loop loop;
    ShiftedClock clock;
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
    telemetry::Registry metrics;
    FakeLauncher launcher{loop};
    PoolOptions options;

private:
    net::Task<void> guarded(net::Task<void> test) {
        co_await std::move(test);
        finished_ = true;
        loop.stop();
    }
    net::Task<void> watch() {
        co_await loop.sleep(kPatience);
        loop.stop();
    }

    std::unique_ptr<Pool> pool_;
    bool finished_ = false;
};

}  // namespace hearth::serving::testing
