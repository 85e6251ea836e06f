// Models that make room for others and come back fast: the pool parking and waking workers.
#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Done;
using domain::Started;
using testing::FakeWorker;

// Two models of 10 bytes, which keep 2, and room for one of each kind.
class PoolParking : public testing::PoolFixture {
public:
    PoolParking() {
        options.memory_bytes = 12;
        options.parked_max = 1;
        launcher.on_launch = [](FakeWorker& worker) { worker.keeps = 2; };
    }

    void add(std::string id, std::optional<Duration> keep_alive = {}) {
        auto model = spec(std::move(id));
        model.lazy = true;
        model.memory_bytes = 10;
        model.process_bytes = 2;
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
    net::Task<std::shared_ptr<FakeWorker>> loaded() {
        auto worker = co_await launcher.next();
        ReadyFrame ready;
        ready.info.memory_bytes = 10;
        worker->send(ready);
        co_await until(worker->spec.id, ModelState::ready);
        co_return worker;
    }
    net::Task<void> answer(FakeWorker& worker, Generation& generation) {
        auto const id = co_await submitted(worker);
        EXPECT_EQ(id, generation.id());
        worker.event(id, Started{1, 0});
        worker.event(id, delta("x"));
        worker.event(id, choice_done());
        worker.event(id, Done{{1, 0, 1}, {}});
        for (;;) {
            auto const event = co_await generation.next();
            if (domain::is_terminal(event)) co_return;
        }
    }
    // "a" was loaded, answered, and is parked since "b" was asked for, which is ready.
    net::Task<std::pair<std::shared_ptr<FakeWorker>, std::shared_ptr<FakeWorker>>> a_parked_for_b() {
        add("a");
        add("b");
        auto first = ask("a");
        auto a = co_await loaded();
        co_await answer(*a, *first);
        auto second = ask("b");
        auto b = co_await loaded();
        co_await answer(*b, *second);
        EXPECT_EQ(state_of("a"), ModelState::parked);
        co_return std::pair(std::move(a), std::move(b));
    }
    double metric(std::string const& name, std::string const& model) {
        return metrics.counter(name, "", {"model"}, {model}).value();
    }
};

TEST_F(PoolParking, ModelsTakeTurnsWithoutAnyBeingLoadedAgain) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        for (int turn = 0; turn < 5; ++turn) {
            auto again = t.ask("a");
            co_await t.answer(*a, *again);
            EXPECT_EQ(t.state_of("b"), ModelState::parked);
            EXPECT_EQ(t.pool().memory().used_bytes, 12U) << "10, and the 2 that are kept";
            auto other = t.ask("b");
            co_await t.answer(*b, *other);
        }
        EXPECT_EQ(t.launcher.launches, 2);
        EXPECT_EQ(a->wakes, 5U);
        EXPECT_EQ(t.metric("hearth_model_wakes_total", "a"), 5);
        auto const status = *t.pool().status("a");
        EXPECT_EQ(status.memory_bytes, 2U) << "what it keeps";
        EXPECT_EQ(status.restarts, 0U);
    }(*this));
}

TEST_F(PoolParking, OneWakeIsForAllThatWait) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        a->wakes_when_asked = false;
        auto one = t.ask("a");
        auto two = t.ask("a");
        co_await t.until("a", ModelState::loading);
        EXPECT_TRUE(one->waiting().loaded_percent) << "who waits is told";
        auto three = t.ask("a");
        co_await t.settle();
        EXPECT_EQ(a->wakes, 1U);
        a->send(ReadyFrame{});
        for (auto* each : {&one, &two, &three}) co_await t.answer(*a, **each);
    }(*this));
}

TEST_F(PoolParking, NobodyIsParkedWhereThatIsOff) {
    options.parked_max = 0;
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a");
        t.add("b");
        auto first = t.ask("a");
        auto a = co_await t.loaded();
        co_await t.answer(*a, *first);
        auto second = t.ask("b");
        auto b = co_await t.loaded();
        EXPECT_EQ(t.state_of("a"), ModelState::cold);
        EXPECT_EQ(a->parks, 0U);
        co_await t.answer(*b, *second);
    }(*this));
}

TEST_F(PoolParking, AWorkerThatCannotGoesAndIsNotAskedAgain) {
    launcher.on_launch = nullptr;
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a");
        t.add("b");
        for (int turn = 0; turn < 3; ++turn) {
            auto first = t.ask("a");
            auto a = co_await t.loaded();
            co_await t.answer(*a, *first);
            auto second = t.ask("b");
            auto b = co_await t.loaded();
            co_await t.answer(*b, *second);
            EXPECT_EQ(t.state_of("a"), ModelState::cold);
            EXPECT_EQ(a->parks, turn < 2 ? 1U : 0U) << "once may be chance";
        }
        EXPECT_EQ(t.pool().status("a")->restarts, 0U) << "no loss";
    }(*this));
}

// A worker that was killed in these moments says nothing of what it can.
TEST_F(PoolParking, OneWhoseFileWasNotToBeUsedMeanwhileIsParkedLater) {
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a");
        t.add("b");
        std::shared_ptr<FakeWorker> b;
        for (int turn = 0; turn < 3; ++turn) {
            bool const last = turn == 2;
            auto first = t.ask("a");
            auto a = co_await t.loaded();
            a->parks_when_asked = last;
            co_await t.answer(*a, *first);
            auto second = t.ask("b");
            co_await t.until("a", last ? ModelState::parked : ModelState::unloading);
            if (!last) {
                EXPECT_TRUE(t.pool().suspend("a", Error(Code::corrupt, "damaged")));
                EXPECT_TRUE(t.pool().resume("a"));
            }
            if (!b) b = co_await t.loaded();
            co_await t.answer(*b, *second);
        }
        EXPECT_EQ(t.state_of("a"), ModelState::parked);
    }(*this));
}

TEST_F(PoolParking, ACacheThatIsBeingWrittenDownIsNotChargedToItsModel) {
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a");
        t.add("b");
        auto first = t.ask("a");
        auto a = co_await t.loaded();
        a->stats.rss_bytes = 13;
        a->stats.tier_memory_bytes = 3;
        a->parks_when_asked = false;
        co_await t.answer(*a, *first);
        while (t.pool().status("a")->resident_bytes != 13) co_await t.loop.sleep(1ms);
        auto second = t.ask("b");
        co_await t.until("a", ModelState::unloading);
        a->stats.tier_memory_bytes = 0;  // nobody is there to ask
        auto const pings = a->pings;
        while (a->pings < pings + 2) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.pool().memory().used_bytes, 10U);
        a->send(ParkedFrame{2});
        auto b = co_await t.loaded();
        co_await t.answer(*b, *second);
    }(*this));
}

TEST_F(PoolParking, WhatIsKeptIsCountedAsItWasMeasured) {
    launcher.on_launch = [](FakeWorker& worker) { worker.keeps = 5; };  // 2 were expected
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a");
        t.add("b");
        auto first = t.ask("a");
        auto a = co_await t.loaded();
        co_await t.answer(*a, *first);
        auto second = t.ask("b");
        auto b = co_await t.loaded();
        EXPECT_EQ(t.state_of("a"), ModelState::cold) << "5 and 10 are too many";
        EXPECT_EQ(a->parks, 1U);
        EXPECT_LE(t.pool().memory().used_bytes, 12U);
        co_await t.answer(*b, *second);
    }(*this));
}

TEST_F(PoolParking, AParkedWorkerThatIsKilledIsOnlyLoadedAgain) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        a->die("signal 9 (Killed)");
        co_await t.until("a", ModelState::cold);
        auto const status = *t.pool().status("a");
        EXPECT_EQ(status.restarts, 0U);
        EXPECT_TRUE(status.problem.empty()) << status.problem;
        auto again = t.ask("a");
        auto fresh = co_await t.loaded();
        co_await t.answer(*fresh, *again);
    }(*this));
}

TEST_F(PoolParking, AWakeThatFailsEndsInALoad) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        a->wakes_when_asked = false;
        auto waiting = t.ask("a");
        co_await t.until("a", ModelState::loading);
        a->die("exit status 1");
        auto fresh = co_await t.loaded();
        EXPECT_EQ(fresh->spec.id, "a");
        co_await t.answer(*fresh, *waiting);
    }(*this));
}

TEST_F(PoolParking, UnloadEndsAParkedModelToo) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        EXPECT_TRUE(t.pool().unload("a"));
        co_await t.until("a", ModelState::cold);
        EXPECT_EQ(a->exit_reason, "exit status 0");
        EXPECT_TRUE(t.pool().unload("b")) << "and one that is loaded is not parked";
        co_await t.until("b", ModelState::cold);
        EXPECT_EQ(b->parks, 0U);
    }(*this));
}

TEST_F(PoolParking, UnloadWhileItIsBeingParkedEndsIt) {
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a");
        t.add("b");
        auto first = t.ask("a");
        auto a = co_await t.loaded();
        a->parks_when_asked = false;
        co_await t.answer(*a, *first);
        auto second = t.ask("b");
        co_await t.until("a", ModelState::unloading);
        EXPECT_TRUE(t.pool().unload("a"));
        a->send(ParkedFrame{2});
        co_await t.until("a", ModelState::cold);
        auto b = co_await t.loaded();
        co_await t.answer(*b, *second);
    }(*this));
}

TEST_F(PoolParking, AParkedModelLeavesWhenItsTimeIsUp) {
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a", 1h);
        t.add("b");
        auto first = t.ask("a");
        auto a = co_await t.loaded();
        co_await t.answer(*a, *first);
        auto second = t.ask("b");
        auto b = co_await t.loaded();
        EXPECT_TRUE(t.pool().status("a")->idle_left) << "known while it is parked";
        t.clock.shift(2h);
        co_await t.answer(*b, *second);
        co_await t.until("a", ModelState::cold);
        EXPECT_EQ(a->parks, 1U);
    }(*this));
}

TEST_F(PoolParking, UnderPressureParkedModelsGoAndNoneIsParked) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        t.pool().relieve(Pressure::some);
        co_await t.until("a", ModelState::cold);
        EXPECT_EQ(t.state_of("b"), ModelState::ready) << "loaded ones stay";
        auto third = t.ask("a");
        auto fresh = co_await t.loaded();
        EXPECT_EQ(t.state_of("b"), ModelState::cold);
        EXPECT_EQ(b->parks, 0U);
        co_await t.answer(*fresh, *third);
    }(*this));
}

TEST_F(PoolParking, AParkedModelThatIsRemovedIsGone) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        EXPECT_TRUE(t.pool().remove("a"));
        while (t.pool().status("a")) co_await t.loop.sleep(1ms);
        EXPECT_EQ(a->exit_reason, "exit status 0");
    }(*this));
}

TEST_F(PoolParking, AFileThatIsNotToBeUsedIsNotWokenEither) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        EXPECT_TRUE(t.pool().suspend("a", Error(Code::corrupt, "damaged")));
        EXPECT_EQ(t.state_of("a"), ModelState::damaged);
        EXPECT_TRUE(a->killed);
        EXPECT_TRUE(t.pool().resume("a"));
        co_await t.until("a", ModelState::cold);
        auto again = t.ask("a");
        auto fresh = co_await t.loaded();
        co_await t.answer(*fresh, *again);
    }(*this));
}

TEST_F(PoolParking, StoppingEndsParkedModels) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        t.pool().drain();
        co_await t.pool().stop(5s);
        EXPECT_EQ(a->exit_reason, "exit status 0");
        EXPECT_EQ(t.state_of("a"), ModelState::stopped);
    }(*this));
}

TEST_F(PoolParking, AWorkerThatSaysItIsParkedUnaskedIsBroken) {
    run([](PoolParking& t) -> net::Task<void> {
        t.add("a");
        auto first = t.ask("a");
        auto a = co_await t.loaded();
        a->send(ParkedFrame{1});
        auto fresh = co_await t.loaded();
        EXPECT_TRUE(a->killed);
        co_await t.answer(*fresh, *first);
    }(*this));
}

TEST_F(PoolParking, AParkedWorkerThatSaysItIsReadyUnaskedIsBroken) {
    run([](PoolParking& t) -> net::Task<void> {
        auto const [a, b] = co_await t.a_parked_for_b();
        a->send(ReadyFrame{});
        co_await t.until("a", ModelState::cold);
        EXPECT_TRUE(a->killed);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
