// Models whose workers keep dying or cannot be loaded: what they hold meanwhile, and when they are tried again.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Done;
using domain::Started;
using testing::FakeWorker;

class PoolFailed : public testing::PoolFixture {
public:
    static ModelSpec lazy(std::string id, std::uint64_t bytes = 10, std::uint32_t instances = 1) {
        auto model = spec(std::move(id));
        model.lazy = true;
        model.memory_bytes = bytes;
        model.instances = instances;
        return model;
    }
    std::unique_ptr<Generation> ask(std::string model) {
        auto wanted = request();
        wanted.model = std::move(model);
        return submit(wanted);
    }
    Error refusal(std::string model) {
        auto wanted = request();
        wanted.model = std::move(model);
        auto refused = pool().submit(wanted);
        EXPECT_FALSE(refused);
        return refused ? Error() : refused.error();
    }
    // Of so many of its workers, whose processes are there or gone as that goes.
    net::Task<void> until(std::string model, ModelState state, std::ptrdiff_t count = 1) {
        for (;;) {
            auto const status = *pool().status(model);
            bool const gone = status.pid == 0 || state == ModelState::ready;
            if (status.instances.empty() && status.state == state && gone) co_return;
            if (std::ranges::count(status.instances, state, &InstanceStatus::state) >= count &&
                !status.instances.empty())
                co_return;
            co_await loop.sleep(1ms);
        }
    }
    static void say_ready(FakeWorker& worker) {
        ReadyFrame ready;
        ready.info.memory_bytes = worker.spec.memory_bytes;
        worker.send(ready);
    }
    net::Task<std::shared_ptr<FakeWorker>> loaded(std::ptrdiff_t count = 1) {
        auto worker = co_await launcher.next();
        say_ready(*worker);
        co_await until(worker->spec.id, ModelState::ready, count);
        co_return worker;
    }
    // The next worker says that it cannot be, and ends.
    net::Task<void> fails_to_load(Code code = Code::overloaded) {
        auto const worker = co_await launcher.next();
        worker->send(LoadFailedFrame{Error(code, "failed to allocate")});
        worker->die("exit status 1");
        co_await settle();
    }
};

TEST_F(PoolFailed, WhoseWorkersKeepDyingHoldsNoRoomAndIsTriedAgainLater) {
    options.memory_bytes = 15;
    options.starts_failed_max = 1;
    options.backoff_min = options.backoff_max = 1h;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("a")));
        EXPECT_TRUE(t.pool().add(t.lazy("b")));
        auto first = t.ask("a");
        auto const dying = co_await t.launcher.next();
        dying->die("signal 9 (Killed)");
        auto const failed = co_await first->next();
        EXPECT_EQ(t.failure(failed), Code::unavailable);
        co_await t.until("a", ModelState::failed);
        EXPECT_EQ(t.pool().memory().used_bytes, 0U);
        EXPECT_EQ(t.refusal("a").code, Code::unavailable);
        EXPECT_EQ(t.pool().retry_after_s("a"), 3600U);
        EXPECT_TRUE(t.pool().unload("a")) << "nothing to do";
        auto other = t.ask("b");
        auto const b = co_await t.loaded();
        co_await t.answer(*b, *other);
        t.clock.shift(1h);
        auto second = t.ask("a");
        auto const a = co_await t.loaded();
        co_await t.answer(*a, *second);
        EXPECT_EQ(t.pool().status("b")->state, ModelState::cold);
        EXPECT_EQ(t.pool().status("a")->state, ModelState::ready) << "that it was to be unloaded is over";
    }(*this));
}

TEST_F(PoolFailed, OneThatIsNotLazyIsTriedAgainByItselfAsLongAsThereIsRoom) {
    options.memory_bytes = 15;
    options.starts_failed_max = 2;
    options.backoff_max = 1ms;
    run([](PoolFailed& t) -> net::Task<void> {
        auto model = t.lazy("m");
        model.lazy = false;
        EXPECT_TRUE(t.pool().add(model));
        for (int death = 0; death < 5; ++death) {
            auto const worker = co_await t.launcher.next();
            worker->die("signal 9 (Killed)");
        }
        co_await t.loaded();
        EXPECT_EQ(t.pool().status("m")->problem, "");
    }(*this));
}

TEST_F(PoolFailed, OneThatRestartsIsUnloadedAtOnce) {
    options.memory_bytes = 15;
    options.backoff_min = options.backoff_max = 1h;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("a")));
        EXPECT_TRUE(t.pool().warm("a", {}));
        auto const dying = co_await t.launcher.next();
        dying->die("signal 9 (Killed)");
        co_await t.until("a", ModelState::restarting);
        EXPECT_EQ(t.pool().memory().used_bytes, 10U);
        EXPECT_TRUE(t.pool().unload("a"));
        EXPECT_EQ(t.pool().status("a")->state, ModelState::cold);
        EXPECT_EQ(t.pool().memory().used_bytes, 0U);
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 1) << "nobody wants it any more";
        auto asked = t.ask("a");
        auto const a = co_await t.loaded();
        co_await t.answer(*a, *asked);
    }(*this));
}

TEST_F(PoolFailed, OneThatIsUnloadedBeginsAnewWithItsAttempts) {
    options.starts_failed_max = 1;
    options.backoff_min = options.backoff_max = 1h;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m")));
        EXPECT_TRUE(t.pool().warm("m", {}));
        auto const dying = co_await t.launcher.next();
        dying->die("signal 9 (Killed)");
        co_await t.until("m", ModelState::restarting);
        EXPECT_EQ(t.refusal("m").code, Code::unavailable);
        EXPECT_TRUE(t.pool().unload("m"));
        auto asked = t.ask("m");
        auto const worker = co_await t.loaded();
        co_await t.answer(*worker, *asked);
    }(*this));
}

TEST_F(PoolFailed, WantOfMemoryPassesAndEachTimeItIsWaitedForLonger) {
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m")));
        auto first = t.ask("m");
        co_await t.fails_to_load();
        auto const failed = co_await first->next();
        EXPECT_EQ(t.failure(failed), Code::unavailable);
        co_await t.until("m", ModelState::failed);
        EXPECT_EQ(t.refusal("m").message,
                  "model 'm' is not available: failed to allocate; it can be tried again in 60 s");
        EXPECT_EQ(t.pool().retry_after_s("m"), 60U);
        t.clock.shift(1min);
        auto second = t.ask("m");
        co_await t.fails_to_load(Code::exhausted);
        co_await t.until("m", ModelState::failed);
        EXPECT_EQ(t.pool().retry_after_s("m"), 120U);
        t.clock.shift(2min);
        auto third = t.ask("m");
        auto const worker = co_await t.loaded();
        co_await t.answer(*worker, *third);
        EXPECT_EQ(t.pool().status("m")->problem, "");
    }(*this));
}

TEST_F(PoolFailed, WarmTriesAgainWhenARequestWould) {
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m")));
        EXPECT_TRUE(t.pool().warm("m", {}));
        co_await t.fails_to_load();
        co_await t.until("m", ModelState::failed);
        EXPECT_TRUE(t.pool().warm("m", {}));
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 1) << "too early";
        t.clock.shift(1min);
        EXPECT_TRUE(t.pool().warm("m", {}));
        co_await t.loaded();
    }(*this));
}

TEST_F(PoolFailed, AFileThatIsBrokenStaysSo) {
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m")));
        auto first = t.ask("m");
        co_await t.fails_to_load(Code::corrupt);
        co_await t.until("m", ModelState::failed);
        t.clock.shift(24h);
        EXPECT_EQ(t.refusal("m").code, Code::unavailable);
        EXPECT_TRUE(t.pool().warm("m", {}));
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
}

// --- one worker of several ---

TEST_F(PoolFailed, AWorkerThatRestartsIsNotInTheWayOfWhoNeedsTheRoom) {
    options.memory_bytes = 20;
    options.backoff_min = options.backoff_max = 1h;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m", 10, 2)));
        EXPECT_TRUE(t.pool().add(t.lazy("other", 15)));
        EXPECT_TRUE(t.pool().warm("m", {}));
        auto const dying = co_await t.launcher.next();
        auto const kept = co_await t.loaded(1);
        kept->closes_when_asked = false;
        dying->die("");  // its process takes its time
        co_await t.until("m", ModelState::restarting);
        auto asked = t.ask("other");
        co_await t.until("m", ModelState::unloading);
        co_await t.until("m", ModelState::cold);
        kept->die("exit status 0");
        auto const other = co_await t.loaded();
        co_await t.answer(*other, *asked);
        co_await t.settle();
        EXPECT_EQ(t.pool().status("m")->state, ModelState::cold);
        EXPECT_EQ(t.pool().memory().used_bytes, 15U);
        EXPECT_EQ(t.launcher.launches, 3);
    }(*this));
}

TEST_F(PoolFailed, NobodyIsLetGoWhileARequestWaitsForOneThatRestarts) {
    options.backoff_min = options.backoff_max = 1h;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m", 10, 2)));
        EXPECT_TRUE(t.pool().warm("m", {}));
        auto const one = co_await t.loaded(1);
        auto const two = co_await t.loaded(2);
        auto first = t.ask("m");
        auto second = t.ask("m");
        co_await t.answer(*one, *first);
        co_await t.submitted(*two);
        two->die("signal 9 (Killed)");
        co_await t.until("m", ModelState::restarting);
        co_await t.settle();
        t.pool().relieve(Pressure::high);
        co_await t.settle();
        EXPECT_EQ(t.pool().status("m")->state, ModelState::ready);
        second.reset();
        t.pool().relieve(Pressure::high);
        co_await t.until("m", ModelState::cold, 2);
    }(*this));
}

TEST_F(PoolFailed, OneOfThemThatFailedDoesNotCountAndIsNotTriedAgainWhereAllTakeTooMuch) {
    options.memory_bytes = 20;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m", 10, 2)));
        EXPECT_TRUE(t.pool().warm("m", {}));
        co_await t.fails_to_load();
        auto const worker = co_await t.launcher.next();
        ReadyFrame ready;
        ready.info.memory_bytes = 12;
        worker->send(ready);
        co_await t.until("m", ModelState::ready);
        auto first = t.ask("m");
        co_await t.answer(*worker, *first);
        EXPECT_TRUE(t.pool().unload("m"));
        co_await t.until("m", ModelState::cold);
        auto second = t.ask("m");
        auto const again = co_await t.loaded();
        co_await t.answer(*again, *second);
        EXPECT_EQ(t.launcher.launches, 3);
    }(*this));
}

TEST_F(PoolFailed, OneOfThemIsTriedAgainWhileTheOthersServeWhereThereIsRoom) {
    options.memory_bytes = 30;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m", 10, 2)));
        EXPECT_TRUE(t.pool().add(t.lazy("other", 15)));
        EXPECT_TRUE(t.pool().warm("m", {}));
        co_await t.fails_to_load();
        auto const serving = co_await t.loaded(1);
        co_await t.until("m", ModelState::failed);
        auto first = t.ask("other");
        auto const other = co_await t.loaded();
        co_await t.answer(*other, *first);
        EXPECT_EQ(t.pool().memory().used_bytes, 25U) << "what failed takes nothing";
        t.clock.shift(1min);
        auto second = t.ask("m");
        co_await t.answer(*serving, *second);
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 3) << "nobody makes room for it";
        EXPECT_TRUE(t.pool().unload("other"));
        auto const fresh = co_await t.loaded(2);
        EXPECT_EQ(fresh->spec.id, "m");
        EXPECT_TRUE(serving->exit_reason.empty()) << "it went on meanwhile";
    }(*this));
}

TEST_F(PoolFailed, WhereAllOfThemFailedTheFirstRequestThatMayHasAllTriedAgain) {
    options.memory_bytes = 20;
    run([](PoolFailed& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.lazy("m", 10, 2)));
        EXPECT_TRUE(t.pool().warm("m", {}));
        co_await t.fails_to_load();
        co_await t.fails_to_load();
        co_await t.until("m", ModelState::failed, 2);
        EXPECT_EQ(t.refusal("m").code, Code::unavailable);
        t.clock.shift(1min);
        auto asked = t.ask("m");
        auto const one = co_await t.loaded(1);
        auto const two = co_await t.loaded(2);
        co_await t.settle();
        co_await t.answer(one->unread() > 0 ? *one : *two, *asked);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
