// What the pool does when a worker dies, hangs or lies.
#include <gtest/gtest.h>

#include "serving/pool.h"
#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace domain;
using namespace std::chrono_literals;

class Supervision : public testing::PoolFixture {};

TEST_F(Supervision, ReplaysARequestThatHasEmittedNothing) {
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto started = t.submit(t.request("started"));
        auto waiting = t.submit(t.request("waiting"));
        worker->event(started->id(), Started{3, 0});
        auto const first = co_await started->next();
        EXPECT_TRUE(t.is<Started>(first));
        worker->die("signal 11 (Segmentation fault)");

        auto next = co_await t.next_ready();
        auto const one = co_await t.submitted(*next);
        auto const two = co_await t.submitted(*next);
        EXPECT_EQ(one, started->id());
        EXPECT_EQ(two, waiting->id());
        next->event(one, Started{3, 0});
        next->event(one, t.delta("again"));
        auto const event = co_await started->next();
        EXPECT_EQ(t.text_of(event), "again") << "Started is told once";
        EXPECT_EQ(t.pool().models()[0].restarts, 1U);
    }(*this));
}

TEST_F(Supervision, EndsAStreamThatHasEmittedBeforeTheRestart) {
    options.backoff_min = options.backoff_max = 20s;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        worker->event(generation->id(), t.delta("half an ans"));
        worker->die("signal 9 (Killed)");
        co_await generation->next();
        co_await generation->next();
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::engine_lost);
        co_await t.settle();
        auto const status = t.pool().models()[0];
        EXPECT_EQ(status.state, ModelState::restarting);
        EXPECT_EQ(status.problem, "connection closed (signal 9 (Killed))");
        EXPECT_EQ(status.inside, 0U);
    }(*this));
}

TEST_F(Supervision, AChoiceThatEndedCountsAsEmitted) {
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit(t.request("x", 2));
        worker->event(generation->id(), Started{});
        worker->event(generation->id(), t.choice_done(1));
        worker->die("exit status 1");
        co_await generation->next();
        co_await generation->next();
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::engine_lost);
    }(*this));
}

TEST_F(Supervision, OtherModelsDoNotNotice) {
    run([](Supervision& t) -> net::Task<void> {
        auto first = co_await t.ready_worker();
        EXPECT_TRUE(t.pool().add(t.spec("other")));
        auto second = co_await t.next_ready();
        auto wanted = t.request();
        wanted.model = "other";
        auto generation = t.submit(wanted);
        second->event(generation->id(), Started{});
        first->die("signal 6 (Aborted)");
        co_await t.next_ready();
        second->event(generation->id(), t.delta("fine"));
        co_await generation->next();
        auto const piece = co_await generation->next();
        EXPECT_EQ(t.text_of(piece), "fine");
        EXPECT_EQ(t.pool().status("other")->restarts, 0U);
    }(*this));
}

// A request that kills its worker each time must not do so for ever, and must
// not take those with it that only wait.
TEST_F(Supervision, GivesUpOnARequestThatKeepsKillingItsWorker) {
    options.replays_max = 2;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto poison = t.submit(t.request("poison"));
        auto innocent = t.submit(t.request("innocent"));
        for (int death = 0; death < 3; ++death) {
            auto const id = co_await t.submitted(*worker);
            EXPECT_EQ(id, poison->id());
            worker->event(id, Started{});
            co_await t.settle();
            worker->die("signal 11 (Segmentation fault)");
            worker = co_await t.next_ready();
        }
        auto const started = co_await poison->next();
        EXPECT_TRUE(t.is<Started>(started));
        auto const last = co_await poison->next();
        EXPECT_EQ(t.failure(last), Code::engine_lost);
        auto const id = co_await t.submitted(*worker);
        EXPECT_EQ(id, innocent->id());
        EXPECT_EQ(innocent->try_next(), std::nullopt);
    }(*this));
}

// Started comes after the first step; a prompt that kills in it never says so.
TEST_F(Supervision, TheFirstInLineAreSuspectsToo) {
    options.replays_max = 1;
    ModelInfo two_at_once;
    two_at_once.sequences_max = 2;
    launcher.on_launch = [two_at_once](auto& worker) { worker.send(ReadyFrame{two_at_once}); };
    run([](Supervision& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 3; ++i) generations.push_back(t.submit());
        for (int death = 0; death < 2; ++death) {
            auto worker = co_await t.launcher.next();
            for (int i = 0; i < 3; ++i) co_await t.submitted(*worker);
            worker->die("signal 11 (Segmentation fault)");
        }
        for (int i = 0; i < 2; ++i) {
            auto const last = co_await generations[static_cast<std::size_t>(i)]->next();
            EXPECT_EQ(t.failure(last), Code::engine_lost);
        }
        auto worker = co_await t.launcher.next();
        auto const id = co_await t.submitted(*worker);
        EXPECT_EQ(id, generations[2]->id());
    }(*this));
}

TEST_F(Supervision, WaitingRequestsAreNotReplayedForEverEither) {
    options.replays_waiting_max = 3;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        for (int death = 0; death < 4; ++death) {
            co_await t.submitted(*worker);
            worker->die("signal 11 (Segmentation fault)");
            worker = co_await t.next_ready();
        }
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::engine_lost);
    }(*this));
}

TEST_F(Supervision, ACancelledRequestIsNotReplayed) {
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        generation->cancel();
        worker->die("signal 9 (Killed)");
        auto const choice = co_await generation->next();
        EXPECT_EQ(choice, Event(ChoiceDone{0, FinishReason::cancelled, {}}));
        auto const last = co_await generation->next();
        EXPECT_TRUE(t.is<Done>(last));
        auto next = co_await t.next_ready();
        EXPECT_EQ(next->unread(), 0U);
    }(*this));
}

TEST_F(Supervision, KillsAWorkerThatDoesNotAnswerAndEndsItsStreams) {
    options.hang_timeout = 100ms;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        worker->event(generation->id(), t.delta("x"));
        co_await generation->next();
        co_await generation->next();
        co_await t.loop.sleep(200ms);
        EXPECT_FALSE(worker->killed) << "it answers";
        worker->answers_pings = false;
        auto const begin = t.clock.now();
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::engine_lost);
        EXPECT_TRUE(worker->killed);
        EXPECT_GE(to_ms(t.clock.now() - begin), 50) << "not before the limit";
        EXPECT_LE(to_ms(t.clock.now() - begin), 10'000);
    }(*this));
}

TEST_F(Supervision, ALoadingWorkerHasItsOwnLimit) {
    options.hang_timeout = 1ms;
    options.load_hang_timeout = 100ms;
    run([](Supervision& t) -> net::Task<void> {
        t.launcher.on_launch = [](auto& worker) { worker.answers_pings = false; };
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto first = co_await t.launcher.next();
        auto const begin = t.clock.now();
        co_await t.launcher.next();
        EXPECT_TRUE(first->killed);
        EXPECT_GE(to_ms(t.clock.now() - begin), 90);
    }(*this));
}

// It writes down what it computed, and says nothing meanwhile.
TEST_F(Supervision, AWorkerThatIsToldToGoMayTakeItsTime) {
    options.hang_timeout = 40ms;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->closes_when_asked = worker->answers_pings = false;
        bool stopped = false;
        t.loop.spawn([](Supervision& test, bool& over) -> net::Task<void> {
            co_await test.pool().stop(20s);
            over = true;
        }(t, stopped));
        auto frame = co_await worker->next();
        EXPECT_TRUE(std::holds_alternative<CloseFrame>(frame));
        co_await t.loop.sleep(5 * t.options.hang_timeout);
        EXPECT_FALSE(worker->killed || stopped);
        worker->die("exit status 0");
        while (!stopped) co_await t.loop.sleep(1ms);
    }(*this));
}

TEST_F(Supervision, KillsAnEngineThatStandsStillAlthoughItAnswers) {
    options.step_timeout = 100ms;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->stats.running = 1;
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        worker->event(generation->id(), t.delta("x"));
        for (int beat = 0; beat < 30; ++beat) {
            ++worker->heartbeat;
            co_await t.loop.sleep(10ms);
        }
        EXPECT_FALSE(worker->killed) << "it steps";
        co_await generation->next();
        co_await generation->next();
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::engine_lost);
        EXPECT_TRUE(worker->killed);
    }(*this));
}

TEST_F(Supervision, AnEngineMayStandStillWhenAllItsReadersAreSlow) {
    options.step_timeout = 50ms;
    options.credit_tokens = 4;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->stats.running = 1;
        worker->stats.waiting = 1;
        auto generation = t.submit();
        auto held_up = t.submit();
        worker->event(generation->id(), Started{});
        for (int i = 0; i < 4; ++i) worker->event(generation->id(), t.delta("x"));
        co_await t.loop.sleep(300ms);
        EXPECT_FALSE(worker->killed);
        EXPECT_EQ(t.pool().models()[0].restarts, 0U);
    }(*this));
}

struct Lie {
    char const* name;
    void (*tell)(testing::FakeWorker& worker, RequestId id);
};

class BrokenWorker : public Supervision, public ::testing::WithParamInterface<Lie> {};

TEST_P(BrokenWorker, IsEndedAndReplaced) {
    options.credit_tokens = 8;
    run([](BrokenWorker& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit(t.request("x", 2));
        auto const id = co_await t.submitted(*worker);
        GetParam().tell(*worker, id);
        auto next = co_await t.next_ready();
        EXPECT_TRUE(worker->killed);
        EXPECT_EQ(t.pool().models()[0].restarts, 1U);
        auto fresh = t.submit();
        next->event(fresh->id(), Started{});
        auto const event = co_await fresh->next();
        EXPECT_TRUE(t.is<Started>(event)) << "the model serves on";
    }(*this));
}

INSTANTIATE_TEST_SUITE_P(
    Supervision, BrokenWorker,
    ::testing::Values(Lie{"garbage", [](auto& w, auto) { w.send_bytes(std::string(64, '\xee')); }},
                      Lie{"another_version",
                          [](auto& w, auto) {
                              auto f = *encode(PongFrame{});
                              f[4] = 9;
                              w.send_bytes(f);
                          }},
                      Lie{"a_frame_too_large",
                          [](auto& w, auto) {
                              auto f = *encode(PongFrame{});
                              f[3] = 0x7f;
                              w.send_bytes(f);
                          }},
                      Lie{"a_frame_of_the_front", [](auto& w, auto id) { w.send(CancelFrame{id}); }},
                      Lie{"ready_twice", [](auto& w, auto) { w.ready(); }},
                      Lie{"load_failed_after_ready", [](auto& w, auto) { w.send(LoadFailedFrame{{Code::io, "x"}}); }},
                      Lie{"pong_without_ping", [](auto& w, auto) { w.send(PongFrame{99'999, 0, {}}); }},
                      Lie{"delta_before_started", [](auto& w, auto id) { w.event(id, Delta{0, 1, "x", {}}); }},
                      Lie{"started_twice",
                          [](auto& w, auto id) {
                              w.event(id, Started{});
                              w.event(id, Started{});
                          }},
                      Lie{"a_choice_that_was_not_asked_for",
                          [](auto& w, auto id) {
                              w.event(id, Started{});
                              w.event(id, Delta{2, 1, "x", {}});
                          }},
                      Lie{"a_delta_after_its_choice",
                          [](auto& w, auto id) {
                              w.event(id, Started{});
                              w.event(id, ChoiceDone{});
                              w.event(id, Delta{0, 1, "x", {}});
                          }},
                      Lie{"a_choice_done_twice",
                          [](auto& w, auto id) {
                              w.event(id, Started{});
                              w.event(id, ChoiceDone{});
                              w.event(id, ChoiceDone{});
                          }},
                      Lie{"done_with_open_choices",
                          [](auto& w, auto id) {
                              w.event(id, Started{});
                              w.event(id, ChoiceDone{});
                              w.event(id, Done{});
                          }},
                      Lie{"more_tokens_than_granted",
                          [](auto& w, auto id) {
                              w.event(id, Started{});
                              for (int i = 0; i < 100; ++i) w.event(id, Delta{0, 1, "x", {}});
                          }},
                      Lie{"endless_empty_deltas",
                          [](auto& w, auto id) {
                              w.event(id, Started{});
                              for (int i = 0; i < 500; ++i) w.event(id, Delta{0, 0, "x", {}});
                          }}),
    [](auto const& param) { return std::string(param.param.name); });

// What a worker may not say of two inputs, or of none.
TEST_F(Supervision, KillsAWorkerWhoseVectorsDoNotFitTheInputs) {
    struct Case {
        std::size_t inputs;
        std::vector<Event> said;
    };
    domain::Embedded const one{{{1.0F}}}, two{{{1.0F}, {2.0F}}};
    std::vector<Case> const lies{{2, {Started{}, one}},
                                 {2, {two}},
                                 {2, {Started{}, two, two}},
                                 {0, {Started{}, domain::Embedded{}}},
                                 {2, {Started{}, Delta{0, 1, "x", {}}}},
                                 {2, {Started{}, choice_done(0)}}};
    run([](Supervision& t, std::vector<Case> cases) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        for (std::size_t i = 0; i < cases.size(); ++i) {
            auto request = t.request();
            if (cases[i].inputs > 0)
                request.prompt = domain::EmbedPrompt{std::vector<domain::EmbedPrompt::Input>(cases[i].inputs, "x")};
            auto generation = t.submit(request);
            auto const id = co_await t.submitted(*worker);
            generation.reset();  // or the next worker gets it again
            for (auto const& event : cases[i].said) worker->event(id, event);
            worker = co_await t.next_ready();
            EXPECT_EQ(t.pool().models()[0].restarts, i + 1) << "case " << i;
        }
    }(*this, lies));
}

TEST_F(Supervision, CarriesVectorsAndReplaysARequestThatHasNone) {
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto request = t.request();
        request.prompt = domain::EmbedPrompt{{"x", std::vector<domain::Token>{1}}};
        auto generation = t.submit(request);
        auto const first = co_await t.submitted(*worker);
        worker->event(first, Started{2, 0});
        auto const started = co_await generation->next();
        EXPECT_TRUE(t.is<Started>(started));
        worker->die("signal 9");
        auto next = co_await t.next_ready();
        auto const id = co_await t.submitted(*next);
        domain::Embedded const vectors{{{1.0F}, {2.0F}}};
        for (Event const& event : {Event(Started{2, 0}), Event(vectors), Event(t.choice_done(0)), Event(Done{{2}, {}})})
            next->event(id, event);
        auto const got = co_await generation->next();
        EXPECT_EQ(got, Event(vectors));
        auto const choice = co_await generation->next();
        EXPECT_EQ(choice, Event(t.choice_done(0)));
        auto const done = co_await generation->next();
        EXPECT_TRUE(domain::is_terminal(done));
    }(*this));
}

TEST_F(Supervision, EventsOfUnknownRequestsAreIgnored) {
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->event(12'345, Started{});
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        auto const event = co_await generation->next();
        EXPECT_TRUE(t.is<Started>(event));
    }(*this));
}

TEST_F(Supervision, AFileThatCannotBeLoadedFailsTheModelForGood) {
    run([](Supervision& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto generation = t.submit();
        auto worker = co_await t.launcher.next();
        worker->send(LoadFailedFrame{{Code::corrupt, "tensor 3 is past the end"}});
        worker->die("exit status 1");
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::unavailable);
        co_await t.loop.sleep(100ms);
        EXPECT_EQ(t.launcher.launches, 1);
        auto const status = t.pool().models()[0];
        EXPECT_EQ(status.state, ModelState::failed);
        EXPECT_EQ(status.problem, "tensor 3 is past the end");
        auto const refused = t.pool().submit(t.request());
        EXPECT_EQ(refused.error().code, Code::unavailable);
        EXPECT_EQ(refused.error().message, "model 'm' is not available: tensor 3 is past the end");
        co_await t.pool().stop(20s);
    }(*this));
}

TEST_F(Supervision, WorkersThatNeverGetReadyFailTheWaitingAndAreTriedOn) {
    options.starts_failed_max = 3;
    run([](Supervision& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto generation = t.submit();
        for (int attempt = 0; attempt < 3; ++attempt) {
            auto worker = co_await t.launcher.next();
            EXPECT_EQ(generation->try_next(), std::nullopt);
            worker->die("signal 11 (Segmentation fault)");
        }
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::unavailable);
        EXPECT_EQ(t.pool().submit(t.request()).error().code, Code::unavailable);
        auto worker = co_await t.next_ready();
        auto recovered = t.submit();
        auto const id = co_await t.submitted(*worker);
        EXPECT_EQ(id, recovered->id());
    }(*this));
}

TEST_F(Supervision, AnExecutableThatIsMissingIsTheProblemShown) {
    launcher.failures_left = 3;
    options.backoff_max = 5ms;
    run([](Supervision& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto generation = t.submit();
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::unavailable);
        EXPECT_EQ(t.pool().models()[0].problem, "cannot start: no such file");
        co_await t.next_ready();
        EXPECT_EQ(t.pool().models()[0].problem, "");
    }(*this));
}

TEST_F(Supervision, BacksOffLongerEachTime) {
    options.backoff_min = 20ms;
    options.backoff_max = 80ms;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        for (double const least_ms : {20.0, 40.0, 80.0, 80.0}) {
            auto const begin = t.clock.now();
            worker->die("exit status 1");
            worker = co_await t.next_ready();
            EXPECT_GE(to_ms(t.clock.now() - begin), least_ms);
        }
        EXPECT_EQ(t.pool().models()[0].restarts, 4U);
    }(*this));
}

TEST_F(Supervision, OneThatIsUnloadedAndLostDoesNotComeBackForNobody) {
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        worker->event(generation->id(), t.delta("half an ans"));
        co_await generation->next();
        EXPECT_TRUE(t.pool().unload("m"));
        worker->die("signal 9 (Killed)");
        while (t.pool().models()[0].state != ModelState::cold) co_await t.loop.sleep(1ms);
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
}

TEST_F(Supervision, OneThatIsUnloadedAndLostLeavesWhenTheNextWorkerHasAnswered) {
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        co_await generation->next();
        EXPECT_TRUE(t.pool().unload("m"));
        worker->die("signal 9 (Killed)");
        auto next = co_await t.next_ready();
        auto const id = co_await t.submitted(*next);
        EXPECT_EQ(id, generation->id());
        for (Event const& event : {Event(Started{}), Event(t.choice_done()), Event(Done{})}) next->event(id, event);
        while (t.pool().models()[0].state != ModelState::cold) co_await t.loop.sleep(1ms);
        EXPECT_EQ(next->exit_reason, "exit status 0");
        EXPECT_EQ(t.launcher.launches, 2);
    }(*this));
}

TEST_F(Supervision, AChattyWorkerIsCutShort) {
    options.ping_interval = 20s;
    run([](Supervision& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        for (int i = 0; i < 10'000; ++i) worker->send(LogFrame{1, "spam"});
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        auto const event = co_await generation->next();
        EXPECT_TRUE(t.is<Started>(event));
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
