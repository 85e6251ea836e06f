// Requests that are given up at any moment, by the hundred thousand: in the end
// nothing is held for any of them.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "base/sanitized.h"
#include "engine/testing/driver.h"
#include "testing/memory_folder.h"

namespace hearth::engine {
namespace {

using kvstore::testing::MemoryFolder;
using testing::prompt_of;

constexpr std::uint64_t kAborts = kSanitized ? 6000 : 102'000;  // of all storms
constexpr std::uint64_t kAbortsEach = kAborts / 3;
constexpr unsigned kThreads = 3;
constexpr std::size_t kOpenEach = 10;  // requests a thread has inside
constexpr std::uint32_t kContext = 300;
constexpr std::uint32_t kChoices = 4;

llama::ScriptedOptions talking(std::uint32_t cells) {
    llama::ScriptedOptions options;
    options.pieces = {"a", "b", "c"};
    options.repeat = true;
    options.kv_cells = cells;
    options.context_request = kContext;
    options.sequences_max = 8;
    options.sequences_kept = 8;
    return options;
}

// Counts how requests end, and that each does once.
class Watch {
public:
    Sink sink() {
        return [this](std::span<StepEvent> events) {
            std::scoped_lock const lock(mutex_);
            for (auto const& event : events) add(event);
        };
    }
    void expect(RequestId id) {
        std::scoped_lock const lock(mutex_);
        open_[id] = false;
    }
    // It was not taken in after all.
    void forget(RequestId id) {
        std::scoped_lock const lock(mutex_);
        open_.erase(id);
    }
    [[nodiscard]] std::uint64_t aborted() const { return aborted_.load(); }
    [[nodiscard]] std::uint64_t completed() const { return completed_.load(); }
    [[nodiscard]] std::size_t open() {
        std::scoped_lock const lock(mutex_);
        return open_.size();
    }

private:
    void add(StepEvent const& event) {
        auto const found = open_.find(event.request);
        ASSERT_NE(found, open_.end()) << "an event of request " << event.request << ", which ended or never was";
        if (auto const* choice = std::get_if<domain::ChoiceDone>(&event.event))
            found->second = found->second || choice->reason == domain::FinishReason::cancelled;
        EXPECT_FALSE(std::holds_alternative<domain::Failed>(event.event));
        if (!domain::is_terminal(event.event)) return;
        ++(found->second ? aborted_ : completed_);
        open_.erase(found);
    }

    std::mutex mutex_;
    std::map<RequestId, bool> open_;  // and whether a choice of it was cancelled
    std::atomic<std::uint64_t> aborted_ = 0, completed_ = 0;
};

// Prompts that begin alike within a tenant, of any length; several choices; some end by themselves.
domain::GenerateRequest random_request(std::mt19937& random) {
    auto request = prompt_of(1 + random() % 200);
    auto& tokens = std::get<domain::TokenPrompt>(request.prompt).tokens;
    auto const own = random() % tokens.size();
    std::fill(tokens.begin() + static_cast<std::ptrdiff_t>(own), tokens.end(),
              static_cast<domain::Token>('a' + random() % 26));
    request.choices = random() % 4 == 0 ? kChoices : 1;
    request.priority = static_cast<domain::Priority>(random() % domain::kPriorityCount);
    request.tenant = random() % 2 == 0 ? "even" : "odd";
    request.cache_prompt = random() % 8 != 0;
    if (random() % 16 == 0) request.max_tokens = 1 + random() % 20;
    return request;
}

// One thread's part: at every turn another request comes or one of its own is given up.
void storm(Engine& engine, Watch& watch, unsigned thread) {
    std::mt19937 random(thread);
    std::vector<RequestId> mine;
    for (RequestId next = 1; watch.aborted() < kAbortsEach; ++next) {
        RequestId const id = next * kThreads + thread;
        watch.expect(id);
        if (engine.submit(id, random_request(random))) mine.push_back(id);
        else watch.forget(id);
        if (random() % 4 == 0) engine.grant(mine.empty() ? id : mine[random() % mine.size()], 200);
        if (random() % 8 == 0) std::this_thread::yield();
        for (std::atomic<unsigned> pause = random() % 2000; pause > 0;) --pause;
        while (mine.size() > random() % kOpenEach) {
            auto const at = mine.begin() + static_cast<std::ptrdiff_t>(random() % mine.size());
            engine.cancel(*at);
            mine.erase(at);
        }
    }
    for (RequestId const id : mine) engine.cancel(id);
}

// As many choices as there are slots, in all cells: it gets to its end only when nobody else holds anything.
void expect_room_for_one_that_needs_all(Engine& engine, Watch& watch) {
    auto const& properties = engine.backend().properties();
    std::uint32_t const cells = std::min(properties.kv_cells, kContext);
    auto const before = watch.completed();
    auto request = prompt_of(cells - 2);
    request.cache_prompt = false;
    request.choices = properties.info.sequences_max;
    watch.expect(1'000'000'000);
    ASSERT_TRUE(engine.submit(1'000'000'000, request));
    engine.grant(1'000'000'000, 1000);
    auto const give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (watch.completed() == before && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    EXPECT_EQ(watch.completed(), before + 1);
}

void play(llama::ScriptedOptions scripted, Options options) {
    SteadyClock const clock;
    Watch watch;
    options.credit = 12;
    options.requests_max = 2 * kThreads * kOpenEach;
    auto backend = llama::make_scripted(std::move(scripted));
    auto const& books = *backend;
    auto const tiers = options.tiers;
    auto created = Engine::create(std::move(backend), options, clock, watch.sink());
    ASSERT_TRUE(created);
    auto const engine = std::move(created).value();
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < kThreads; ++thread)
        threads.emplace_back([&, thread] { storm(*engine, watch, thread); });
    for (auto& thread : threads) thread.join();
    auto const give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (watch.open() > 0 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    EXPECT_EQ(watch.open(), 0U);
    EXPECT_GE(watch.aborted(), kAbortsEach);
    expect_room_for_one_that_needs_all(*engine, watch);
    engine->close();

    auto const stats = engine->stats();
    EXPECT_EQ(stats.running + stats.waiting + stats.swapped, 0U);
    EXPECT_EQ(stats.kv_used, stats.kv_cached) << "cells belong to kept prefixes alone";
    EXPECT_EQ(stats.kv_used, books.cells_used()) << "and the backend agrees";
    if (!options.prefix_cache) EXPECT_EQ(books.sequences_used(), 0U);
    if (stats.kv_used == 0) EXPECT_EQ(books.sequences_used(), 0U);
    EXPECT_LE(stats.tier_memory_bytes, std::max(tiers.memory_bytes, tiers.folder ? kvstore::kWriteBufferBytes : 0));
    EXPECT_LE(stats.tier_disk_bytes, tiers.disk_bytes);
    ::testing::Test::RecordProperty("aborted", static_cast<int>(watch.aborted()));
    ::testing::Test::RecordProperty("preemptions", static_cast<int>(stats.preemptions_total));
}

TEST(engine_aborts, leave_nothing_behind) { play(talking(600), {.prompt_tokens = 64, .prefix_cache = false}); }

TEST(engine_aborts, leave_nothing_behind_where_prefixes_go_to_memory_and_disk) {
    Options options{.prompt_tokens = 64};
    options.tiers.memory_bytes = 1U << 20;
    options.tiers.disk_bytes = 1U << 20;
    options.tiers.folder = std::make_shared<MemoryFolder>();
    play(talking(900), std::move(options));
}

TEST(engine_aborts, leave_nothing_behind_where_prefixes_need_checkpoints) {
    auto scripted = talking(900);
    scripted.needs_checkpoints = true;
    play(std::move(scripted), {.prompt_tokens = 64, .checkpoint_bytes_max = 1U << 16});
}

// A backend that stops in one decode, so that a cancel comes while it computes.
struct Halted {
    static constexpr std::size_t kAt = 3;

    Halted(std::size_t prompt, std::uint32_t prompt_tokens) {
        auto made = std::make_unique<testing::RecordingBackend>(talking(8192));
        backend = made.get();
        backend->on_decode = [this](std::span<llama::BatchEntry const>) {
            if (backend->batches.size() + 1 != kAt) return ok();
            reached.count_down();
            go_on.wait();
            return ok();
        };
        Options options;
        options.prompt_tokens = prompt_tokens;
        options.speculation = false;
        engine = Engine::create(std::move(made), options, clock, watch.sink()).value();
        watch.expect(1);
        EXPECT_TRUE(engine->submit(1, prompt_of(prompt)));
        reached.wait();
    }

    // Batches in which the request was computed, until its end.
    std::size_t computed_after_cancel() {
        engine->cancel(1);
        go_on.count_down();
        auto const give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (watch.aborted() == 0 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
        engine->close();
        EXPECT_EQ(watch.aborted(), 1U);
        return backend->batches.size();
    }

    SteadyClock clock;
    Watch watch;
    testing::RecordingBackend* backend = nullptr;
    std::latch reached{1}, go_on{1};
    std::unique_ptr<Engine> engine;  // last: its thread uses all of the above
};

TEST(engine_aborts, a_prompt_is_computed_no_further_than_the_step_the_cancel_came_in) {
    Halted run(280, 16);
    EXPECT_EQ(run.computed_after_cancel(), Halted::kAt) << "of 18 chunks";
}

TEST(engine_aborts, an_answer_goes_no_further_than_the_step_the_cancel_came_in) {
    Halted run(5, 64);
    EXPECT_EQ(run.computed_after_cancel(), Halted::kAt) << "the prompt and two tokens";
}

}  // namespace
}  // namespace hearth::engine
