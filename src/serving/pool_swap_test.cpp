// A name that another file takes over, caches that make room, and pressure from outside.
#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Done;
using domain::Started;
using testing::FakeWorker;

class PoolSwap : public testing::PoolFixture {
public:
    static ModelSpec file(std::string path, std::uint64_t bytes = 10) {
        ModelSpec out;
        out.id = "whatever";
        out.path = std::move(path);
        out.memory_bytes = bytes;
        return out;
    }
    void begin_swap(ModelSpec next, Duration timeout = 30s) { loop.spawn(swap(*this, std::move(next), timeout)); }
    net::Task<void> swapped() {
        while (!outcome) co_await loop.sleep(1ms);
    }
    static net::Task<void> finish(FakeWorker& worker, RequestId id, Generation& generation) {
        worker.event(id, delta("x"));
        worker.event(id, choice_done());
        worker.event(id, Done{{1, 0, 1}, {}});
        for (;;) {
            auto const event = co_await generation.next();
            EXPECT_FALSE(is<domain::Failed>(event));
            if (domain::is_terminal(event)) co_return;
        }
    }
    ModelStatus status() { return *pool().status("m"); }

    std::optional<Status> outcome;

private:
    static net::Task<void> swap(PoolSwap& t, ModelSpec next, Duration timeout) {
        auto done = co_await t.pool().swap("m", std::move(next), timeout);
        t.outcome = std::move(done);
    }
};

TEST_F(PoolSwap, MovesTheNameWhenTheNewOneIsReadyAndLetsTheOldOneFinish) {
    run([](PoolSwap& t) -> net::Task<void> {
        auto old = co_await t.ready_worker();
        auto running = t.submit();
        auto const id = co_await t.submitted(*old);
        old->event(id, Started{1, 0});
        t.begin_swap(file("next.gguf"));
        auto incoming = co_await t.launcher.next();
        EXPECT_EQ(incoming->spec.path, "next.gguf");
        EXPECT_EQ(incoming->spec.id, "m");
        EXPECT_EQ(t.status().path, "m.gguf") << "not before it is ready";
        EXPECT_EQ(t.pool().models().size(), 1U);
        incoming->ready();
        co_await t.swapped();
        EXPECT_TRUE(*t.outcome);
        EXPECT_EQ(t.status().path, "next.gguf");
        auto later = t.submit();
        auto const later_id = co_await t.submitted(*incoming);
        incoming->event(later_id, Started{1, 0});
        co_await t.finish(*incoming, later_id, *later);
        EXPECT_TRUE(old->exit_reason.empty()) << "it has something to do";
        co_await t.finish(*old, id, *running);
        while (old->exit_reason.empty()) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.status().state, ModelState::ready);
    }(*this));
}

TEST_F(PoolSwap, AFileThatCannotBeLoadedChangesNothing) {
    run([](PoolSwap& t) -> net::Task<void> {
        auto old = co_await t.ready_worker();
        t.begin_swap(file("bad.gguf"));
        auto incoming = co_await t.launcher.next();
        incoming->send(LoadFailedFrame{Error(Code::corrupt, "no model")});
        co_await t.swapped();
        EXPECT_EQ(t.outcome->error().code, Code::unavailable);
        EXPECT_NE(t.outcome->error().message.find("no model"), std::string::npos);
        EXPECT_EQ(t.status().path, "m.gguf");
        auto request = t.submit();
        auto const id = co_await t.submitted(*old);
        old->event(id, Started{1, 0});
        co_await t.finish(*old, id, *request);
    }(*this));
}

TEST_F(PoolSwap, OneThatTakesTooLongIsGivenUp) {
    run([](PoolSwap& t) -> net::Task<void> {
        auto old = co_await t.ready_worker();
        t.begin_swap(file("slow.gguf"), 20ms);
        auto incoming = co_await t.launcher.next();
        co_await t.swapped();
        EXPECT_EQ(t.outcome->error().code, Code::unavailable);
        t.outcome.reset();
        t.begin_swap(file("next.gguf"));
        auto second = co_await t.launcher.next();
        second->ready();
        co_await t.swapped();
        EXPECT_TRUE(*t.outcome) << "the next try is free";
    }(*this));
}

TEST_F(PoolSwap, IsRefusedWithoutRoomForBothAndWhileOneIsUnderWay) {
    options.memory_bytes = 15;
    run([](PoolSwap& t) -> net::Task<void> {
        auto model = t.spec("m");
        model.memory_bytes = 6;
        EXPECT_TRUE(t.pool().add(model));
        auto old = co_await t.next_ready();
        t.begin_swap(file("huge.gguf", 16));
        co_await t.swapped();
        EXPECT_EQ(t.outcome->error().code, Code::exhausted);
        EXPECT_NE(t.outcome->error().message.find("16"), std::string::npos);
        t.begin_swap(file("next.gguf", 9));
        auto incoming = co_await t.launcher.next();
        auto second = co_await t.pool().swap("m", file("third.gguf", 1), 1s);
        EXPECT_EQ(second.error().code, Code::overloaded);
        auto none = co_await t.pool().swap("none", file("x.gguf"), 1s);
        EXPECT_EQ(none.error().code, Code::not_found);
        t.destroy_pool();
        co_await t.settle();
    }(*this));
}

class PoolMemoryTest : public PoolSwap {
public:
    // With a cache of a hundred bytes.
    net::Task<std::shared_ptr<FakeWorker>> loaded(std::string id, std::uint64_t bytes) {
        auto model = spec(id);
        model.memory_bytes = bytes;
        model.cache_memory_bytes = 100;
        EXPECT_TRUE(pool().add(model));
        auto worker = co_await launcher.next();
        ReadyFrame ready;
        ready.info.memory_bytes = bytes;
        worker->send(ready);
        while (pool().status(id)->state != ModelState::ready) co_await loop.sleep(1ms);
        co_await settle();
        co_return worker;
    }
    // The next worker; it says that it is ready and takes so much.
    net::Task<std::shared_ptr<FakeWorker>> launched_with(std::uint64_t bytes) {
        auto worker = co_await launcher.next();
        ReadyFrame ready;
        ready.info.memory_bytes = bytes;
        worker->send(ready);
        co_return worker;
    }
    net::Task<void> until_limit(FakeWorker& worker, std::uint64_t bytes) {
        while (worker.cache_limit != bytes) co_await loop.sleep(1ms);
    }
};

TEST_F(PoolMemoryTest, CachesGetWhatModelsLeave) {
    options.memory_bytes = 150;
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto a = co_await t.loaded("a", 50);
        EXPECT_FALSE(a->cache_limit) << "all it may have fits";
        auto b = co_await t.loaded("b", 20);
        co_await t.until_limit(*a, 40);
        co_await t.until_limit(*b, 40);
        EXPECT_TRUE(t.pool().unload("b"));
        co_await t.until_limit(*a, 100);
        EXPECT_EQ(t.pool().memory().used_bytes, 50U);
    }(*this));
}

TEST_F(PoolMemoryTest, UnderPressureCachesGoFirstThenWhoeverIsIdle) {
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto a = co_await t.loaded("a", 50);
        auto pinned = t.spec("p");
        pinned.pinned = true;
        EXPECT_TRUE(t.pool().add(pinned));
        auto p = co_await t.next_ready();
        t.pool().relieve(Pressure::some);
        co_await t.until_limit(*a, 0);
        EXPECT_EQ(t.pool().status("a")->state, ModelState::ready);
        EXPECT_EQ(t.pool().memory().pressure, Pressure::some);
        t.pool().relieve(Pressure::none);
        co_await t.until_limit(*a, 100);
        auto request = t.request();
        request.model = "a";
        auto running = t.submit(request);
        auto const id = co_await t.submitted(*a);
        a->event(id, Started{1, 0});
        t.pool().relieve(Pressure::high);
        co_await t.settle();
        EXPECT_EQ(t.pool().status("a")->state, ModelState::ready) << "it computes";
        co_await t.finish(*a, id, *running);
        while (t.pool().status("a")->state != ModelState::cold) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.pool().status("p")->state, ModelState::ready);
    }(*this));
}

TEST_F(PoolMemoryTest, UnderPressureOneModelGoesAndTheNextOneWhenThatWasNotEnough) {
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto a = co_await t.loaded("a", 50);
        auto b = co_await t.loaded("b", 50);
        auto c = co_await t.loaded("c", 5000);  // takes long to load again
        auto const state = [&](char const* id) { return t.pool().status(id)->state; };
        a->closes_when_asked = false;
        t.pool().relieve(Pressure::high);
        while (state("a") != ModelState::unloading) co_await t.loop.sleep(1ms);
        t.pool().relieve(Pressure::high);
        co_await t.settle();
        EXPECT_EQ(state("b"), ModelState::ready) << "what the first one gives is not there yet";
        a->die("exit status 0");
        while (state("a") != ModelState::cold) co_await t.loop.sleep(1ms);
        co_await t.settle();
        EXPECT_EQ(state("b"), ModelState::ready) << "nobody has looked again";
        t.pool().relieve(Pressure::high);
        while (state("b") != ModelState::cold) co_await t.loop.sleep(1ms);
        t.pool().relieve(Pressure::some);
        co_await t.settle();
        EXPECT_EQ(state("c"), ModelState::ready);
        EXPECT_NE(t.metrics.render().find("hearth_models_relieved_total 2"), std::string::npos);
    }(*this));
}

TEST_F(PoolMemoryTest, WhoHandsItsNameOverStaysAndOthersMakeRoom) {
    options.memory_bytes = 30;
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto old = co_await t.loaded("m", 10);  // idle for longer than the other
        auto other = co_await t.loaded("other", 10);
        t.begin_swap(file("next.gguf", 15));
        auto incoming = co_await t.launcher.next();
        EXPECT_EQ(incoming->spec.path, "next.gguf");
        EXPECT_FALSE(other->exit_reason.empty()) << "it is gone before the next one is there";
        EXPECT_EQ(t.status().state, ModelState::ready) << "requests for the name do not wait";
        EXPECT_EQ(t.pool().memory().used_bytes, 25U);
        incoming->ready();
        co_await t.swapped();
        EXPECT_TRUE(*t.outcome);
        EXPECT_EQ(t.status().path, "next.gguf");
    }(*this));
}

TEST_F(PoolMemoryTest, TwoSwapsThatWaitForEachOthersRoomAreMadeOneAfterTheOther) {
    options.memory_bytes = 30;
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto m = co_await t.loaded("m", 10);
        auto n = co_await t.loaded("n", 10);
        t.begin_swap(file("m2.gguf", 15));
        std::optional<Status> other;
        t.loop.spawn([](PoolMemoryTest& test, std::optional<Status>& out) -> net::Task<void> {
            auto done = co_await test.pool().swap("n", file("n2.gguf", 15), 30s);
            out = std::move(done);
        }(t, other));
        auto first = co_await t.launcher.next();
        EXPECT_EQ(first->spec.path, "m2.gguf");
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 3) << "the other one waits";
        first->ready();
        co_await t.swapped();
        EXPECT_TRUE(*t.outcome);
        auto second = co_await t.launcher.next();
        EXPECT_EQ(second->spec.path, "n2.gguf");
        second->ready();
        while (!other) co_await t.loop.sleep(1ms);
        EXPECT_TRUE(*other);
    }(*this));
}

TEST_F(PoolMemoryTest, ASwapThatLeavesNoRoomBesidePinnedModelsIsRefusedWithTheSizes) {
    options.memory_bytes = 30;
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto old = co_await t.loaded("m", 10);
        auto pinned = t.spec("p");
        pinned.pinned = true;
        pinned.memory_bytes = 11;
        EXPECT_TRUE(t.pool().add(pinned));
        auto worker = co_await t.launcher.next();
        ReadyFrame ready;
        ready.info.memory_bytes = 11;
        worker->send(ready);
        while (t.pool().status("p")->state != ModelState::ready) co_await t.loop.sleep(1ms);
        t.begin_swap(file("next.gguf", 15));
        co_await t.swapped();
        EXPECT_EQ(t.outcome->error().code, Code::exhausted);
        EXPECT_EQ(t.outcome->error().message,
                  "model 'm' takes 15 bytes of memory beside 21 that stay meanwhile, the limit for all models is 30");
        EXPECT_EQ(t.status().state, ModelState::ready);
    }(*this));
}

// It goes when what it has was answered.
TEST_F(PoolMemoryTest, WhoLostItsNameDoesNotStayAlthoughItWasPinned) {
    options.memory_bytes = 30;
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto pinned = t.spec("m");
        pinned.pinned = true;
        pinned.memory_bytes = 10;
        EXPECT_TRUE(t.pool().add(pinned));
        auto first = co_await t.launched_with(10);
        auto running = t.submit();
        auto const id = co_await t.submitted(*first);
        first->event(id, Started{1, 0});
        t.begin_swap(file("second.gguf", 10));
        auto second = co_await t.launched_with(10);
        co_await t.swapped();
        EXPECT_TRUE(*t.outcome);
        t.outcome.reset();
        t.begin_swap(file("third.gguf", 15));
        co_await t.settle();
        EXPECT_FALSE(t.outcome) << "20 are there, and 10 of them go";
        EXPECT_EQ(t.launcher.launches, 2);
        co_await t.finish(*first, id, *running);
        auto third = co_await t.launched_with(15);
        co_await t.swapped();
        EXPECT_TRUE(*t.outcome);
        EXPECT_EQ(t.status().path, "third.gguf");
    }(*this));
}

TEST_F(PoolMemoryTest, ASwapForWhichNobodyMakesRoomInTimeIsRefusedWithItsSize) {
    options.memory_bytes = 30;
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto old = co_await t.loaded("m", 10);
        auto other = co_await t.loaded("other", 10);
        auto request = t.request();
        request.model = "other";
        auto running = t.submit(request);
        auto const id = co_await t.submitted(*other);
        other->event(id, Started{1, 0});
        t.begin_swap(file("next.gguf", 15), 30ms);
        co_await t.swapped();
        EXPECT_EQ(t.outcome->error().code, Code::exhausted);
        EXPECT_NE(t.outcome->error().message.find("15 bytes"), std::string::npos) << t.outcome->error().message;
        EXPECT_EQ(t.launcher.launches, 2);
        co_await t.finish(*other, id, *running);
        EXPECT_EQ(t.pool().memory().used_bytes, 20U);
    }(*this));
}

TEST_F(PoolMemoryTest, AModelCostsWhatItsWorkerTakesBesideItsCache) {
    run([](PoolMemoryTest& t) -> net::Task<void> {
        auto model = t.spec("m");
        model.memory_bytes = 500;
        model.scratch_bytes = 7;
        EXPECT_TRUE(t.pool().add(model));
        EXPECT_EQ(t.status().memory_bytes, 500U);
        auto worker = co_await t.launcher.next();
        ReadyFrame ready;
        ready.info.resident_bytes = 100;
        ready.info.kv_bytes = 20;
        ready.info.memory_bytes = 9999;
        worker->send(ready);
        while (t.status().state != ModelState::ready) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.status().memory_bytes, 127U);
        EXPECT_EQ(t.status().estimated_bytes, 500U);
        worker->stats.rss_bytes = 2000;
        worker->stats.tier_memory_bytes = 600;
        while (t.status().memory_bytes != 1400) co_await t.loop.sleep(1ms);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
