// Names with adapters: models to whoever asks, and one worker behind them.
#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;

using domain::Done;
using domain::Started;

class PoolVariants : public testing::PoolFixture {
public:
    static ModelSpec with_variants() {
        auto out = spec("base");
        out.aliases = {"b"};
        auto definition = std::make_shared<modelfile::Definition>();
        definition->system = "s";
        out.variants = {{"one", {{"/1.gguf", 0.5F}}, definition}, {"two", {{"/1.gguf", 1}, {"/2.gguf", 1}}, nullptr}};
        return out;
    }
    Result<std::unique_ptr<Generation>> ask(std::string model) {
        auto wanted = request();
        wanted.model = std::move(model);
        return pool().submit(wanted);
    }
    // The set of adapters of the next request that the worker is given.
    static net::Task<std::uint32_t> set_of_next(testing::FakeWorker& worker) {
        auto frame = co_await worker.next();
        auto const* submit = std::get_if<SubmitFrame>(&frame);
        EXPECT_NE(submit, nullptr);
        if (submit == nullptr) co_return 99;
        EXPECT_EQ(submit->request.model, "base");
        co_return submit->request.adapters;
    }
};

TEST_F(PoolVariants, RequestsGoToOneWorkerAndNameTheirSet) {
    ASSERT_TRUE(pool().add(with_variants()));
    run([](PoolVariants& t) -> net::Task<void> {
        auto worker = co_await t.launcher.next();
        worker->ready();
        std::vector<std::unique_ptr<Generation>> held;
        for (auto const& [name, set] : {std::pair{"base", 0U}, {"one", 1U}, {"two", 2U}, {"b", 0U}, {"", 0U}}) {
            auto generation = t.ask(name);
            EXPECT_TRUE(generation) << name;
            if (!generation) co_return;
            held.push_back(*std::move(generation));
            auto const got = co_await t.set_of_next(*worker);
            EXPECT_EQ(got, set) << name;
        }
        EXPECT_EQ(t.pool().status("base")->inside, 5U);
        EXPECT_FALSE(t.ask("three"));
    }(*this));
}

TEST_F(PoolVariants, EachIsListedWithWhatIsItsOwn) {
    auto model = with_variants();
    model.memory_bytes = 1000;
    ASSERT_TRUE(pool().add(std::move(model)));
    auto const all = pool().models();
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0].id, "base");
    EXPECT_EQ(all[0].base, "");
    EXPECT_EQ(all[0].memory_bytes, 1000U);
    EXPECT_EQ(all[1].id, "one");
    EXPECT_EQ(all[1].base, "base");
    EXPECT_TRUE(all[1].aliases.empty());
    EXPECT_EQ(all[1].definition->system, "s");
    EXPECT_EQ(all[1].memory_bytes, 0U) << "it is counted once";
    EXPECT_EQ(all[2].adapters.size(), 2U);
    EXPECT_EQ(pool().status("two")->id, "two");
    EXPECT_EQ(pool().status("b")->id, "base");
}

TEST_F(PoolVariants, AModelMayNeverBeServedWithoutItsOwn) {
    auto model = spec("m");
    model.variants = {{"m", {{"/1.gguf", 1}}, nullptr}};
    ASSERT_TRUE(pool().add(std::move(model)));
    ASSERT_EQ(pool().models().size(), 1U);
    auto const status = pool().models().front();
    EXPECT_EQ(status.id, "m");
    EXPECT_EQ(status.base, "");
    EXPECT_EQ(status.adapters.size(), 1U);
    run([](PoolVariants& t) -> net::Task<void> {
        auto worker = co_await t.launcher.next();
        worker->ready();
        auto generation = t.ask("");
        EXPECT_TRUE(generation);
        auto frame = co_await worker->next();
        auto const* submit = std::get_if<SubmitFrame>(&frame);
        EXPECT_TRUE(submit != nullptr && submit->request.adapters == 1);
    }(*this));
}

TEST_F(PoolVariants, NamesAreTakenByTheFirstWhoHasThem) {
    ASSERT_TRUE(pool().add(with_variants()));
    EXPECT_FALSE(pool().add(spec("one")));
    auto other = spec("other");
    other.variants = {{"base", {}, nullptr}};
    EXPECT_FALSE(pool().add(other));
    other.variants = {{"x", {}, nullptr}, {"x", {}, nullptr}};
    EXPECT_FALSE(pool().add(other)) << "twice its own";
    other.variants.assign(domain::kAdapterSetsMax + 1, {});
    for (std::size_t i = 0; i < other.variants.size(); ++i) other.variants[i].id = "v" + std::to_string(i);
    auto const many = pool().add(other);
    ASSERT_FALSE(many);
    EXPECT_NE(many.error().message.find("the limit is 64"), std::string::npos) << many.error().message;
    other.variants.resize(domain::kAdapterSetsMax);
    EXPECT_TRUE(pool().add(other));
    EXPECT_FALSE(pool().remove("one")) << "it goes with its base";
}

// A crash of the worker is one of all its names, and what only waited is replayed with its set.
TEST_F(PoolVariants, AReplayKeepsTheSet) {
    ASSERT_TRUE(pool().add(with_variants()));
    run([](PoolVariants& t) -> net::Task<void> {
        auto worker = co_await t.launcher.next();
        worker->ready();
        auto generation = t.ask("two");
        EXPECT_TRUE(generation);
        co_await t.set_of_next(*worker);
        worker->die("signal 11");
        auto next = co_await t.launcher.next();
        EXPECT_EQ(next->spec.variants.size(), 2U);
        next->ready();
        auto const set = co_await t.set_of_next(*next);
        EXPECT_EQ(set, 2U);
    }(*this));
}

// A file brings its own adapters, and takes over the names that the old one was the base of.
TEST_F(PoolVariants, ASwapChangesWhatIsTheFilesAndKeepsWhatIsTheNames) {
    auto old = with_variants();
    old.variants.push_back({"base", {{"/old.gguf", 1}}, nullptr});
    old.variants[0].bytes = 7;
    ASSERT_TRUE(pool().add(std::move(old)));
    run([](PoolVariants& t) -> net::Task<void> {
        auto worker = co_await t.launcher.next();
        worker->ready();
        auto file = spec("other");
        file.memory_bytes = 100;
        file.adapter_bytes = 3;
        file.variants = {{"other", {{"/new.gguf", 1}}, nullptr}};
        auto refused = co_await t.pool().swap("one", file, std::chrono::seconds(30));
        EXPECT_FALSE(refused);
        if (!refused) EXPECT_EQ(refused.error().code, Code::invalid_argument) << refused.error().message;
        t.loop.spawn([](PoolVariants& test, ModelSpec next) -> net::Task<void> {
            auto done = co_await test.pool().swap("base", std::move(next), std::chrono::seconds(30));
            EXPECT_TRUE(done) << done.error().message;
        }(t, file));
        auto incoming = co_await t.launcher.next();
        auto const& spec = incoming->spec;
        std::vector<std::string> names;
        for (auto const& each : spec.variants) names.push_back(each.id + " " + each.adapters.front().file);
        EXPECT_EQ(names, (std::vector<std::string>{"base /new.gguf", "one /1.gguf", "two /1.gguf"}));
        EXPECT_EQ(spec.adapter_bytes, 10U);
        EXPECT_EQ(spec.memory_bytes, 107U);
        incoming->ready();
        while (worker->exit_reason.empty()) co_await t.loop.sleep(std::chrono::milliseconds(1));
        EXPECT_TRUE(t.pool().status("two"));
    }(*this));
}

// --- models that join another one's worker ---

class PoolJoin : public PoolVariants {
public:
    // A model of the base's file with an adapter of its own.
    static ModelSpec created(std::string id, std::uint64_t bytes = 7) {
        auto out = spec(id);
        auto definition = std::make_shared<modelfile::Definition>();
        definition->system = "I am " + id;
        out.definition = definition;
        out.memory_bytes = 1000 + bytes;
        out.adapter_bytes = bytes;
        out.variants = {{id, {{"/" + id + ".gguf", 1}}, definition, bytes}};
        return out;
    }
    static ModelSpec base() {
        auto out = spec("base");
        out.memory_bytes = 1000;
        out.lazy = true;
        return out;
    }
    static net::Task<void> finish(testing::FakeWorker& worker, RequestId id, Generation& generation) {
        worker.event(id, Started{1, 0});
        worker.event(id, delta("x"));
        worker.event(id, choice_done());
        worker.event(id, Done{{1, 0, 1}, {}});
        for (;;) {
            auto const event = co_await generation.next();
            EXPECT_FALSE(is<domain::Failed>(event));
            if (domain::is_terminal(event)) co_return;
        }
    }
};

TEST_F(PoolJoin, OneWorkerServesAllAndItsMemoryCountsOnce) {
    ASSERT_TRUE(pool().add(base()));
    ASSERT_TRUE(pool().join("base", created("one")));
    ASSERT_TRUE(pool().join("base", created("two", 5)));
    run([](PoolJoin& t) -> net::Task<void> {
        std::vector<std::unique_ptr<Generation>> held;
        for (auto const* name : {"two", "base", "one"}) held.push_back(*t.ask(name));
        auto worker = co_await t.launcher.next();
        EXPECT_EQ(worker->spec.id, "base");
        EXPECT_EQ(worker->spec.variants.size(), 2U);
        EXPECT_EQ(worker->spec.variants[1].adapters.front().file, "/two.gguf");
        ReadyFrame ready;
        ready.info.memory_bytes = worker->spec.memory_bytes;
        worker->send(ready);
        for (auto const set : {2U, 0U, 1U}) {
            auto const got = co_await t.set_of_next(*worker);
            EXPECT_EQ(got, set);
        }
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
    auto const all = pool().models();
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0].memory_bytes, 1012U);
    EXPECT_EQ(all[0].adapter_bytes, 12U);
    EXPECT_EQ(all[1].id, "one");
    EXPECT_EQ(all[1].base, "base");
    EXPECT_EQ(all[1].definition->system, "I am one");
    EXPECT_EQ(all[1].memory_bytes, 0U);
    EXPECT_EQ(pool().memory().used_bytes, 1012U);
}

TEST_F(PoolJoin, AWorkerThatRunsEndsWhatItHasAndIsLoadedAgain) {
    ASSERT_TRUE(pool().add(base()));
    run([](PoolJoin& t) -> net::Task<void> {
        auto before = *t.ask("base");
        auto worker = co_await t.next_ready();
        auto const id = co_await t.submitted(*worker);
        worker->event(id, Started{1, 0});
        EXPECT_TRUE(t.pool().join("base", created("one")));
        auto with_adapter = *t.ask("one");
        auto without = *t.ask("base");
        co_await t.settle();
        EXPECT_EQ(worker->unread(), 0U) << "nothing new for a worker that drains";
        EXPECT_TRUE(worker->exit_reason.empty());
        worker->event(id, delta("x"));
        worker->event(id, choice_done());
        worker->event(id, Done{{1, 0, 1}, {}});
        auto next = co_await t.next_ready();
        EXPECT_EQ(next->spec.variants.size(), 1U);
        auto const first = co_await t.set_of_next(*next);
        auto const second = co_await t.set_of_next(*next);
        EXPECT_EQ(first, 1U);
        EXPECT_EQ(second, 0U);
        EXPECT_EQ(t.pool().status("base")->restarts, 0U) << "nothing went wrong";
    }(*this));
}

TEST_F(PoolJoin, AWorkerThatStartsWithoutItIsNeverGivenItsRequests) {
    ASSERT_TRUE(pool().add(base()));
    run([](PoolJoin& t) -> net::Task<void> {
        auto plain = *t.ask("base");
        auto worker = co_await t.launcher.next();
        EXPECT_TRUE(t.pool().join("base", created("one")));
        auto with_adapter = *t.ask("one");
        worker->ready();
        auto const id = co_await t.submitted(*worker);
        co_await t.settle();
        EXPECT_EQ(worker->unread(), 0U);
        co_await finish(*worker, id, *plain);
        auto next = co_await t.next_ready();
        auto const set = co_await t.set_of_next(*next);
        EXPECT_EQ(set, 1U);
    }(*this));
}

TEST_F(PoolJoin, WhoPartsLeavesTheOthersAsTheyAre) {
    ASSERT_TRUE(pool().add(base()));
    ASSERT_TRUE(pool().join("base", created("one")));
    ASSERT_TRUE(pool().join("base", created("two")));
    run([](PoolJoin& t) -> net::Task<void> {
        auto running = *t.ask("one");
        auto worker = co_await t.next_ready();
        auto const id = co_await t.submitted(*worker);
        EXPECT_TRUE(t.pool().remove("one"));
        EXPECT_FALSE(t.pool().status("one"));
        EXPECT_FALSE(t.ask("one"));
        EXPECT_EQ(t.pool().models().size(), 2U);
        auto two = *t.ask("two");
        auto const set = co_await t.set_of_next(*worker);
        EXPECT_EQ(set, 2U) << "sets keep their numbers";
        EXPECT_TRUE(worker->exit_reason.empty());
        co_await finish(*worker, id, *running);

        // Its file is gone: the next worker does without, and computes nothing of it.
        worker->die("signal 11");
        auto next = co_await t.next_ready();
        EXPECT_TRUE(next->spec.variants[0].gone);
        auto const again = co_await t.set_of_next(*next);
        EXPECT_EQ(again, 2U);
        EXPECT_EQ(t.launcher.launches, 2);
    }(*this));
    EXPECT_EQ(pool().status("base")->adapter_bytes, 7U);
}

TEST_F(PoolJoin, WhatWaitsForWhoPartsFails) {
    ASSERT_TRUE(pool().add(base()));
    ASSERT_TRUE(pool().join("base", created("one")));
    run([](PoolJoin& t) -> net::Task<void> {
        auto waiting = *t.ask("one");
        auto worker = co_await t.launcher.next();
        EXPECT_TRUE(t.pool().remove("one"));
        auto const event = co_await waiting->next();
        EXPECT_EQ(failure(event), Code::not_found);
        // One that was sent and is to be replayed has no adapter any more.
        EXPECT_TRUE(t.pool().join("base", created("one")));
        auto sent = *t.ask("one");
        worker->ready();
        auto next = co_await t.next_ready();
        co_await t.submitted(*next);
        EXPECT_TRUE(t.pool().remove("one"));
        next->die("signal 11");
        auto const end = co_await sent->next();
        EXPECT_EQ(failure(end), Code::not_found);
    }(*this));
}

TEST_F(PoolJoin, IsRefusedWhereOneWorkerWillNotDo) {
    options.memory_bytes = 1010;
    ASSERT_TRUE(pool().add(base()));
    auto larger = created("one");
    larger.context_request = 8192;
    EXPECT_EQ(pool().join("base", larger).error().code, Code::unsupported);
    EXPECT_EQ(pool().join("none", created("one")).error().code, Code::not_found);
    EXPECT_EQ(pool().join("base", created("one", 11)).error().code, Code::exhausted);
    auto other = created("one");
    other.variants[0].id = "another";
    EXPECT_EQ(pool().join("base", other).error().code, Code::unsupported) << "its adapters are not its own";
    EXPECT_TRUE(pool().join("base", created("one", 10)));
    EXPECT_EQ(pool().join("base", created("one", 0)).error().code, Code::invalid_argument);
}

TEST_F(PoolJoin, NoMoreThanThereMayBe) {
    ASSERT_TRUE(pool().add(base()));
    for (std::uint32_t i = 0; i < domain::kAdapterSetsMax; ++i)
        ASSERT_TRUE(pool().join("base", created("m" + std::to_string(i))));
    auto const one_more = pool().join("base", created("more"));
    ASSERT_FALSE(one_more);
    EXPECT_EQ(one_more.error().code, Code::exhausted);
    EXPECT_NE(one_more.error().message.find("64"), std::string::npos) << one_more.error().message;
    ASSERT_TRUE(pool().remove("m3"));
    EXPECT_TRUE(pool().join("base", created("more"))) << "nobody knew the set of the one that went";
}

TEST_F(PoolJoin, APinnedOneHoldsTheWorkerUntilItParts) {
    ASSERT_TRUE(pool().add(base()));
    auto pinned = created("one");
    pinned.pinned = true;
    ASSERT_TRUE(pool().join("base", pinned));
    EXPECT_TRUE(pool().status("base")->pinned);
    ASSERT_TRUE(pool().remove("one"));
    EXPECT_FALSE(pool().status("base")->pinned);
}

TEST_F(PoolJoin, ASwapIsOfTheBaseAndWhoJoinedDoesNotFollow) {
    ASSERT_TRUE(pool().add(base()));
    ASSERT_TRUE(pool().join("base", created("one")));
    run([](PoolJoin& t) -> net::Task<void> {
        t.loop.spawn([](PoolJoin& u) -> net::Task<void> {
            auto incoming = co_await u.launcher.next();
            incoming->ready();
            while (incoming->exit_reason.empty()) co_await u.loop.sleep(1ms);
        }(t));
        auto const swapped = co_await t.pool().swap("base", created("other"), 30s);
        EXPECT_TRUE(swapped) << (swapped ? "" : swapped.error().message);
        EXPECT_FALSE(t.pool().status("one"));
        auto const now = t.pool().status("base");
        EXPECT_EQ(now->adapters.size(), 1U) << "the new one's own adapter is on top";
        EXPECT_EQ(t.pool().models().size(), 1U);
    }(*this));
}

// --- and those that have no adapters ---

class PoolJoinPlain : public PoolJoin {
public:
    static ModelSpec named(std::string id) {
        auto out = created(std::move(id), 0);
        out.variants.clear();
        return out;
    }
};

TEST_F(PoolJoinPlain, AWorkerThatRunsServesItAtOnce) {
    ASSERT_TRUE(pool().add(base()));
    run([](PoolJoinPlain& t) -> net::Task<void> {
        auto before = *t.ask("base");
        auto worker = co_await t.next_ready();
        auto const id = co_await t.submitted(*worker);
        EXPECT_TRUE(t.pool().join("base", named("helper")));
        auto running = *t.ask("helper");
        auto const set = co_await t.set_of_next(*worker);
        EXPECT_EQ(set, 0U) << "no set of adapters, so that prefixes are shared as well";
        auto const status = t.pool().status("helper");
        EXPECT_EQ(status->base, "base");
        EXPECT_EQ(status->definition->system, "I am helper");
        EXPECT_TRUE(status->adapters.empty());
        EXPECT_EQ(t.pool().status("base")->definition, nullptr);

        // What it has inside when it goes ends as it began.
        EXPECT_TRUE(t.pool().remove("helper"));
        EXPECT_FALSE(t.ask("helper"));
        co_await finish(*worker, running->id(), *running);
        co_await finish(*worker, id, *before);
        EXPECT_EQ(t.launcher.launches, 1);
    }(*this));
}

TEST_F(PoolJoinPlain, TheLastOneAskedForSaysHowLongTheWorkerStays) {
    ASSERT_TRUE(pool().add(base()));
    auto brief = named("brief");
    brief.keep_alive = 5min;
    ASSERT_TRUE(pool().join("base", brief));
    run([](PoolJoinPlain& t) -> net::Task<void> {
        auto first = *t.ask("brief");
        auto worker = co_await t.next_ready();
        co_await answer(*worker, *first);
        EXPECT_EQ(t.pool().status("base")->keep_alive, Duration(5min));
        auto second = *t.ask("base");
        co_await answer(*worker, *second);
        EXPECT_EQ(t.pool().status("base")->keep_alive, std::nullopt) << "for ever, as it was added";
        auto wanted = request();
        wanted.model = "brief";
        wanted.keep_alive = 1h;
        auto third = t.pool().submit(wanted);
        EXPECT_TRUE(third);
        EXPECT_EQ(t.pool().status("base")->keep_alive, Duration(1h)) << "the request knows better";
    }(*this));
}

TEST_F(PoolJoinPlain, WhatWaitsWhenItGoesIsAnswered) {
    ASSERT_TRUE(pool().add(base()));
    ASSERT_TRUE(pool().join("base", named("helper")));
    run([](PoolJoinPlain& t) -> net::Task<void> {
        auto waiting = *t.ask("helper");
        EXPECT_TRUE(t.pool().remove("helper"));
        auto worker = co_await t.next_ready();
        co_await answer(*worker, *waiting);
    }(*this));
}

TEST_F(PoolJoinPlain, PlacesAreUsedAgainWhileTheWorkerRuns) {
    ASSERT_TRUE(pool().add(base()));
    run([](PoolJoinPlain& t) -> net::Task<void> {
        EXPECT_TRUE(t.pool().join("base", created("one")));
        auto generation = *t.ask("one");
        auto worker = co_await t.next_ready();
        auto const set = co_await t.set_of_next(*worker);
        EXPECT_EQ(set, 1U);
        for (std::uint32_t i = 0; i <= domain::kAdapterSetsMax; ++i) {
            EXPECT_TRUE(t.pool().join("base", named("helper")));
            EXPECT_TRUE(t.pool().remove("helper"));
        }
        // The place of one with adapters is not: the worker knows that number.
        EXPECT_TRUE(t.pool().remove("one"));
        EXPECT_TRUE(t.pool().join("base", named("helper")));
        EXPECT_TRUE(t.pool().join("base", named("other")));
        auto plain = *t.ask("other");
        auto const none = co_await t.set_of_next(*worker);
        EXPECT_EQ(none, 0U);
        worker->die("signal 11");
        auto next = co_await t.next_ready();
        EXPECT_TRUE(next->spec.variants.front().gone);
        EXPECT_EQ(next->spec.variants.size(), 3U);
    }(*this));
}

TEST_F(PoolJoinPlain, ASwapGivesItAWorkerOfItsOwn) {
    ASSERT_TRUE(pool().add(base()));
    auto pinned = named("helper");
    pinned.pinned = true;
    ASSERT_TRUE(pool().join("base", pinned));
    ASSERT_TRUE(pool().join("base", created("one")));
    run([](PoolJoinPlain& t) -> net::Task<void> {
        auto running = *t.ask("helper");
        auto worker = co_await t.next_ready();
        auto const id = co_await t.submitted(*worker);
        for (auto const* name : {"helper", "one"}) {
            t.loop.spawn([](PoolJoinPlain& u) -> net::Task<void> {
                auto incoming = co_await u.launcher.next();
                incoming->ready();
                while (incoming->exit_reason.empty()) co_await u.loop.sleep(1ms);
            }(t));
            auto const swapped = co_await t.pool().swap(name, spec("other"), 30s);
            EXPECT_TRUE(swapped) << (swapped ? "" : swapped.error().message);
            auto const now = t.pool().status(name);
            EXPECT_TRUE(now->base.empty() && now->adapters.empty());
            EXPECT_EQ(now->path, "other.gguf");
            EXPECT_EQ(now->pinned, name == std::string_view("helper"));
        }
        EXPECT_EQ(t.pool().models().size(), 3U);
        EXPECT_FALSE(t.pool().status("base")->pinned);
        co_await finish(*worker, id, *running);
        EXPECT_TRUE(worker->exit_reason.empty()) << "its base stays";
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
