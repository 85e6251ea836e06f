// What waiting clients and operators are told.
#include <chrono>

#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Priority;

class PoolWaiting : public testing::PoolFixture {
public:
    static domain::GenerateRequest of_class(Priority priority, std::optional<std::uint32_t> queue_ms = std::nullopt) {
        auto out = request();
        out.priority = priority;
        out.deadlines.queue_ms = queue_ms;
        return out;
    }

    // One that a worker computed for a while.
    net::Task<void> complete_one(testing::FakeWorker& worker, Duration took) {
        auto generation = submit();
        auto const id = co_await submitted(worker);
        worker.event(id, domain::Started{1, 0});
        co_await settle();
        co_await loop.sleep(took);
        worker.event(id, choice_done());
        worker.event(id, domain::Done{});
        co_await settle();
    }

    // The question for a report; its nonce.
    static net::Task<std::uint64_t> asked(testing::FakeWorker& worker) {
        auto frame = co_await worker.next();
        auto const* ask = std::get_if<AskReportFrame>(&frame);
        EXPECT_NE(ask, nullptr) << "frame kind " << frame.index();
        co_return ask ? ask->nonce : 0;
    }

    static domain::EngineReport report(std::uint64_t steps) {
        domain::EngineReport out;
        out.steps_total = steps;
        return out;
    }

    net::Task<void> look(std::optional<EngineView>& into, Duration timeout) {
        auto views = co_await pool().engine_views("m", timeout);
        into = views->front();
    }
};

TEST_F(PoolWaiting, CountsThoseOfItsClassOrABetterOne) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto batch = t.submit(of_class(Priority::batch));
        auto normal = t.submit(of_class(Priority::normal));
        auto interactive = t.submit(of_class(Priority::interactive));
        auto later = t.submit(of_class(Priority::normal));
        EXPECT_EQ(batch->waiting().ahead, 3U);
        EXPECT_EQ(normal->waiting().ahead, 1U);
        EXPECT_EQ(interactive->waiting().ahead, 0U);
        EXPECT_EQ(later->waiting().ahead, 2U);
        EXPECT_EQ(batch->waiting().seconds, std::nullopt) << "nothing is known yet";
        auto const status = t.pool().status("m");
        EXPECT_EQ(status->waiting_by_class, (std::array<std::uint32_t, 3>{1, 2, 1}));
    }(*this));
}

TEST_F(PoolWaiting, WhoWaitsForAModelIsToldHowMuchOfItIsLoaded) {
    run([](PoolWaiting& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto waiting = t.submit();
        auto worker = co_await t.launcher.next();
        EXPECT_EQ(waiting->waiting(), (Waiting{0, std::nullopt, 0}));
        EXPECT_EQ(t.pool().status("m")->load_left_s, std::nullopt) << "nothing is known yet";
        worker->send(LoadingFrame{0.5});
        while (waiting->waiting().loaded_percent != 50) co_await t.loop.sleep(1ms);
        EXPECT_TRUE(waiting->waiting().seconds) << "half of it took so long";
        EXPECT_TRUE(t.pool().status("m")->load_left_s);
        worker->ready();
        auto const id = co_await t.submitted(*worker);
        EXPECT_EQ(t.pool().status("m")->load_left_s, std::nullopt);
        EXPECT_EQ(waiting->waiting().loaded_percent, std::nullopt);
        worker->event(id, domain::Started{1, 0});
        co_await t.settle();
    }(*this));
}

TEST_F(PoolWaiting, RefusesAtOnceWhatWouldWaitInVain) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto first = t.submit(of_class(Priority::normal, 1));
        EXPECT_NE(first, nullptr) << "nobody is turned away on a guess";
        first->cancel();
        auto const id = co_await t.submitted(*worker);
        worker->event(id, t.choice_done());
        worker->event(id, domain::Done{});
        co_await t.settle();
        auto const cancel = co_await worker->next();
        EXPECT_TRUE(std::holds_alternative<CancelFrame>(cancel));
        co_await t.complete_one(*worker, 30ms);

        auto const running = t.submit();
        auto const begun = co_await t.submitted(*worker);
        worker->event(begun, domain::Started{1, 0});
        co_await t.settle();
        auto const waiting = t.submit();
        auto const late = t.pool().submit(of_class(Priority::normal, 40));
        EXPECT_FALSE(late);
        EXPECT_EQ(late.error().code, Code::overloaded);
        EXPECT_EQ(late.error().param, "queue_timeout_ms");
        EXPECT_NE(late.error().message.find("allows 0.04 s"), std::string::npos) << late.error().message;
        EXPECT_GE(*t.pool().predicted_wait_s("m", Priority::normal), 1U);
        EXPECT_TRUE(t.pool().submit(of_class(Priority::normal, 60000)));
        EXPECT_GE(*waiting->waiting().seconds, 1U);
        EXPECT_NE(t.metrics.render().find(R"(hearth_requests_total{model="m",outcome="queue_timeout"} 1)"),
                  std::string::npos);
    }(*this));
}

TEST_F(PoolWaiting, RefusesWhatWouldWaitForHalfOfItsTime) {
    options.request_timeout = 1s;
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        co_await t.complete_one(*worker, 300ms);
        auto const running = t.submit();
        auto const begun = co_await t.submitted(*worker);
        worker->event(begun, domain::Started{1, 0});
        co_await t.settle();
        auto const waiting = t.submit();
        auto const late = t.pool().submit(of_class(Priority::normal));
        EXPECT_FALSE(late);
        EXPECT_EQ(late.error().code, Code::overloaded);
        EXPECT_EQ(late.error().param, "");
        EXPECT_NE(late.error().message.find("more than 0.5 s, half of what one may take"), std::string::npos);
        EXPECT_TRUE(t.pool().submit(of_class(Priority::interactive))) << "it passes those that wait";
    }(*this));
}

TEST_F(PoolWaiting, CountsTokensByTenant) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto wanted = t.request();
        wanted.tenant = "acme";
        auto const generation = t.submit(std::move(wanted));
        auto const id = co_await t.submitted(*worker);
        worker->event(id, domain::Started{10, 4});
        worker->event(id, t.delta("ab", 2));
        worker->event(id, t.choice_done());
        worker->event(id, domain::Done{});
        co_await t.settle();
        EXPECT_NE(t.metrics.render().find(R"(hearth_tenant_tokens_total{model="m",tenant="acme"} 8)"),
                  std::string::npos);
    }(*this));
}

TEST_F(PoolWaiting, CallersShareOneQuestion) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        std::optional<EngineView> first;
        std::optional<EngineView> second;
        t.loop.spawn(t.look(first, 20s));
        t.loop.spawn(t.look(second, 20s));
        auto const nonce = co_await t.asked(*worker);
        co_await t.settle();
        EXPECT_EQ(worker->unread(), 0U);
        EXPECT_FALSE(first);
        worker->send(ReportFrame{nonce, report(7)});
        co_await t.settle();
        EXPECT_TRUE(first && second);
        EXPECT_EQ(first->report, report(7));
        EXPECT_EQ(second->report, report(7));
    }(*this));
}

TEST_F(PoolWaiting, ABusyEngineIsShownAsItWas) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto const nothing = co_await t.pool().engine_views("m", 1ms);
        EXPECT_FALSE(nothing->front().report);
        auto const nonce = co_await t.asked(*worker);
        worker->send(ReportFrame{nonce, report(1)});
        co_await t.settle();
        auto const old = co_await t.pool().engine_views("m", 1ms);
        EXPECT_EQ(old->front().report, report(1));
        EXPECT_GE(old->front().age, Duration::zero());
    }(*this));
}

TEST_F(PoolWaiting, AllWorkersOfAModelAreAskedBeforeTheFirstIsWaitedFor) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto two = t.spec("m");
        two.instances = 2;
        EXPECT_TRUE(t.pool().add(two));
        auto const first = co_await t.launcher.next();
        auto const second = co_await t.launcher.next();
        auto const early = co_await t.pool().engine_views("m", 1ms);
        EXPECT_EQ(early->size(), 1U) << "none is ready";
        first->ready();
        second->ready();
        co_await t.settle();
        std::optional<std::vector<EngineView>> views;
        t.loop.spawn([](PoolWaiting& test, std::optional<std::vector<EngineView>>& into) -> net::Task<void> {
            auto seen = co_await test.pool().engine_views("m", 20s);
            into = *std::move(seen);
        }(t, views));
        auto const other = co_await t.asked(*second);
        auto const one = co_await t.asked(*first);
        second->send(ReportFrame{other, report(2)});
        co_await t.settle();
        EXPECT_FALSE(views) << "the first has not answered";
        first->send(ReportFrame{one, report(1)});
        while (!views) co_await t.loop.sleep(1ms);
        EXPECT_EQ(views->size(), 2U);
        for (std::uint32_t i = 0; i < views->size(); ++i) {
            EXPECT_EQ((*views)[i].instance, i);
            EXPECT_EQ((*views)[i].report, report(i + 1));
        }
        EXPECT_EQ(first->unread() + second->unread(), 0U) << "each was asked once";
        auto const unknown = co_await t.pool().engine_views("none", 1ms);
        EXPECT_EQ(unknown.error().code, Code::not_found);
    }(*this));
}

TEST_F(PoolWaiting, AWorkerThatIsLostKeepsNobodyWaiting) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        std::optional<EngineView> view;
        t.loop.spawn(t.look(view, 20s));
        co_await t.asked(*worker);
        worker->die("signal 11");
        while (!view) co_await t.loop.sleep(1ms);
        EXPECT_FALSE(view->report);
    }(*this));
}

TEST_F(PoolWaiting, AReportThatNobodyAskedForIsABrokenFrame) {
    run([](PoolWaiting& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->send(ReportFrame{1, report(1)});
        while (t.pool().models()[0].state == ModelState::ready) co_await t.loop.sleep(1ms);
        EXPECT_TRUE(worker->killed);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
