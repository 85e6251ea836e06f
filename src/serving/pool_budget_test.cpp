// The budget holds at every moment: by seed, requests, swaps, pressure and unloads over workers that take their
// time. What counts is what is alive, not what the pool says of itself.
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "serving/testing/pool_fixture.h"

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;
using testing::FakeWorker;

constexpr std::uint64_t kBudget = 100;
constexpr std::uint64_t kModels = 5;
constexpr std::uint64_t kCostMax = 60;
constexpr int kTurns = 400;
constexpr int kInsideMax = 20;

class PoolBudget : public testing::PoolFixture, public ::testing::WithParamInterface<std::uint64_t> {
public:
    PoolBudget() : random(GetParam()) {
        options.memory_bytes = kBudget;
        launcher.on_launch = [this](FakeWorker& worker) {
            launched.push_back(&worker);
            EXPECT_LE(alive_bytes(), kBudget) << "seed " << GetParam() << ", " << worker.spec.path;
        };
    }

    std::uint64_t below(std::uint64_t limit) { return random() % limit; }
    std::string any_name() { return "m" + std::to_string(below(kModels)); }
    ModelSpec made(std::string id, std::string path) {
        auto out = spec(std::move(id));
        out.path = std::move(path);
        out.lazy = true;
        out.memory_bytes = 1 + below(kCostMax);
        return out;
    }

    [[nodiscard]] std::uint64_t alive_bytes() const {
        std::uint64_t sum = 0;
        for (auto const* worker : launched) sum += worker->exit_reason.empty() ? worker->spec.memory_bytes : 0;
        return sum;
    }

    net::Task<void> pause() {
        for (auto turns = below(6); turns > 0; --turns) co_await loop.sleep(Duration::zero());
    }

    // Workers that were launched are kept: what is pointed to stays.
    net::Task<void> hire() {
        for (;;) {
            auto worker = co_await launcher.next();
            kept.push_back(worker);
            loop.spawn(work(std::move(worker)));
        }
    }
    net::Task<void> work(std::shared_ptr<FakeWorker> worker) {
        co_await pause();
        ReadyFrame ready;
        ready.info.memory_bytes = worker->spec.memory_bytes;
        worker->send(ready);
        for (;;) {
            auto const frame = co_await worker->next();
            if (std::holds_alternative<CloseFrame>(frame)) co_return;
            auto const* submit = std::get_if<SubmitFrame>(&frame);
            if (submit == nullptr) continue;
            auto const id = submit->id;
            co_await pause();
            worker->event(id, domain::Started{1, 0});
            worker->event(id, delta("x"));
            worker->event(id, choice_done());
            worker->event(id, domain::Done{{1, 0, 1}, {}});
        }
    }

    net::Task<void> ask(std::string name) {
        auto wanted = request();
        wanted.model = std::move(name);
        auto const generation = submit(std::move(wanted));
        for (bool over = generation == nullptr; !over;) {
            auto const event = co_await generation->next();
            EXPECT_FALSE(is<domain::Failed>(event)) << "seed " << GetParam();
            over = domain::is_terminal(event);
        }
        ++answered;
        --inside;
    }
    net::Task<void> swap(std::string name, ModelSpec next) {
        auto const done = co_await pool().swap(std::move(name), std::move(next), 20s);
        auto const code = done ? Code::exhausted : done.error().code;
        EXPECT_TRUE(code == Code::exhausted || code == Code::overloaded) << done.error().message;
        swapped += done ? 1 : 0;
        --swaps;
    }

    void act() {
        switch (below(8)) {
            case 0:
                ++swaps;
                loop.spawn(swap(any_name(), made("", "next" + std::to_string(answered) + ".gguf")));
                break;
            case 1: pool().relieve(below(2) == 0 ? Pressure::high : Pressure::none); break;
            case 2: static_cast<void>(pool().unload(any_name())); break;
            default:
                if (inside == kInsideMax) break;
                ++inside;
                ++asked;
                loop.spawn(ask(any_name()));
        }
    }

    std::mt19937_64 random;
    std::vector<FakeWorker const*> launched;
    std::vector<std::shared_ptr<FakeWorker>> kept;
    int inside = 0, asked = 0, answered = 0, swaps = 0, swapped = 0;
};

TEST_P(PoolBudget, HoldsWhateverIsAskedSwappedAndLetGo) {
    run([](PoolBudget& t) -> net::Task<void> {
        for (std::uint64_t i = 0; i < kModels; ++i)
            EXPECT_TRUE(t.pool().add(t.made("m" + std::to_string(i), "first.gguf")));
        t.loop.spawn(t.hire());
        for (int turn = 0; turn < kTurns; ++turn) {
            t.act();
            co_await t.loop.sleep(Duration::zero());
            EXPECT_LE(t.pool().memory().used_bytes, kBudget) << "seed " << GetParam() << ", turn " << turn;
        }
        t.pool().relieve(Pressure::none);
        while (t.inside > 0 || t.swaps > 0) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.answered, t.asked) << "everybody is answered";
        EXPECT_GT(t.swapped, 0);
        EXPECT_GT(t.kept.size(), kModels) << "models came and went";
        co_await t.pool().stop(1s);
    }(*this));
}

INSTANTIATE_TEST_SUITE_P(Seeds, PoolBudget, ::testing::Range(std::uint64_t{1}, std::uint64_t{41}));

}  // namespace
}  // namespace hearth::serving
