// Requests through the pool while their worker lives.
#include "serving/pool.h"

#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace domain;
using namespace std::chrono_literals;

class PoolTest : public testing::PoolFixture {};

TEST_F(PoolTest, CarriesARequestToTheWorkerAndItsEventsBackInOrder) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto wanted = t.request("hi", 2);
        wanted.stop = {"STOP"};
        wanted.sampling.seed = 7;
        auto generation = t.submit(wanted);
        auto frame = co_await worker->next();
        auto const* submit = std::get_if<SubmitFrame>(&frame);
        if (submit == nullptr) co_return t.fail_here("no Submit");
        EXPECT_EQ(submit->id, generation->id());
        wanted.model = "m";
        EXPECT_EQ(submit->request, wanted);

        std::vector<Event> const sent{
            Started{5, 2},    PromptProgress{5, 2, 5, 1.5}, t.delta("a", 1, 0), t.delta("b", 1, 1), t.choice_done(1),
            t.choice_done(0), Done{{5, 2, 2}, {}}};
        StepFrame step;
        for (auto const& event : sent) step.entries.push_back({submit->id, event});
        worker->send(step);
        for (auto const& event : sent) {
            auto const got = co_await generation->next();
            EXPECT_EQ(got, event);
        }
        EXPECT_EQ(generation->try_next(), std::nullopt);
        EXPECT_EQ(t.pool().models()[0].inside, 0U);
    }(*this));
}

TEST_F(PoolTest, HoldsRequestsWhileTheModelLoadsAndSendsThemInOrder) {
    run([](PoolTest& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto worker = co_await t.launcher.next();
        EXPECT_EQ(worker->spec.requests_max, t.options.requests_max);
        EXPECT_EQ(worker->spec.credit_tokens, t.options.credit_tokens);
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 5; ++i) generations.push_back(t.submit());
        worker->send(LoadingFrame{0.25F});
        co_await t.settle();
        auto const status = t.pool().status("m");
        EXPECT_EQ(status->state, ModelState::loading);
        EXPECT_EQ(status->progress, 0.25F);
        EXPECT_EQ(status->waiting, 5U);
        EXPECT_FALSE(t.pool().ready());
        EXPECT_EQ(worker->unread(), 0U) << "nothing is sent before Ready";
        for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ(generations[i]->waiting().ahead, i);

        ModelInfo info;
        info.architecture = "llama";
        worker->send(ReadyFrame{info});
        for (auto const& generation : generations) {
            auto const id = co_await t.submitted(*worker);
            EXPECT_EQ(id, generation->id());
        }
        EXPECT_TRUE(t.pool().ready());
        EXPECT_EQ(t.pool().status("m")->info, info);
    }(*this));
}

TEST_F(PoolTest, PositionCountsTheWaitingInFront) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto first = t.submit();
        auto second = t.submit();
        auto third = t.submit();
        EXPECT_EQ(third->waiting().ahead, 2U);
        worker->event(first->id(), Started{});
        co_await first->next();
        EXPECT_EQ(first->waiting().ahead, 0U);
        EXPECT_EQ(second->waiting().ahead, 0U);
        EXPECT_EQ(third->waiting().ahead, 1U);
    }(*this));
}

TEST_F(PoolTest, RefusesAtOnceWhatIsBeyondItsLimits) {
    options.requests_max = 2;
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto first = t.submit();
        auto second = t.submit();
        auto third = t.pool().submit(t.request());
        EXPECT_FALSE(third);
        EXPECT_EQ(third.error().code, Code::overloaded);
        EXPECT_EQ(third.error().message, "model 'm' holds 2 requests, which is the limit");
        EXPECT_GE(t.pool().retry_after_s("m"), 1U);

        // The place is free when the worker says so, not when the consumer leaves.
        auto const id = first->id();
        first.reset();
        EXPECT_FALSE(t.pool().submit(t.request()));
        worker->event(id, t.choice_done());
        worker->event(id, Done{});
        co_await t.settle();
        EXPECT_TRUE(t.pool().submit(t.request()));
    }(*this));
}

TEST_F(PoolTest, LeavesAnEighthOfItsPlacesToInteractiveRequests) {
    options.requests_max = 8;
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        std::vector<std::unique_ptr<Generation>> inside;
        for (int i = 0; i < 7; ++i) inside.push_back(t.submit());
        auto const refused = t.pool().submit(t.request());
        EXPECT_FALSE(refused);
        EXPECT_EQ(refused.error().message,
                  "model 'm' holds 7 requests, which is the limit of those that are not interactive");
        auto urgent = t.request();
        urgent.priority = domain::Priority::interactive;
        auto const taken = t.pool().submit(urgent);
        EXPECT_TRUE(taken);
        auto const beyond = t.pool().submit(urgent);
        EXPECT_FALSE(beyond);
        EXPECT_EQ(beyond.error().message, "model 'm' holds 8 requests, which is the limit");
    }(*this));
}

TEST_F(PoolTest, BoundsTheBytesOfRequestsItKeeps) {
    options.request_bytes_max = 10'000;
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto large = t.submit(t.request(std::string(8'000, 'x')));
        auto const refused = t.pool().submit(t.request(std::string(8'000, 'x')));
        EXPECT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Code::overloaded);
        // With the first piece of the answer no replay is possible, and nothing is kept.
        worker->event(large->id(), Started{});
        worker->event(large->id(), t.delta("a"));
        co_await t.settle();
        EXPECT_TRUE(t.pool().submit(t.request(std::string(8'000, 'x'))));
    }(*this));
}

TEST_F(PoolTest, FindsModelsByIdByAliasAndByDefault) {
    run([](PoolTest& t) -> net::Task<void> {
        auto first = t.spec("first");
        first.aliases = {"one", "uno"};
        EXPECT_TRUE(t.pool().add(first));
        EXPECT_TRUE(t.pool().add(t.spec("second")));
        EXPECT_EQ(t.pool().status("")->id, "first");
        EXPECT_EQ(t.pool().status("uno")->id, "first");
        EXPECT_EQ(t.pool().status("second")->id, "second");
        auto const unknown = t.pool().status("third");
        EXPECT_EQ(unknown.error().code, Code::not_found);
        EXPECT_EQ(unknown.error().message, "there is no model 'third'; this server has 'first', 'second'");
        auto wanted = t.request();
        wanted.model = "third";
        EXPECT_EQ(t.pool().submit(wanted).error().code, Code::not_found);

        for (auto const* taken : {"first", "one"}) {
            EXPECT_EQ(t.pool().add(t.spec(taken)).error().code, Code::invalid_argument);
        }
        auto clash = t.spec("new");
        clash.aliases = {"second"};
        EXPECT_EQ(t.pool().add(clash).error().code, Code::invalid_argument);
        EXPECT_EQ(t.pool().models().size(), 2U);
        co_return;
    }(*this));
}

TEST_F(PoolTest, ARequestThatNoFrameCanCarryIsItsOwnError) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto broken = t.request();
        broken.choices = 0;
        EXPECT_EQ(t.pool().submit(broken).error().code, Code::invalid_argument);
        EXPECT_EQ(t.pool().models()[0].inside, 0U);
        auto good = t.submit();
        auto const id = co_await t.submitted(*worker);
        EXPECT_EQ(id, good->id());
    }(*this));
}

TEST_F(PoolTest, CancelReachesTheWorkerAndTheRestCanBeRead) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        auto const id = co_await t.submitted(*worker);
        worker->event(id, Started{});
        co_await generation->next();
        generation->cancel();
        generation->cancel();
        auto const frame = co_await worker->next();
        EXPECT_EQ(frame, Frame(CancelFrame{id}));
        worker->event(id, ChoiceDone{0, FinishReason::cancelled, {}});
        worker->event(id, Done{});
        auto const choice = co_await generation->next();
        EXPECT_TRUE(t.is<ChoiceDone>(choice));
        auto const last = co_await generation->next();
        EXPECT_TRUE(t.is<Done>(last));
        EXPECT_EQ(worker->unread(), 0U) << "one Cancel is enough";
    }(*this));
}

TEST_F(PoolTest, CancelBeforeAnyWorkerHasItEndsItHere) {
    run([](PoolTest& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto generation = t.submit(t.request("x", 2));
        generation->cancel();
        for (std::uint32_t choice = 0; choice < 2; ++choice) {
            auto const event = co_await generation->next();
            EXPECT_EQ(event, Event(ChoiceDone{choice, FinishReason::cancelled, {}}));
        }
        auto const last = co_await generation->next();
        EXPECT_TRUE(t.is<Done>(last));
        auto worker = co_await t.next_ready();
        EXPECT_EQ(worker->unread(), 0U);
    }(*this));
}

TEST_F(PoolTest, DestroyingAGenerationCancelsAndItsLaterEventsAreDropped) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        auto const id = co_await t.submitted(*worker);
        generation.reset();
        auto const frame = co_await worker->next();
        EXPECT_EQ(frame, Frame(CancelFrame{id}));
        worker->event(id, Started{});
        for (int i = 0; i < 200; ++i) worker->event(id, t.delta("late"));
        worker->event(id, t.choice_done());
        worker->event(id, Done{});
        co_await t.settle();
        EXPECT_EQ(t.pool().models()[0].inside, 0U);
        EXPECT_EQ(t.pool().models()[0].state, ModelState::ready);
    }(*this));
}

TEST_F(PoolTest, GrantsWhatTheConsumerTookAndNothingElse) {
    options.credit_tokens = 8;
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto fast = t.submit();
        auto slow = t.submit();
        co_await t.submitted(*worker);
        co_await t.submitted(*worker);
        for (auto const id : {fast->id(), slow->id()}) {
            worker->event(id, Started{});
            for (int i = 0; i < 8; ++i) worker->event(id, t.delta("x"));
        }
        for (int i = 0; i < 9; ++i) co_await fast->next();
        std::uint32_t granted = 0;
        while (granted < 8) {
            auto const frame = co_await worker->next();
            auto const* grant = std::get_if<GrantFrame>(&frame);
            if (grant == nullptr || grant->id != fast->id()) co_return t.fail_here("not a grant for the fast one");
            EXPECT_GE(grant->tokens, 2U) << "grants come in batches";
            granted += grant->tokens;
        }
        co_await t.settle();
        EXPECT_EQ(worker->unread(), 0U) << "the slow one was granted nothing";
    }(*this));
}

TEST_F(PoolTest, ASlowConsumerHoldsOneProgressEvent) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        auto const id = generation->id();
        worker->event(id, Started{1000, 0});
        for (std::uint32_t done = 1; done <= 1000; ++done) worker->event(id, PromptProgress{1000, 0, done, 0});
        worker->event(id, t.delta("x"));
        co_await t.settle();
        auto const started = co_await generation->next();
        EXPECT_TRUE(t.is<Started>(started));
        auto const progress = co_await generation->next();
        EXPECT_EQ(progress, Event(PromptProgress{1000, 0, 1000, 0}));
        auto const piece = co_await generation->next();
        EXPECT_EQ(t.text_of(piece), "x");
    }(*this));
}

TEST_F(PoolTest, NextWithinYieldsNothingWhenTimePassed) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        auto const nothing = co_await generation->next_within(5ms);
        EXPECT_EQ(nothing, std::nullopt);
        worker->event(generation->id(), Started{});
        auto const event = co_await generation->next_within(20s);
        EXPECT_TRUE(event.has_value() && t.is<Started>(*event));
    }(*this));
}

TEST_F(PoolTest, DrainRefusesTheNewAndFinishesTheOld) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        t.pool().drain();
        EXPECT_EQ(t.pool().submit(t.request()).error().code, Code::unavailable);
        EXPECT_EQ(t.pool().add(t.spec("other")).error().code, Code::unavailable);
        worker->event(generation->id(), Started{});
        worker->event(generation->id(), t.choice_done());
        worker->event(generation->id(), Done{});
        for (int i = 0; i < 3; ++i) co_await generation->next();
    }(*this));
}

TEST_F(PoolTest, StopCancelsAndLetsWorkersGo) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        auto const id = co_await t.submitted(*worker);
        worker->event(id, Started{});
        co_await t.settle();
        co_await t.pool().stop(20s);
        EXPECT_EQ(t.pool().models()[0].state, ModelState::stopped);
        EXPECT_EQ(worker->exit_reason, "exit status 0");
        auto const cancel = co_await worker->next();
        EXPECT_EQ(cancel, Frame(CancelFrame{id}));
        std::vector<Event> events;
        while (events.empty() || !is_terminal(events.back())) events.push_back(co_await generation->next());
        EXPECT_EQ(events.size(), 3U);
        EXPECT_EQ(events[1], Event(ChoiceDone{0, FinishReason::cancelled, {}}));
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
}

TEST_F(PoolTest, StopKillsWorkersThatDoNotGoInTime) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->closes_when_asked = false;
        co_await t.pool().stop(10ms);
        EXPECT_TRUE(worker->killed);
        EXPECT_EQ(t.pool().models()[0].state, ModelState::stopped);
    }(*this));
}

TEST_F(PoolTest, StopWithoutAWorkerDoesNotWait) {
    options.backoff_min = options.backoff_max = 20s;
    launcher.failures_left = 1;
    run([](PoolTest& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.spec("m")));
        auto generation = t.submit();
        co_await t.settle();
        co_await t.pool().stop(20s);
        EXPECT_EQ(t.pool().models()[0].state, ModelState::stopped);
        auto const choice = co_await generation->next();
        EXPECT_TRUE(t.is<ChoiceDone>(choice));
    }(*this));
}

TEST_F(PoolTest, GenerationsOutliveThePool) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto generation = t.submit();
        worker->event(generation->id(), Started{});
        co_await generation->next();
        t.destroy_pool();
        auto const last = co_await generation->next();
        EXPECT_EQ(t.failure(last), Code::unavailable);
        generation->cancel();
        EXPECT_EQ(generation->waiting().ahead, 0U);
        EXPECT_TRUE(worker->killed);
    }(*this));
}

TEST_F(PoolTest, CountsWhatHappened) {
    run([](PoolTest& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        worker->stats = {3, 1, 70, 40, 100, 11, 0, 0, 2, 9, 7, 8, 4, 2500000, 5, 6, 13, 14, 15, 16, 1 << 20, 1500};
        auto generation = t.submit();
        auto const id = generation->id();
        worker->event(id, Started{10, 4});
        worker->event(id, t.delta("a", 2));
        worker->event(id, t.delta("b", 1));
        worker->event(id, t.choice_done());
        worker->event(id, Done{{10, 4, 3}, {}});
        for (int i = 0; i < 5; ++i) co_await generation->next();
        auto const pings = worker->pings;
        while (worker->pings < pings + 2) co_await t.loop.sleep(1ms);
        auto const text = t.metrics.render();
        for (auto const* line : {"hearth_requests_running{model=\"m\"} 0",
                                 "hearth_requests_waiting{model=\"m\"} 0",
                                 "hearth_requests_total{model=\"m\",outcome=\"completed\"} 1",
                                 "hearth_prompt_tokens_total{model=\"m\"} 10",
                                 "hearth_cached_tokens_total{model=\"m\"} 4",
                                 "hearth_generated_tokens_total{model=\"m\"} 3",
                                 "hearth_time_to_first_token_seconds_count{model=\"m\"} 1",
                                 "hearth_inter_token_latency_seconds_count{model=\"m\"} 1",
                                 "hearth_request_duration_seconds_count{model=\"m\"} 1",
                                 "hearth_queue_time_seconds_count{model=\"m\"} 1",
                                 "hearth_kv_cells_used{model=\"m\"} 70",
                                 "hearth_kv_cells_cached{model=\"m\"} 40",
                                 "hearth_kv_cells{model=\"m\"} 100",
                                 "hearth_worker_rss_bytes{model=\"m\"} 1048576",
                                 "hearth_prefix_cache_memory_bytes{model=\"m\"} 5",
                                 "hearth_prefix_cache_disk_bytes{model=\"m\"} 6",
                                 "hearth_prefix_cache_memory_tokens_total{model=\"m\"} 13",
                                 "hearth_prefix_cache_disk_tokens_total{model=\"m\"} 14",
                                 "hearth_prefix_cache_written_bytes_total{model=\"m\"} 15",
                                 "hearth_prefix_cache_errors_total{model=\"m\"} 16",
                                 "hearth_drafted_tokens_total{model=\"m\"} 9",
                                 "hearth_accepted_tokens_total{model=\"m\"} 7",
                                 "hearth_draft_model_drafted_tokens_total{model=\"m\"} 8",
                                 "hearth_draft_model_accepted_tokens_total{model=\"m\"} 4",
                                 "hearth_draft_model_seconds_total{model=\"m\"} 2.5",
                                 "hearth_worker_cpu_seconds_total{model=\"m\"} 1.5",
                                 "hearth_preemptions_total{model=\"m\"} 2",
                                 "hearth_engine_steps_total{model=\"m\"} 11",
                                 "hearth_model_state{model=\"m\",state=\"ready\"} 1",
                                 "hearth_model_state{model=\"m\",state=\"loading\"} 0"}) {
            EXPECT_NE(text.find(std::string(line) + "\n"), std::string::npos) << line << "\nin\n" << text;
        }
        EXPECT_EQ(t.pool().models()[0].stats.kv_used, 70U);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
