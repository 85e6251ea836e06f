// Models that are added and removed while the pool serves.
#include <algorithm>
#include <deque>
#include <random>

#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using domain::Done;
using domain::Started;
using testing::FakeWorker;

class PoolRemoval : public testing::PoolFixture {
public:
    std::unique_ptr<Generation> ask(std::string model) {
        auto wanted = request();
        wanted.model = std::move(model);
        auto generation = pool().submit(wanted);
        return generation ? *std::move(generation) : nullptr;
    }
    net::Task<void> until_gone(std::string id) {
        while (pool().status(id)) co_await loop.sleep(1ms);
    }
    static net::Task<domain::Event> end_of(Generation& generation) {
        for (;;) {
            auto event = co_await generation.next();
            if (domain::is_terminal(event)) co_return event;
        }
    }
    void finish(FakeWorker& worker, RequestId id) {
        worker.event(id, Started{1, 0});
        worker.event(id, delta("x"));
        worker.event(id, choice_done());
        worker.event(id, Done{{1, 0, 1}, {}});
    }
    // Gets ready at once and answers every request with one token, until it is closed.
    net::Task<void> play(std::shared_ptr<FakeWorker> worker) {
        worker->ready();
        for (;;) {
            auto const frame = co_await worker->next();
            if (auto const* submit = std::get_if<SubmitFrame>(&frame)) finish(*worker, submit->id);
            if (std::holds_alternative<CloseFrame>(frame)) co_return;
        }
    }
    net::Task<void> play_all() {
        for (;;) {
            auto worker = co_await launcher.next();
            loop.spawn(play(std::move(worker)));
        }
    }
    bool counts(std::string const& model) {
        return metrics.render().find("model=\"" + model + "\"") != std::string::npos;
    }
};

TEST_F(PoolRemoval, LetsWhatRunsEndAndForgetsTheModelThen) {
    run([](PoolRemoval& t) -> net::Task<void> {
        auto worker = co_await t.ready_worker();
        auto running = t.ask("m");
        auto const id = co_await t.submitted(*worker);
        EXPECT_TRUE(t.pool().remove("m"));
        EXPECT_TRUE(t.pool().remove("m")) << "again";
        EXPECT_TRUE(t.pool().status("m")->removing);
        EXPECT_EQ(t.pool().submit(t.request()).error().code, Code::not_found);
        EXPECT_EQ(t.pool().warm("m", std::nullopt).error().message, "model 'm' is being removed");
        EXPECT_EQ(t.pool().add(t.spec("m")).error().code, Code::invalid_argument) << "its name is taken";
        EXPECT_TRUE(t.pool().ready()) << "nobody waits for it";
        EXPECT_TRUE(t.counts("m"));

        t.finish(*worker, id);
        auto const end = co_await t.end_of(*running);
        EXPECT_TRUE(t.is<Done>(end));
        co_await t.until_gone("m");
        EXPECT_FALSE(worker->exit_reason.empty());
        EXPECT_FALSE(t.counts("m"));
        running.reset();

        EXPECT_TRUE(t.pool().add(t.spec("m"))) << "its name is free";
        EXPECT_TRUE(t.counts("m"));
    }(*this));
}

TEST_F(PoolRemoval, IsRefusedForWhatIsNotThere) {
    run([](PoolRemoval& t) -> net::Task<void> {
        auto model = t.spec("m");
        model.aliases = {"short"};
        EXPECT_TRUE(t.pool().add(model));
        EXPECT_EQ(t.pool().remove("").error().code, Code::invalid_argument);
        EXPECT_EQ(t.pool().remove("none").error().code, Code::not_found);
        EXPECT_EQ(t.pool().remove("short").error().code, Code::not_found) << "an alias";
        co_return;
    }(*this));
}

TEST_F(PoolRemoval, WorksInEveryState) {
    run([](PoolRemoval& t) -> net::Task<void> {
        auto lazy = t.spec("cold");
        lazy.lazy = true;
        EXPECT_TRUE(t.pool().add(lazy));
        EXPECT_TRUE(t.pool().remove("cold"));
        co_await t.until_gone("cold");

        EXPECT_TRUE(t.pool().add(t.spec("bad")));
        auto bad = co_await t.launcher.next();
        bad->send(LoadFailedFrame{Error(Code::corrupt, "no model")});
        while (t.pool().status("bad")->state != ModelState::failed) co_await t.loop.sleep(1ms);
        EXPECT_TRUE(t.pool().remove("bad"));
        co_await t.until_gone("bad");

        // One that loads: who waits for it gets an answer first.
        EXPECT_TRUE(t.pool().add(t.spec("slow")));
        auto waiting = t.ask("slow");
        auto slow = co_await t.launcher.next();
        EXPECT_TRUE(t.pool().remove("slow"));
        co_await t.settle();
        EXPECT_TRUE(t.pool().status("slow"));
        slow->ready();
        auto const id = co_await t.submitted(*slow);
        t.finish(*slow, id);
        auto const end = co_await t.end_of(*waiting);
        EXPECT_TRUE(t.is<Done>(end));
        co_await t.until_gone("slow");
        EXPECT_TRUE(t.pool().models().empty());
    }(*this));
}

TEST_F(PoolRemoval, TheFirstThatStaysIsTheDefault) {
    run([](PoolRemoval& t) -> net::Task<void> {
        for (auto const* id : {"a", "b"}) {
            auto model = t.spec(id);
            model.lazy = true;
            EXPECT_TRUE(t.pool().add(model));
        }
        auto held = t.ask("a");
        EXPECT_TRUE(t.pool().remove("a"));
        EXPECT_EQ(t.pool().status("")->id, "b");
        held->cancel();
        co_await t.until_gone("a");
    }(*this));
}

// Whatever the order: every request that was admitted ends well, what was removed
// goes, and only models that are there are counted.
TEST_F(PoolRemoval, AnyOrderOfAddingAskingAndRemoving) {
    run([](PoolRemoval& t) -> net::Task<void> {
        t.loop.spawn(t.play_all());
        std::mt19937_64 random(11);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same in every run
        std::deque<std::unique_ptr<Generation>> inside;
        std::uint32_t answered = 0, refused = 0;
        for (int step = 0; step < 2000; ++step) {
            auto const id = std::string(1, static_cast<char>('a' + random() % 5));
            auto const before = t.pool().status(id);
            bool const there = before && !before->removing;
            switch (random() % 4) {
                case 0: {
                    auto model = t.spec(id);
                    model.lazy = random() % 2 == 0;
                    EXPECT_EQ(t.pool().add(model).has_value(), !before);
                    break;
                }
                case 1: EXPECT_EQ(t.pool().remove(id).has_value(), before.has_value()); break;
                case 2:
                    inside.push_back(t.ask(id));
                    EXPECT_EQ(inside.back() != nullptr, there);
                    if (!there) {
                        inside.pop_back();
                        ++refused;
                    }
                    break;
                default: co_await t.loop.sleep(random() % 3 == 0 ? Duration(2ms) : Duration::zero()); break;
            }
            if (inside.size() > 20) {
                auto const end = co_await t.end_of(*inside.front());
                EXPECT_TRUE(t.is<Done>(end));
                inside.pop_front();
                ++answered;
            }
        }
        for (auto& generation : inside) {
            auto const end = co_await t.end_of(*generation);
            EXPECT_TRUE(t.is<Done>(end));
        }
        EXPECT_GT(answered, 50U);
        EXPECT_GT(refused, 10U);
        for (auto const& model : t.pool().models()) EXPECT_TRUE(t.pool().remove(model.id));
        while (!t.pool().models().empty()) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.metrics.render().find("model=\""), std::string::npos);
    }(*this));
}

}  // namespace
}  // namespace hearth::serving
