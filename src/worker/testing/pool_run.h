// A pool on a loop, for tests that run it over real workers of either kind.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "net/loop.h"
#include "serving/pool.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace hearth::worker::testing {

class PoolRun : public ::testing::Test {
public:
    PoolRun() { options.backoff_min = std::chrono::milliseconds(1); }

    // Runs the test's coroutine to its end.
    void run(net::Task<void> test) {
        loop.spawn(guarded(std::move(test)));
        loop.spawn(watch());
        loop.run();
        EXPECT_TRUE(finished_) << "the test did not end";
    }

    serving::Pool& pool() {
        if (!pool_) pool_ = serving::Pool::create(loop, options, *launcher, clock, *log, metrics);
        return *pool_;
    }

    void add(std::string id) {
        serving::ModelSpec spec;
        spec.id = std::move(id);
        spec.path = "scripted";
        EXPECT_TRUE(pool().add(spec));
    }

    static domain::GenerateRequest request(std::string model, std::string prompt = "hello") {
        domain::GenerateRequest out;
        out.model = std::move(model);
        out.prompt = domain::TextPrompt{std::move(prompt)};
        out.sampling.temperature = 0;
        return out;
    }

    std::unique_ptr<serving::Generation> submit(std::string model, std::string prompt = "hello") {
        auto generation = pool().submit(request(std::move(model), std::move(prompt)));
        EXPECT_TRUE(generation) << (generation ? "" : generation.error().message);
        return generation ? *std::move(generation) : nullptr;
    }

    // All of its text; then "failed: <code>" if it failed.
    static net::Task<std::string> text_of(serving::Generation& generation) {
        std::string out;
        for (;;) {
            auto const event = co_await generation.next();
            if (auto const* delta = std::get_if<domain::Delta>(&event)) out += delta->text;
            if (auto const* failed = std::get_if<domain::Failed>(&event)) {
                co_return out + "failed: " + std::string(to_string(failed->error.code));
            }
            if (domain::is_terminal(event)) co_return out;
        }
    }

    static net::Task<void> next_delta(serving::Generation& generation) {
        for (;;) {
            auto const event = co_await generation.next();
            if (std::holds_alternative<domain::Delta>(event)) co_return;
            if (!domain::is_terminal(event)) continue;
            ADD_FAILURE() << "it ended first";
            co_return;
        }
    }

    net::Loop loop;
    SteadyClock clock;
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
    telemetry::Registry metrics;
    serving::PoolOptions options;
    std::unique_ptr<serving::Launcher> launcher;  // set by the test

protected:
    void destroy_pool() { pool_.reset(); }

private:
    static constexpr Duration kPatience = std::chrono::seconds(60);

    net::Task<void> guarded(net::Task<void> test) {
        co_await std::move(test);
        finished_ = true;
        loop.stop();
    }
    net::Task<void> watch() {
        co_await loop.sleep(kPatience);
        loop.stop();
    }

    std::unique_ptr<serving::Pool> pool_;
    bool finished_ = false;
};

}  // namespace hearth::worker::testing
