// Models whose file is not to be used, and those that are used again.
#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Started;

class PoolSuspend : public testing::PoolFixture {
public:
    static Error damaged() { return {Code::unavailable, "model 'm' is damaged", "damaged"}; }
    static net::Task<domain::Event> end_of(Generation& generation) {
        for (;;) {
            auto event = co_await generation.next();
            if (domain::is_terminal(event)) co_return event;
        }
    }
    net::Task<void> until(ModelState state) {
        while (pool().status("m")->state != state) co_await loop.sleep(1ms);
    }
    double state_shown(std::string const& state) {
        auto const text = metrics.render();
        auto const line = "hearth_model_state{model=\"m\",state=\"" + state + "\"} ";
        auto const at = text.find(line);
        return at == std::string::npos ? -1 : std::stod(text.substr(at + line.size()));
    }
};

TEST_F(PoolSuspend, EndsWhatRunsAndStartsNothingBeforeItIsResumed) {
    run([](PoolSuspend& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto running = t.submit();
        auto const id = co_await t.submitted(*worker);
        worker->event(id, Started{1, 0});
        EXPECT_TRUE(t.pool().suspend("m", damaged()));
        auto const end = co_await t.end_of(*running);
        EXPECT_EQ(t.failure(end), Code::unavailable);
        EXPECT_EQ(t.pool().status("m")->state, ModelState::damaged);
        EXPECT_EQ(t.pool().status("m")->problem, "model 'm' is damaged");
        EXPECT_EQ(t.state_shown("damaged"), 1);
        EXPECT_EQ(t.pool().submit(t.request()).error().param, "damaged");
        EXPECT_EQ(t.pool().warm("m", std::nullopt).error().param, "damaged");
        while (worker->exit_reason.empty()) co_await t.loop.sleep(1ms);
        co_await t.settle();
        EXPECT_EQ(t.pool().status("m")->pid, 0);

        EXPECT_TRUE(t.pool().resume("m"));
        auto next = co_await t.launcher.next();
        next->ready();
        co_await t.until(ModelState::ready);
        EXPECT_EQ(t.state_shown("damaged"), 0);
        auto again = t.submit();
        auto const second = co_await t.submitted(*next);
        EXPECT_NE(second, id);
    }(*this));
}

TEST_F(PoolSuspend, OneThatCouldNotBeLoadedIsLoadedAgain) {
    run([](PoolSuspend& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(spec("m")));
        auto worker = co_await t.launcher.next();
        worker->send(LoadFailedFrame{Error(Code::corrupt, "it is cut short")});
        co_await t.until(ModelState::failed);
        worker->die("exit status 1");
        EXPECT_TRUE(t.pool().resume("m")) << "nothing to do";
        EXPECT_EQ(t.pool().status("m")->state, ModelState::failed);
        EXPECT_TRUE(t.pool().suspend("m", damaged()));
        EXPECT_FALSE(t.pool().status("m")->awaited) << "nobody waits for it at the start";
        EXPECT_TRUE(t.pool().resume("m"));
        auto next = co_await t.launcher.next();
        next->ready();
        co_await t.until(ModelState::ready);
    }(*this));
}

// A later crash is one like others: who waits is given the next worker.
TEST_F(PoolSuspend, WhatMetAGoodbyeIsForgottenWhenItIsOver) {
    run([](PoolSuspend& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->closes_when_asked = false;
        EXPECT_TRUE(t.pool().unload("m"));
        co_await t.until(ModelState::unloading);
        EXPECT_TRUE(t.pool().suspend("m", damaged()));
        while (worker->exit_reason.empty()) co_await t.loop.sleep(1ms);
        co_await t.settle();
        EXPECT_TRUE(t.pool().resume("m"));
        auto waiting = t.submit();
        auto next = co_await t.launcher.next();
        next->ready();
        co_await t.submitted(*next);
        next->die("signal 11");
        auto last = co_await t.launcher.next();
        last->ready();
        EXPECT_NE(co_await t.submitted(*last), 0U) << "it is replayed, and nobody had to ask again";
    }(*this));
}

// What was not well before has nothing to do with the file that is there now.
TEST_F(PoolSuspend, AResumedModelDoesNotWaitAsOneThatKeepsCrashing) {
    options.backoff_min = options.backoff_max = std::chrono::hours(1);
    run([](PoolSuspend& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->die("signal 11");
        co_await t.until(ModelState::restarting);
        co_await t.settle();
        EXPECT_TRUE(t.pool().suspend("m", damaged()));
        co_await t.settle();
        EXPECT_TRUE(t.pool().resume("m"));
        auto next = co_await t.launcher.next();
        next->ready();
        co_await t.until(ModelState::ready);
    }(*this));
}

TEST_F(PoolSuspend, OneThatIsRemovedMeanwhileIsGone) {
    run([](PoolSuspend& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        EXPECT_TRUE(t.pool().suspend("m", damaged()));
        EXPECT_TRUE(t.pool().remove("m"));
        while (t.pool().status("m")) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.pool().suspend("m", damaged()).error().code, Code::not_found);
        EXPECT_EQ(t.pool().resume("m").error().code, Code::not_found);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
