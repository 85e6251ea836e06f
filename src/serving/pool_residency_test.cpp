// Models that come and go: the pool acting on residency.h.
#include <algorithm>

#include <gtest/gtest.h>

#include "serving/residency.h"
#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Done;
using domain::Started;
using testing::FakeWorker;

class PoolResidency : public testing::PoolFixture {
public:
    void add(std::string id, std::uint64_t bytes, std::optional<Duration> keep_alive = {}) {
        auto model = spec(std::move(id));
        model.lazy = true;
        model.memory_bytes = bytes;
        model.keep_alive = keep_alive;
        EXPECT_TRUE(pool().add(model));
    }
    std::unique_ptr<Generation> ask(std::string model) {
        auto wanted = request();
        wanted.model = std::move(model);
        return submit(wanted);
    }
    ModelState state_of(std::string const& model) { return pool().status(model)->state; }
    net::Task<void> until(std::string model, ModelState state) {
        while (state_of(model) != state) co_await loop.sleep(1ms);
    }
    // A worker that says it is ready, and that it takes so much.
    net::Task<std::shared_ptr<FakeWorker>> loaded(std::uint64_t bytes) {
        auto worker = co_await launcher.next();
        ReadyFrame ready;
        ready.info.memory_bytes = bytes;
        worker->send(ready);
        co_await until(worker->spec.id, ModelState::ready);
        co_return worker;
    }
};

TEST_F(PoolResidency, ALazyModelIsLoadedOnceForAllThatAskForIt) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 0);
        EXPECT_EQ(t.state_of("a"), ModelState::cold);
        EXPECT_TRUE(t.pool().ready());
        auto one = t.ask("a");
        auto two = t.ask("a");
        auto worker = co_await t.loaded(10);
        co_await t.answer(*worker, *one);
        co_await t.answer(*worker, *two);
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
}

TEST_F(PoolResidency, IdleModelsMakeRoomAndComeBack) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        t.add("b", 10);
        auto first = t.ask("a");
        auto a = co_await t.loaded(10);
        co_await t.answer(*a, *first);
        auto second = t.ask("b");
        auto b = co_await t.loaded(10);
        EXPECT_EQ(t.state_of("a"), ModelState::cold) << "it went before the other came";
        EXPECT_EQ(t.pool().status("a")->restarts, 0U) << "no loss";
        co_await t.answer(*b, *second);
        auto third = t.ask("a");
        auto again = co_await t.loaded(10);
        co_await t.answer(*again, *third);
        EXPECT_EQ(t.state_of("b"), ModelState::cold);
    }(*this));
}

TEST_F(PoolResidency, WhatTookLongToLoadStaysLonger) {
    options.memory_bytes = 25;
    run([](PoolResidency& t) -> net::Task<void> {
        for (auto const* id : {"a", "b", "c"}) t.add(id, 10);
        auto first = t.ask("a");
        auto a = co_await t.launcher.next();
        t.clock.shift(10s);
        ReadyFrame ready;
        ready.info.memory_bytes = 10;
        a->send(ready);
        co_await t.until("a", ModelState::ready);
        co_await t.answer(*a, *first);
        auto second = t.ask("b");
        auto b = co_await t.loaded(10);
        co_await t.answer(*b, *second);
        auto third = t.ask("c");
        auto c = co_await t.loaded(10);
        co_await t.answer(*c, *third);
        EXPECT_EQ(t.state_of("a"), ModelState::ready) << "idle for longer, and dearer by far";
        EXPECT_EQ(t.state_of("b"), ModelState::cold);
    }(*this));
}

TEST_F(PoolResidency, WhoComputesIsNotDisturbedAndGoesWhenItIsDone) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        t.add("b", 10);
        auto running = t.ask("a");
        auto a = co_await t.loaded(10);
        auto const id = co_await t.submitted(*a);
        a->event(id, Started{1, 0});
        auto waiting = t.ask("b");
        co_await t.loop.sleep(kResidentMin + 200ms);
        EXPECT_EQ(t.state_of("a"), ModelState::ready);
        EXPECT_EQ(t.state_of("b"), ModelState::cold);
        auto late = t.ask("a");  // behind the one that waits for the other
        co_await t.settle();
        EXPECT_EQ(a->unread(), 0U) << "it is being drained";
        a->event(id, t.choice_done());
        a->event(id, Done{{1, 0, 0}, {}});
        auto b = co_await t.loaded(10);
        EXPECT_EQ(b->spec.id, "b");
        co_await t.answer(*b, *waiting);
        auto again = co_await t.loaded(10);
        EXPECT_EQ(again->spec.id, "a");
        co_await t.answer(*again, *late);
    }(*this));
}

TEST_F(PoolResidency, NobodyGoesForWhoLeft) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        t.add("b", 10);
        auto running = t.ask("a");
        auto a = co_await t.loaded(10);
        auto const id = co_await t.submitted(*a);
        a->event(id, Started{1, 0});
        co_await t.settle();
        t.clock.shift(kResidentMin);
        auto leaving = t.ask("b");
        co_await t.settle();
        auto late = t.ask("a");
        co_await t.settle();
        EXPECT_EQ(a->unread(), 0U) << "it is being drained";
        leaving.reset();
        co_await t.settle();
        EXPECT_EQ(a->unread(), 1U) << "nobody waits for its room any more";
        a->event(id, t.choice_done());
        a->event(id, Done{{1, 0, 0}, {}});
        co_await t.answer(*a, *late);
        co_await t.settle();
        EXPECT_EQ(t.state_of("a"), ModelState::ready);
        EXPECT_EQ(t.state_of("b"), ModelState::cold);
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
}

TEST_F(PoolResidency, WhoWantedItWithoutARequestDoesNotLeaveWithOne) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        t.add("b", 10);
        auto running = t.ask("a");
        auto a = co_await t.loaded(10);
        auto const id = co_await t.submitted(*a);
        EXPECT_TRUE(t.pool().warm("b", {}));
        auto leaving = t.ask("b");
        leaving.reset();
        co_await t.settle();
        a->event(id, Started{1, 0});
        a->event(id, t.choice_done());
        a->event(id, Done{{1, 0, 0}, {}});
        auto const b = co_await t.loaded(10);
        EXPECT_EQ(b->spec.id, "b");
    }(*this));
}

TEST_F(PoolResidency, UnloadTakesBackThatItWasWanted) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        t.add("b", 10);
        auto running = t.ask("a");
        auto a = co_await t.loaded(10);
        EXPECT_TRUE(t.pool().warm("b", {}));
        EXPECT_TRUE(t.pool().unload("b"));
        co_await t.answer(*a, *running);
        co_await t.settle();
        EXPECT_EQ(t.state_of("a"), ModelState::ready);
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
}

TEST_F(PoolResidency, AnIdleModelGoesWhenItsTimeIsUp) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10, 50ms);
        auto first = t.ask("a");
        auto a = co_await t.loaded(10);
        co_await t.answer(*a, *first);
        EXPECT_TRUE(t.pool().status("a")->idle_left);
        co_await t.until("a", ModelState::cold);
        auto second = t.ask("a");
        auto again = co_await t.loaded(10);
        co_await t.answer(*again, *second);
    }(*this));
}

TEST_F(PoolResidency, WarmLoadsAModelBeforeAnybodyAsksIt) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        EXPECT_TRUE(t.pool().warm("a", {}));
        auto a = co_await t.loaded(10);
        EXPECT_TRUE(t.pool().warm("a", {})) << "there already";
        EXPECT_EQ(t.pool().warm("none", {}).error().code, Code::not_found);
    }(*this));
}

TEST_F(PoolResidency, TheLastRequestSaysHowLongItsModelStays) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        auto wanted = t.request();
        wanted.model = "a";
        auto first = t.submit(wanted);
        auto a = co_await t.loaded(10);
        co_await t.answer(*a, *first);
        EXPECT_FALSE(t.pool().status("a")->idle_left) << "nobody said";
        wanted.keep_alive = 1h;
        auto second = t.submit(wanted);
        co_await t.answer(*a, *second);
        EXPECT_GT(t.pool().status("a")->idle_left.value_or(0s), 59min);
        wanted.keep_alive.reset();
        auto third = t.submit(wanted);
        co_await t.answer(*a, *third);
        EXPECT_EQ(t.pool().status("a")->keep_alive, Duration(1h)) << "what was said before";
        wanted.keep_alive = -1s;
        auto fourth = t.submit(wanted);
        co_await t.answer(*a, *fourth);
        EXPECT_FALSE(t.pool().status("a")->idle_left) << "for ever";
        wanted.keep_alive = 0s;
        auto last = t.submit(wanted);
        EXPECT_EQ(t.state_of("a"), ModelState::ready) << "it is busy";
        co_await t.answer(*a, *last);
        co_await t.until("a", ModelState::cold);
    }(*this));
}

TEST_F(PoolResidency, KeepAliveBeyondAllTimeIsForEver) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10, 1h);
        EXPECT_TRUE(t.pool().warm("a", Duration::max()));
        auto a = co_await t.loaded(10);
        EXPECT_FALSE(t.pool().status("a")->idle_left);
    }(*this));
}

TEST_F(PoolResidency, ToStayForNoTimeStillMeansToBeAskedFirst) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        EXPECT_TRUE(t.pool().warm("a", Duration::zero()));
        auto a = co_await t.loaded(10);
        co_await t.settle();
        EXPECT_EQ(t.state_of("a"), ModelState::ready);
        auto first = t.ask("a");
        co_await t.answer(*a, *first);
        co_await t.until("a", ModelState::cold);
    }(*this));
}

TEST_F(PoolResidency, UnloadLetsWhatRunsEndAndWhatComesLaterLoadsItAgain) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10);
        EXPECT_EQ(t.pool().unload("none").error().code, Code::not_found);
        EXPECT_TRUE(t.pool().unload("a")) << "cold";
        auto running = t.ask("a");
        EXPECT_TRUE(t.pool().unload("a")) << "what waits is answered first";
        auto a = co_await t.loaded(10);
        auto const id = co_await t.submitted(*a);
        a->event(id, Started{1, 0});
        auto late = t.ask("a");
        co_await t.settle();
        EXPECT_EQ(a->unread(), 0U);
        a->event(id, t.choice_done());
        a->event(id, Done{{1, 0, 0}, {}});
        auto again = co_await t.loaded(10);
        co_await t.answer(*again, *late);
        EXPECT_EQ(t.state_of("a"), ModelState::ready);
        EXPECT_TRUE(t.pool().unload("a"));
        co_await t.until("a", ModelState::cold);
        EXPECT_EQ(t.pool().status("a")->restarts, 0U);
    }(*this));
}

TEST_F(PoolResidency, WhatCanNeverFitIsRefusedWithBothSizes) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("huge", 16);
        auto request = t.request();
        request.model = "huge";
        auto const refused = t.pool().submit(request);
        EXPECT_FALSE(refused);
        if (refused) co_return;
        EXPECT_EQ(refused.error().code, Code::exhausted);
        EXPECT_NE(refused.error().message.find("16"), std::string::npos);
        EXPECT_NE(refused.error().message.find("15"), std::string::npos);
        auto model = t.spec("preloaded");
        model.memory_bytes = 16;
        EXPECT_EQ(t.pool().add(model).error().code, Code::exhausted);
    }(*this));
}

TEST_F(PoolResidency, ModelsThatAreNotLazyWaitForTheBudgetToo) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        for (auto const* id : {"a", "b"}) {
            auto model = t.spec(id);
            model.memory_bytes = 7;
            EXPECT_TRUE(t.pool().add(model));
        }
        EXPECT_FALSE(t.pool().ready()) << "awaited";
        auto a = co_await t.loaded(7);
        auto b = co_await t.loaded(7);
        EXPECT_TRUE(t.pool().ready());
    }(*this));
}

TEST_F(PoolResidency, AWorkerThatDoesNotGoIsKilled) {
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10, 20ms);
        auto first = t.ask("a");
        auto a = co_await t.loaded(10);
        a->closes_when_asked = false;
        a->answers_pings = false;
        co_await t.answer(*a, *first);
        co_await t.until("a", ModelState::unloading);
        co_await t.until("a", ModelState::cold);
        EXPECT_TRUE(a->killed);
    }(*this));
}

TEST_F(PoolResidency, ClosingWorksInEveryState) {
    options.memory_bytes = 15;
    run([](PoolResidency& t) -> net::Task<void> {
        t.add("a", 10, 1ms);
        t.add("b", 10);
        auto first = t.ask("a");
        auto a = co_await t.loaded(10);
        a->closes_when_asked = false;
        co_await t.answer(*a, *first);
        auto waiting = t.ask("b");
        co_await t.until("a", ModelState::unloading);
        t.pool().drain();
        co_await t.pool().stop(100ms);
        auto const choice = co_await waiting->next();
        EXPECT_EQ(choice, domain::Event(domain::ChoiceDone{0, domain::FinishReason::cancelled, {}}));
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
