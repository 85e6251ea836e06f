// The pool over real workers with scripted backends, as threads of this
// process: what the two modules promise together.
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "worker/testing/front_end.h"
#include "worker/testing/pool_run.h"
#include "worker/thread_launcher.h"

namespace hearth::worker {
namespace {

using namespace domain;
using namespace serving;
using namespace std::chrono_literals;

class PoolOnWorkers : public testing::PoolRun {
public:
    PoolOnWorkers() {
        options.hang_timeout = 20s;
        scripts["m"] = testing::script({"Hel", "lo", "!"});
        auto endless = testing::script({"tick "});
        endless.repeat = true;
        endless.context_request = 16384;
        scripts["endless"] = endless;
        auto threads = std::make_unique<ThreadLauncher>(
            [this](ModelSpec const& spec) { return testing::scripted(scripts.at(spec.id)); }, engine::Options{}, clock);
        workers = threads.get();
        launcher = std::move(threads);
    }

    std::map<std::string, llama::ScriptedOptions> scripts;
    ThreadLauncher* workers = nullptr;
};

TEST_F(PoolOnWorkers, ManyRequestsTogetherAllGetTheirWholeAnswer) {
    add("m");
    run([](PoolOnWorkers& t) -> net::Task<void> {
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 64; ++i) generations.push_back(t.submit("m", "prompt " + std::to_string(i)));
        for (auto const& generation : generations) {
            auto const text = co_await t.text_of(*generation);
            EXPECT_EQ(text, "Hello!");
        }
        EXPECT_EQ(t.pool().models()[0].inside, 0U);
    }(*this));
}

TEST_F(PoolOnWorkers, ASlowConsumerPausesOnlyItself) {
    options.credit_tokens = 16;
    add("endless");
    run([](PoolOnWorkers& t) -> net::Task<void> {
        auto slow = t.submit("endless");
        co_await t.next_delta(*slow);
        auto fast = t.submit("endless");
        std::uint32_t tokens = 0;
        while (tokens < 2000) {
            auto const event = co_await fast->next();
            if (auto const* delta = std::get_if<Delta>(&event)) tokens += delta->tokens;
        }
        // All that the slow one has is what it was allowed.
        std::uint32_t held = 0;
        for (auto event = slow->try_next(); event; event = slow->try_next()) {
            if (auto const* delta = std::get_if<Delta>(&*event)) held += delta->tokens;
        }
        EXPECT_LE(held, 16U);
        // And taking it lets it go on.
        co_await t.next_delta(*slow);
    }(*this));
}

TEST_F(PoolOnWorkers, CancelledRequestsFreeTheirPlace) {
    options.requests_max = 4;
    add("endless");
    run([](PoolOnWorkers& t) -> net::Task<void> {
        for (int round = 0; round < 25; ++round) {
            std::vector<std::unique_ptr<Generation>> generations;
            for (int i = 0; i < 4; ++i) generations.push_back(t.submit("endless"));
            if (round % 2 == 0) co_await t.next_delta(*generations[0]);
            EXPECT_FALSE(t.pool().submit(t.request("endless")));
            generations[1]->cancel();
            co_await t.text_of(*generations[1]);
            generations.clear();
            while (t.pool().models()[0].inside > 0) co_await t.loop.sleep(1ms);
        }
        // The engine agrees that nothing is left.
        for (;;) {
            auto const stats = t.pool().models()[0].stats;
            if (stats.steps_total > 0 && stats.running + stats.waiting == 0) break;
            co_await t.loop.sleep(5ms);
        }
        auto last = t.submit("endless");
        co_await t.next_delta(*last);
    }(*this));
}

TEST_F(PoolOnWorkers, AWorkersEndIsSeenByItsStreamsOnly) {
    add("endless");
    add("m");
    run([](PoolOnWorkers& t) -> net::Task<void> {
        auto streaming = t.submit("endless");
        co_await t.next_delta(*streaming);
        t.workers->kill_all("endless");
        auto const broken = co_await t.text_of(*streaming);
        EXPECT_TRUE(broken.ends_with("failed: engine_lost")) << broken;
        auto other = t.submit("m");
        auto const text = co_await t.text_of(*other);
        EXPECT_EQ(text, "Hello!");
        auto again = t.submit("endless");
        co_await t.next_delta(*again);
        EXPECT_EQ(t.pool().status("endless")->restarts, 1U);
        EXPECT_EQ(t.pool().status("m")->restarts, 0U);
    }(*this));
}

// The backend holds the first prompt until the test has killed the worker; the
// next worker computes all of them.
TEST_F(PoolOnWorkers, WhatHasNotBegunIsReplayedWhole) {
    // Shared with the hook: the lost worker may leave the gate after the test has ended.
    auto const first_decode = std::make_shared<testing::Gate>();
    auto const decodes = std::make_shared<std::atomic<int>>(0);
    scripts["m"].before_decode = [first_decode, decodes](std::uint64_t) {
        if ((*decodes)++ == 0) first_decode->pass();
        return ok();
    };
    add("m");
    run([](PoolOnWorkers& t, testing::Gate& gate) -> net::Task<void> {
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 32; ++i) generations.push_back(t.submit("m", std::to_string(i)));
        while (!gate.reached()) co_await t.loop.sleep(1ms);
        t.workers->kill_all("m");
        while (t.pool().models()[0].restarts == 0) co_await t.loop.sleep(1ms);
        gate.open();
        for (auto const& generation : generations) {
            auto const text = co_await t.text_of(*generation);
            EXPECT_EQ(text, "Hello!");
        }
    }(*this, *first_decode));
}

TEST_F(PoolOnWorkers, ADecodeThatFailsIsAnErrorOfItsRequestsAndNotOfTheWorker) {
    scripts["m"].before_decode = [](std::uint64_t index) {
        return index == 0 ? Status(Error(Code::internal, "no luck")) : ok();
    };
    add("m");
    run([](PoolOnWorkers& t) -> net::Task<void> {
        auto first = t.submit("m");
        auto const failed = co_await t.text_of(*first);
        EXPECT_EQ(failed, "failed: internal");
        auto second = t.submit("m");
        auto const text = co_await t.text_of(*second);
        EXPECT_EQ(text, "Hello!");
        EXPECT_EQ(t.pool().models()[0].restarts, 0U);
    }(*this));
}

TEST_F(PoolOnWorkers, StopEndsEverythingInOrder) {
    add("endless");
    run([](PoolOnWorkers& t) -> net::Task<void> {
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 8; ++i) generations.push_back(t.submit("endless"));
        co_await t.next_delta(*generations[0]);
        co_await t.pool().stop(20s);
        for (auto const& generation : generations) {
            auto const text = co_await t.text_of(*generation);
            EXPECT_FALSE(text.ends_with("engine_lost")) << text;
        }
        EXPECT_EQ(t.pool().models()[0].state, ModelState::stopped);
    }(*this));
}

}  // namespace
}  // namespace hearth::worker
