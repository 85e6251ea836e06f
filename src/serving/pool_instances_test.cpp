// Several workers of one model: who gets which request, and what happens to one happens to one alone.
#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Done;
using domain::Started;
using testing::FakeWorker;
using Workers = std::vector<std::shared_ptr<FakeWorker>>;

class PoolInstances : public testing::PoolFixture {
public:
    ModelSpec several(std::string id, std::uint32_t count) {
        auto model = spec(std::move(id));
        model.instances = count;
        model.memory_bytes = 10;
        model.process_bytes = 2;
        return model;
    }
    // One of the same file with an adapter of its own.
    static ModelSpec adapted(std::string id, std::uint64_t bytes = 1) {
        auto out = spec(id);
        out.adapter_bytes = bytes;
        out.variants = {{id, {{"/" + id + ".gguf", 1}}, nullptr, bytes}};
        return out;
    }
    // It takes 10 bytes, 6 of them the file's, and computes one sequence.
    static void say_ready(FakeWorker& worker) {
        ReadyFrame frame;
        frame.info.memory_bytes = 10;
        frame.info.shared_bytes = 6;
        frame.info.sequences_max = 1;
        worker.send(frame);
    }
    // The next workers, ready.
    net::Task<Workers> ready(std::size_t count) {
        Workers workers;
        while (workers.size() < count) {
            auto worker = co_await launcher.next();
            say_ready(*worker);
            workers.push_back(std::move(worker));
        }
        co_await until(workers.front()->spec.id, count, ModelState::ready);
        co_return workers;
    }
    net::Task<void> until(std::string model, std::size_t count, ModelState state) {
        for (;;) {
            auto const status = *pool().status(model);
            auto const there = std::ranges::count(status.instances, state, &InstanceStatus::state);
            if (static_cast<std::size_t>(there) >= count || (status.instances.empty() && status.state == state))
                co_return;
            co_await loop.sleep(1ms);
        }
    }
    static domain::GenerateRequest chat(std::vector<std::string> contents, std::string model = "m") {
        domain::ChatPrompt prompt;
        for (auto& content : contents) prompt.messages.push_back({"user", std::move(content)});
        domain::GenerateRequest wanted;
        wanted.model = std::move(model);
        wanted.prompt = std::move(prompt);
        return wanted;
    }
    std::unique_ptr<Generation> say(std::vector<std::string> contents, std::string model = "m") {
        return submit(chat(std::move(contents), std::move(model)));
    }
    static void begin(FakeWorker& worker, RequestId id) { worker.event(id, Started{1, 0}); }
    static void end(FakeWorker& worker, RequestId id) {
        worker.event(id, choice_done());
        worker.event(id, Done{{1, 0, 0}, {}});
    }
    net::Task<void> finish(FakeWorker& worker, Generation& generation) {
        auto const id = co_await submitted(worker);
        EXPECT_EQ(id, generation.id());
        begin(worker, id);
        end(worker, id);
        co_await answered(generation);
    }
    static net::Task<void> answered(Generation& generation) {
        for (;;) {
            auto const event = co_await generation.next();
            EXPECT_FALSE(is<domain::Failed>(event));
            if (domain::is_terminal(event)) co_return;
        }
    }
    // Every worker from now on gets ready and answers all it is asked, until it is closed.
    net::Task<void> serve_all() {
        for (;;) {
            auto worker = co_await launcher.next();
            loop.spawn(serve(std::move(worker)));
        }
    }
    static net::Task<void> serve(std::shared_ptr<FakeWorker> worker) {
        say_ready(*worker);
        for (;;) {
            auto const frame = co_await worker->next();
            if (std::holds_alternative<CloseFrame>(frame)) co_return;
            auto const* asked = std::get_if<SubmitFrame>(&frame);
            if (asked == nullptr) continue;
            begin(*worker, asked->id);
            end(*worker, asked->id);
        }
    }
    void begin_swap(ModelSpec next, std::optional<Status>& outcome) {
        loop.spawn([](PoolInstances& t, ModelSpec wanted, std::optional<Status>& out) -> net::Task<void> {
            auto done = co_await t.pool().swap("m", std::move(wanted), 30s);
            out = std::move(done);
        }(*this, std::move(next), outcome));
    }
};

TEST_F(PoolInstances, RequestsAreSplitAmongThem) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 3)));
        auto const workers = co_await t.ready(3);
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 9; ++i) generations.push_back(t.submit());
        co_await t.settle();
        for (auto const& worker : workers) EXPECT_EQ(worker->unread(), 3U);
        auto const status = *t.pool().status("m");
        EXPECT_EQ(status.inside, 9U);
        EXPECT_EQ(status.instances.size(), 3U);
        for (auto const& instance : status.instances) EXPECT_EQ(instance.inside, 3U);
    }(*this));
}

TEST_F(PoolInstances, AConversationStaysWithTheWorkerThatKnowsIt) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        auto ada = t.say({"I am Ada"});
        auto bob = t.say({"I am Bob"});
        co_await t.finish(*workers[0], *ada);
        co_await t.finish(*workers[1], *bob);
        for (int turn = 0; turn < 3; ++turn) {
            auto again = t.say({"I am Bob", "Hello", "Again"});
            co_await t.finish(*workers[1], *again);
            auto other = t.say({"I am Ada", "Hello", "Again"});
            co_await t.finish(*workers[0], *other);
        }
    }(*this));
}

TEST_F(PoolInstances, WhoKnowsAPromptIsNotOverloadedForIt) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        std::vector<std::unique_ptr<Generation>> generations;
        for (int i = 0; i < 20; ++i) generations.push_back(t.say({"All begin alike"}));
        co_await t.settle();
        EXPECT_GE(workers[0]->unread(), 9U);
        EXPECT_GE(workers[1]->unread(), 9U);
    }(*this));
}

TEST_F(PoolInstances, WhoKnowsAPromptIsPassedOverWhereItHasNoPlace) {
    options.requests_max = 4;
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        std::vector<std::unique_ptr<Generation>> generations;
        generations.reserve(5);
        for (int i = 0; i < 5; ++i) generations.push_back(t.say({"I", "am", "Ada", "again"}));
        co_await t.settle();
        EXPECT_EQ(workers[0]->unread(), 4U);
        EXPECT_EQ(workers[1]->unread(), 1U) << "it is not refused";
    }(*this));
}

TEST_F(PoolInstances, WhoKnowsAPromptIsPassedOverWhereItWouldWaitForTooLong) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        auto first = t.say({"I am Ada"});
        auto const id = co_await t.submitted(*workers[0]);
        begin(*workers[0], id);
        co_await t.settle();
        t.clock.shift(1s);
        end(*workers[0], id);
        co_await t.answered(*first);
        auto running = t.say({"I am Ada"});
        auto const second = co_await t.submitted(*workers[0]);
        begin(*workers[0], second);
        co_await t.settle();
        auto hurried = t.chat({"I am Ada"});
        hurried.deadlines.queue_ms = 100;
        auto const given = t.submit(hurried);
        co_await t.settle();
        EXPECT_EQ(workers[1]->unread(), 1U);
        auto patient = t.say({"I am Ada"});
        co_await t.settle();
        EXPECT_EQ(workers[1]->unread(), 2U) << "the last that was given it knows it";
    }(*this));
}

TEST_F(PoolInstances, WhatOneLosesTheOtherDoesNotNotice) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        auto lost = t.submit();
        auto kept = t.submit();
        auto const first = co_await t.submitted(*workers[0]);
        auto const second = co_await t.submitted(*workers[1]);
        begin(*workers[0], first);
        begin(*workers[1], second);
        workers[0]->event(first, t.delta("x"));
        workers[1]->event(second, t.delta("y"));
        co_await lost->next();
        co_await lost->next();
        workers[0]->die("signal 9 (Killed)");
        auto const failed = co_await lost->next();
        EXPECT_EQ(t.failure(failed), Code::engine_lost);
        EXPECT_EQ(t.pool().status("m")->state, ModelState::ready) << "the other is";
        auto later = t.submit();
        co_await t.settle();
        EXPECT_EQ(workers[1]->unread(), 1U) << "who comes meanwhile goes to it";
        auto const next = co_await t.submitted(*workers[1]);
        end(*workers[1], second);
        begin(*workers[1], next);
        end(*workers[1], next);
        auto const fresh = co_await t.ready(1);
        co_await t.until("m", 2, ModelState::ready);
        auto const status = *t.pool().status("m");
        EXPECT_EQ(status.restarts, 1U);
        EXPECT_EQ(status.instances[0].restarts, 1U);
        EXPECT_EQ(status.instances[1].restarts, 0U);
        std::string text;
        for (;;) {
            auto const event = co_await kept->next();
            if (auto const* delta = std::get_if<domain::Delta>(&event)) text += delta->text;
            if (domain::is_terminal(event)) break;
        }
        EXPECT_EQ(text, "y");
        auto back = t.submit();
        co_await t.finish(*fresh[0], *back);
    }(*this));
}

TEST_F(PoolInstances, CancellingReachesTheWorkerThatHasTheRequest) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        auto first = t.submit();
        auto second = t.submit();
        co_await t.submitted(*workers[0]);
        auto const id = co_await t.submitted(*workers[1]);
        second->cancel();
        auto const frame = co_await workers[1]->next();
        EXPECT_EQ(frame, Frame(CancelFrame{id}));
        EXPECT_EQ(workers[0]->unread(), 0U);
    }(*this));
}

TEST_F(PoolInstances, WhatTheyShareCountsOnce) {
    options.memory_bytes = 100;
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 3)));
        co_await t.settle();
        EXPECT_EQ(t.pool().memory().used_bytes, 30U) << "nobody knows yet what they share";
        auto const workers = co_await t.ready(3);
        EXPECT_EQ(t.pool().memory().used_bytes, 18U) << "6, and three times 4";
        EXPECT_EQ(t.pool().status("m")->memory_bytes, 18U);
        auto const status = t.pool().status("m");
        for (auto const& instance : status->instances) EXPECT_EQ(instance.memory_bytes, 10U);
    }(*this));
}

TEST_F(PoolInstances, WhatTheyAreThoughtToShareCountsOnceBeforeTheyAreLoaded) {
    options.memory_bytes = 19;
    run([](PoolInstances& t) -> net::Task<void> {
        auto three = t.several("m", 3);
        three.shared_bytes = 5;
        EXPECT_EQ(t.pool().add(three).error().code, Code::exhausted) << "5, and three times 5";
        three.shared_bytes = 6;
        EXPECT_TRUE(t.pool().add(three)) << "6, and three times 4";
        auto asked = t.submit();
        co_await t.settle();
        EXPECT_EQ(t.pool().memory().used_bytes, 18U);
        auto const workers = co_await t.ready(3);
        co_await t.finish(*workers[0], *asked);
    }(*this));
}

TEST_F(PoolInstances, TheyAreLoadedAndParkedAndWokenTogether) {
    options.memory_bytes = 22;
    options.parked_max = 1;
    launcher.on_launch = [](FakeWorker& worker) { worker.keeps = 2; };
    run([](PoolInstances& t) -> net::Task<void> {
        auto two = t.several("m", 2);
        two.lazy = true;
        auto one = t.several("other", 1);
        one.lazy = true;
        one.memory_bytes = 15;
        EXPECT_TRUE(t.pool().add(two));
        EXPECT_TRUE(t.pool().add(one));
        auto asked = t.say({"Hi"});
        auto const workers = co_await t.ready(2);
        co_await t.finish(*workers[0], *asked);
        auto waiting = t.say({"Hi"}, "other");
        auto const others = co_await t.ready(1);
        EXPECT_EQ(t.pool().status("m")->state, ModelState::parked);
        EXPECT_EQ(t.pool().status("m")->memory_bytes, 4U);
        for (auto const& worker : workers) EXPECT_EQ(worker->parks, 1U);
        co_await t.finish(*others[0], *waiting);
        auto again = t.say({"Hi", "and", "again"});
        co_await t.finish(*workers[0], *again);
        for (auto const& worker : workers) EXPECT_EQ(worker->wakes, 1U);
        EXPECT_EQ(t.pool().status("other")->state, ModelState::parked);
        EXPECT_EQ(t.launcher.launches, 3);
    }(*this));
}

TEST_F(PoolInstances, NoneIsLetGoWhileOneComputes) {
    options.memory_bytes = 20;
    run([](PoolInstances& t) -> net::Task<void> {
        auto two = t.several("m", 2);
        two.lazy = true;
        auto one = t.several("other", 1);
        one.lazy = true;
        EXPECT_TRUE(t.pool().add(two));
        EXPECT_TRUE(t.pool().add(one));
        auto running = t.submit();
        auto const workers = co_await t.ready(2);
        auto const id = co_await t.submitted(*workers[0]);
        begin(*workers[0], id);
        auto waiting = t.say({"Hi"}, "other");
        co_await t.settle();
        EXPECT_EQ(t.pool().status("m")->state, ModelState::ready);
        EXPECT_TRUE(workers[1]->exit_reason.empty());
        end(*workers[0], id);
        auto const others = co_await t.ready(1);
        for (auto const& worker : workers) EXPECT_EQ(worker->exit_reason, "exit status 0");
        co_await t.finish(*others[0], *waiting);
    }(*this));
}

TEST_F(PoolInstances, UnloadAndRemoveAreForAllOfThem) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        EXPECT_TRUE(t.pool().unload("m"));
        co_await t.until("m", 2, ModelState::cold);
        auto asked = t.submit();
        auto const fresh = co_await t.ready(2);
        EXPECT_TRUE(t.pool().remove("m"));
        co_await t.finish(*fresh[0], *asked);
        while (t.pool().status("m")) co_await t.loop.sleep(1ms);
        for (auto const& worker : fresh) EXPECT_EQ(worker->exit_reason, "exit status 0");
    }(*this));
}

TEST_F(PoolInstances, ASwapBringsAsMany) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const old = co_await t.ready(2);
        auto next = t.spec("next");
        auto swapping = t.pool().swap("m", next, 10s);
        t.launcher.on_launch = [](FakeWorker& worker) { worker.ready(); };
        auto const swapped = co_await std::move(swapping);
        EXPECT_TRUE(swapped);
        co_await t.until("m", 2, ModelState::ready);
        EXPECT_EQ(t.pool().status("m")->path, "next.gguf");
        EXPECT_EQ(t.launcher.launches, 4);
        while (old[0]->exit_reason.empty() || old[1]->exit_reason.empty()) co_await t.loop.sleep(1ms);
    }(*this));
}

// --- what happens to one alone ---

TEST_F(PoolInstances, WhoWaitsIsAnsweredWhenOneIsLostWhileBothDrain) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        auto running = t.submit();
        auto const id = co_await t.submitted(*workers[0]);
        begin(*workers[0], id);
        co_await t.settle();
        EXPECT_TRUE(t.pool().unload("m"));
        auto before = t.submit();
        workers[1]->die("signal 9 (Killed)");
        co_await t.settle();
        auto after = t.submit();
        auto third = t.submit();
        t.loop.spawn(t.serve_all());
        co_await t.settle();
        EXPECT_TRUE(workers[0]->exit_reason.empty()) << "it computes";
        end(*workers[0], id);
        for (auto* each : {&running, &before, &after, &third}) co_await t.answered(**each);
        EXPECT_EQ(workers[0]->exit_reason, "exit status 0");
        EXPECT_TRUE(t.pool().unload("m"));
        co_await t.until("m", 2, ModelState::cold);
    }(*this));
}

TEST_F(PoolInstances, WhoWaitsIsAnsweredWhenTheOneThatDrainsIsLost) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        auto running = t.submit();
        auto other = t.submit();
        auto const id = co_await t.submitted(*workers[0]);
        auto const kept = co_await t.submitted(*workers[1]);
        begin(*workers[0], id);
        begin(*workers[1], kept);
        co_await t.settle();
        EXPECT_TRUE(t.pool().unload("m"));
        auto waiting = t.submit();
        t.loop.spawn(t.serve_all());
        workers[0]->die("signal 9 (Killed)");
        co_await t.settle();
        end(*workers[1], kept);
        for (auto* each : {&running, &other, &waiting}) co_await t.answered(**each);
        co_await t.until("m", 2, ModelState::cold);
    }(*this));
}

TEST_F(PoolInstances, WhoWaitsForAModelThatJoinedIsAnsweredAlthoughOneRestarts) {
    options.backoff_min = options.backoff_max = std::chrono::hours(1);
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const workers = co_await t.ready(2);
        workers[1]->die("signal 9 (Killed)");
        co_await t.until("m", 1, ModelState::restarting);
        co_await t.settle();
        EXPECT_TRUE(t.pool().join("m", t.adapted("one")));
        t.loop.spawn(t.serve_all());
        auto one = t.say({"Hi"}, "one");
        auto plain = t.say({"Hi"});
        co_await t.answered(*one);
        co_await t.answered(*plain);
        EXPECT_EQ(t.launcher.launches, 4);
    }(*this));
}

TEST_F(PoolInstances, UnloadWhileOneOfThoseThatAreParkedIsWaitedForEndsBoth) {
    options.memory_bytes = 22;
    options.parked_max = 1;
    launcher.on_launch = [](FakeWorker& worker) { worker.keeps = 2; };
    run([](PoolInstances& t) -> net::Task<void> {
        auto two = t.several("m", 2);
        two.lazy = true;
        auto one = t.several("other", 1);
        one.lazy = true;
        one.memory_bytes = 15;
        EXPECT_TRUE(t.pool().add(two));
        EXPECT_TRUE(t.pool().add(one));
        auto asked = t.say({"Hi"});
        auto const workers = co_await t.ready(2);
        co_await t.finish(*workers[0], *asked);
        auto running = t.say({"Hi"}, "other");
        auto const others = co_await t.ready(1);
        auto const id = co_await t.submitted(*others[0]);
        begin(*others[0], id);
        co_await t.settle();
        auto waiting = t.say({"Hi"});
        EXPECT_TRUE(t.pool().unload("m"));
        co_await t.until("m", 1, ModelState::cold);
        end(*others[0], id);
        auto const fresh = co_await t.ready(1);
        co_await t.finish(*workers[0], *waiting);
        co_await t.until("m", 2, ModelState::cold);
        EXPECT_EQ(fresh[0]->exit_reason, "exit status 0");
        EXPECT_EQ(fresh[0]->parks, 0U);
    }(*this));
}

TEST_F(PoolInstances, UnloadIsForOneThatRestartsAsWell) {
    options.backoff_min = options.backoff_max = std::chrono::hours(1);
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const never_ready = co_await t.launcher.next();
        never_ready->die("signal 9 (Killed)");
        auto const workers = co_await t.ready(1);
        co_await t.until("m", 1, ModelState::restarting);
        EXPECT_TRUE(t.pool().unload("m"));
        co_await t.until("m", 2, ModelState::cold);
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 2) << "nobody asked";
    }(*this));
}

TEST_F(PoolInstances, OneThatCannotBeLoadedIsNotWaitedForAndTriedAgainWithTheOthers) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const failing = co_await t.launcher.next();
        failing->send(LoadFailedFrame{Error(Code::exhausted, "failed to allocate")});
        failing->die("exit status 1");
        auto const workers = co_await t.ready(1);
        co_await t.until("m", 1, ModelState::failed);
        EXPECT_EQ(t.pool().status("m")->instances[0].state, ModelState::failed);
        auto asked = t.submit();
        co_await t.finish(*workers[0], *asked);
        t.pool().relieve(Pressure::high);
        co_await t.until("m", 1, ModelState::cold);
        t.pool().relieve(Pressure::none);
        co_await t.settle();
        EXPECT_EQ(t.launcher.launches, 2) << "nobody asked";
        auto again = t.submit();
        auto const fresh = co_await t.ready(2);
        co_await t.settle();
        co_await t.finish(fresh[0]->unread() > 0 ? *fresh[0] : *fresh[1], *again);
        EXPECT_EQ(t.launcher.launches, 4);
    }(*this));
}

TEST_F(PoolInstances, ASwapOfWhichOneCannotBeLoadedChangesNothing) {
    run([](PoolInstances& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().add(t.several("m", 2)));
        auto const old = co_await t.ready(2);
        std::optional<Status> outcome;
        t.begin_swap(t.spec("next"), outcome);
        auto const one = co_await t.launcher.next();
        auto const two = co_await t.launcher.next();
        one->ready();
        two->send(LoadFailedFrame{Error(Code::exhausted, "failed to allocate")});
        two->die("exit status 1");
        while (!outcome) co_await t.loop.sleep(1ms);
        EXPECT_FALSE(*outcome);
        if (!*outcome) EXPECT_NE(outcome->error().message.find("failed to allocate"), std::string::npos);
        EXPECT_EQ(t.pool().status("m")->path, "m.gguf");
        while (one->exit_reason.empty()) co_await t.loop.sleep(1ms);
        auto asked = t.submit();
        co_await t.finish(*old[0], *asked);
    }(*this));
}

TEST_F(PoolInstances, WhatJoinsCountsForEachOfThem) {
    options.memory_bytes = 30;
    run([](PoolInstances& t) -> net::Task<void> {
        auto two = t.several("m", 2);
        two.lazy = true;
        EXPECT_TRUE(t.pool().add(two));
        auto const refused = t.pool().join("m", t.adapted("one", 6));
        EXPECT_FALSE(refused) << "20, and twice 6";
        if (!refused) EXPECT_EQ(refused.error().code, Code::exhausted);
        EXPECT_TRUE(t.pool().join("m", t.adapted("one", 5)));
        t.loop.spawn(t.serve_all());
        auto asked = t.say({"Hi"}, "one");
        co_await t.answered(*asked);
    }(*this));
}

TEST_F(PoolInstances, MoreThanThereMayBeAreRefused) {
    run([](PoolInstances& t) -> net::Task<void> {
        auto const refused = t.pool().add(t.several("m", kInstancesMax + 1));
        EXPECT_FALSE(refused);
        if (!refused) EXPECT_NE(refused.error().message.find("17"), std::string::npos) << refused.error().message;
        EXPECT_FALSE(t.pool().add(t.several("m", 0)));
        co_return;
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
