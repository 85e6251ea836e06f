// The budget holds at every moment, and everybody is answered: by seed, requests, swaps, pressure and unloads over
// workers that take their time, are parked, crash and cannot be loaded, of models with one and with two of them. What
// counts is what is alive, not what the pool says of itself.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
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
constexpr std::uint64_t kParkedBytesMax = 4;

class PoolBudget : public testing::PoolFixture, public ::testing::WithParamInterface<std::uint64_t> {
public:
    PoolBudget() : random(GetParam()) {
        options.memory_bytes = kBudget;
        options.parked_max = 2;
        options.replays_waiting_max = 1000;  // who only waits when others crash is answered in the end
        options.retry_min = options.retry_max = 1ms;
        launcher.on_launch = [this](FakeWorker& worker) {
            if (below(8) > 0) worker.keeps = worker.spec.process_bytes;
            launched.push_back(&worker);
            EXPECT_LE(alive_bytes(), kBudget) << "seed " << GetParam() << ", " << worker.spec.path;
        };
    }

    std::uint64_t below(std::uint64_t limit) { return random() % limit; }
    std::string any_name() { return "m" + std::to_string(below(kModels)); }
    // The models with an odd number have two workers.
    static std::uint32_t instances_of(std::string const& name) { return name.back() % 2 == 0 ? 1 : 2; }
    ModelSpec made(std::string const& name, std::string path) {
        auto out = spec(name);
        out.path = std::move(path);
        out.lazy = true;
        out.instances = instances_of(name);
        out.memory_bytes = 1 + below(kCostMax / out.instances);
        out.process_bytes = 1 + below(kParkedBytesMax);
        return out;
    }

    static bool is_parked(FakeWorker const& worker) { return worker.keeps && worker.parks > worker.wakes; }
    static std::uint64_t alive_bytes_of(FakeWorker const& worker) {
        if (!worker.exit_reason.empty()) return 0;
        return is_parked(worker) ? worker.keeps.value_or(0) : worker.spec.memory_bytes;
    }
    [[nodiscard]] std::uint64_t alive_bytes() const {
        std::uint64_t sum = 0;
        for (auto const* worker : launched) sum += alive_bytes_of(*worker);
        return sum;
    }

    net::Task<void> pause() {
        for (auto turns = below(12); turns > 0; --turns) co_await loop.sleep(Duration::zero());
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
        // One of two, and once: who has no worker that can be loaded answers nobody.
        bool const alone = instances_of(worker->spec.id) == 1;
        if (!alone && below(4) == 0 && failed.insert(worker->spec.id + worker->spec.path).second) {
            worker->send(LoadFailedFrame{Error(Code::exhausted, "failed to allocate")});
            worker->die("exit status 1");
            co_return;
        }
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
            if (below(8) == 0) {
                worker->die("signal 11 (Segmentation fault)");
                co_return;
            }
            worker->event(id, domain::Started{1, 0});
            worker->event(id, delta("x"));
            worker->event(id, choice_done());
            worker->event(id, domain::Done{{1, 0, 1}, {}});
        }
    }

    net::Task<void> ask(std::string name) {
        auto wanted = request();
        wanted.model = name;
        auto const generation = submit(std::move(wanted));
        for (bool over = generation == nullptr; !over;) {
            auto const event = co_await generation->next();
            over = domain::is_terminal(event);
            // But for those that waited in the one that could not be loaded.
            auto const* error = std::get_if<domain::Failed>(&event);
            bool const excused = error != nullptr && error->error.code == Code::unavailable && instances_of(name) > 1;
            EXPECT_TRUE(error == nullptr || excused) << "seed " << GetParam() << ", " << error->error.message;
        }
        ++answered;
        --inside;
    }
    net::Task<void> swap(std::string name, ModelSpec next) {
        auto const done = co_await pool().swap(std::move(name), std::move(next), 20s);
        auto const code = done ? Code::exhausted : done.error().code;
        bool const crashed = code == Code::unavailable;  // or it could not be loaded
        EXPECT_TRUE(code == Code::exhausted || code == Code::overloaded || crashed) << done.error().message;
        swapped += done ? 1 : 0;
        --swaps;
    }

    void swap_any() {
        auto name = any_name();
        auto next = made(name, "next" + std::to_string(++files) + ".gguf");
        ++swaps;
        loop.spawn(swap(std::move(name), std::move(next)));
    }
    void kill_a_parked_one() {
        auto const found = std::ranges::find_if(
            kept, [](auto const& worker) { return worker->exit_reason.empty() && is_parked(*worker); });
        if (found != kept.end()) (*found)->die("signal 9 (Killed)");
    }

    void act() {
        auto const chance = below(32);
        if (chance < 4) return swap_any();
        if (chance < 5) return pool().relieve(Pressure::high);
        if (chance < 8) return pool().relieve(Pressure::none);
        if (chance < 11) return static_cast<void>(pool().unload(any_name()));
        if (chance < 12) return kill_a_parked_one();
        if (inside == kInsideMax) return;
        ++inside;
        ++asked;
        loop.spawn(ask(any_name()));
    }

    std::mt19937_64 random;
    std::vector<FakeWorker const*> launched;
    std::vector<std::shared_ptr<FakeWorker>> kept;
    std::set<std::string> failed;  // who was not loaded once
    int inside = 0, asked = 0, answered = 0, swaps = 0, swapped = 0, files = 0;
};

TEST_P(PoolBudget, HoldsWhateverIsAskedSwappedAndLetGo) {
    run([](PoolBudget& t) -> net::Task<void> {
        for (std::uint64_t i = 0; i < kModels; ++i) {
            auto const name = "m" + std::to_string(i);
            EXPECT_TRUE(t.pool().add(t.made(name, "first.gguf")));
        }
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
