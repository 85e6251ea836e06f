#include "engine/engine.h"

#include <atomic>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using domain::FinishReason;
using testing::prompt_of;
using testing::Transcript;

// A sink that keeps transcripts and lets a test wait for them.
class Listener {
public:
    Sink sink() {
        return [this](std::span<StepEvent> events) {
            EXPECT_FALSE(events.empty());
            std::scoped_lock const lock(mutex_);
            for (auto const& event : events) transcripts_[event.request].add(event.event);
            ++calls_;
            changed_.notify_all();
        };
    }

    // REQUIRES: the request ends by itself
    Transcript wait_for_end(RequestId id) {
        return wait(id, [](Transcript const& t) { return t.ended(); });
    }
    Transcript wait_for_tokens(RequestId id, std::uint32_t tokens) {
        return wait(id, [tokens](Transcript const& t) { return t.tokens() >= tokens; });
    }
    Transcript of(RequestId id) {
        std::scoped_lock const lock(mutex_);
        return transcripts_[id];
    }
    std::uint64_t calls() {
        std::scoped_lock const lock(mutex_);
        return calls_;
    }
    std::size_t ended() {
        std::scoped_lock const lock(mutex_);
        return static_cast<std::size_t>(
            std::count_if(transcripts_.begin(), transcripts_.end(), [](auto const& t) { return t.second.ended(); }));
    }

private:
    template <typename Predicate>
    Transcript wait(RequestId id, Predicate predicate) {
        std::unique_lock lock(mutex_);
        bool const came =
            changed_.wait_for(lock, std::chrono::seconds(60), [&] { return predicate(transcripts_[id]); });
        EXPECT_TRUE(came) << "request " << id << " did not get there";
        return transcripts_[id];
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<RequestId, Transcript> transcripts_;
    std::uint64_t calls_ = 0;
};

llama::ScriptedOptions repeating() {
    llama::ScriptedOptions options;
    options.pieces = {"a", "b"};
    options.repeat = true;
    return options;
}

domain::GenerateRequest limited(std::uint32_t max_tokens) {
    auto request = prompt_of(5);
    request.max_tokens = max_tokens;
    return request;
}

struct Fixture : ::testing::Test {
    SteadyClock clock;
    Listener listener;

    std::unique_ptr<Engine> start(llama::ScriptedOptions scripted = repeating(), Options options = {}) {
        auto engine = Engine::create(llama::make_scripted(std::move(scripted)), options, clock, listener.sink());
        EXPECT_TRUE(engine.has_value());
        return std::move(engine).value();
    }
};

using engine = Fixture;

TEST(prompt_chunk, follows_the_models_size_and_the_threads_only) {
    auto const chunk = [](std::uint64_t parameters, std::uint32_t threads) {
        domain::ModelInfo info;
        info.parameters = parameters;
        info.threads = threads;
        return prompt_chunk(info);
    };
    EXPECT_EQ(chunk(260'000, 1), 512U);
    EXPECT_EQ(chunk(134'515'008, 2), 256U);
    EXPECT_EQ(chunk(134'515'008, 16), 512U);
    EXPECT_EQ(chunk(8'000'000'000, 2), 32U);
    EXPECT_EQ(chunk(0, 0), 512U);
}

TEST_F(engine, answers_a_request) {
    auto const e = start();
    ASSERT_TRUE(e->submit(1, limited(4)).has_value());
    auto t = listener.wait_for_end(1);
    EXPECT_EQ(t.text(), "abab");
    EXPECT_EQ(t.reason(), FinishReason::length);
    EXPECT_GT(e->heartbeat(), 0U);
    EXPECT_EQ(e->backend().properties().info.architecture, "scripted");
}

TEST_F(engine, is_overloaded_at_once_when_full_and_takes_the_next_when_one_ends) {
    Options options;
    options.requests_max = 2;
    options.credit = 1;
    auto const e = start(repeating(), options);
    ASSERT_TRUE(e->submit(1, limited(10)).has_value());
    ASSERT_TRUE(e->submit(2, limited(10)).has_value());
    auto const refused = e->submit(3, limited(10));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Code::overloaded);
    EXPECT_NE(refused.error().message.find("limit is 2"), std::string::npos);
    e->grant(1, 100);
    listener.wait_for_end(1);
    EXPECT_TRUE(e->submit(4, limited(1)).has_value()) << "the end is known before its event arrives";
    listener.wait_for_end(4);
}

TEST_F(engine, refuses_what_cannot_run_and_forgets_it) {
    Options options;
    options.requests_max = 1;
    auto const e = start(repeating(), options);
    for (int i = 0; i < 3; ++i) {
        auto const refused = e->submit(1, prompt_of(4096));
        ASSERT_FALSE(refused.has_value());
        EXPECT_EQ(refused.error().code, Code::context_overflow);
    }
    EXPECT_TRUE(e->submit(1, limited(2)).has_value());
    listener.wait_for_end(1);
}

TEST_F(engine, refuses_an_id_that_is_inside) {
    Options options;
    options.credit = 1;
    auto const e = start(repeating(), options);
    ASSERT_TRUE(e->submit(1, limited(10)).has_value());
    auto const refused = e->submit(1, limited(10));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Code::invalid_argument);
}

TEST_F(engine, cancel_ends_a_running_request) {
    auto const e = start();
    auto request = prompt_of(5);
    ASSERT_TRUE(e->submit(1, request).has_value());
    listener.wait_for_tokens(1, 10);
    e->cancel(1);
    e->cancel(99);
    auto t = listener.wait_for_end(1);
    EXPECT_EQ(t.reason(), FinishReason::cancelled);
    EXPECT_EQ(e->stats().kv_used, e->stats().kv_cached);
}

TEST_F(engine, grants_resume_a_paused_request) {
    Options options;
    options.credit = 3;
    auto const e = start(repeating(), options);
    ASSERT_TRUE(e->submit(1, limited(20)).has_value());
    listener.wait_for_tokens(1, 3);
    EXPECT_EQ(listener.of(1).tokens(), 3U);
    e->grant(1, 5);
    listener.wait_for_tokens(1, 8);
    e->grant(1, 1000);
    EXPECT_EQ(listener.wait_for_end(1).tokens(), 20U);
}

TEST_F(engine, takes_no_steps_while_nothing_can_run) {
    Options options;
    options.credit = 3;
    auto const e = start(repeating(), options);
    ASSERT_TRUE(e->submit(1, limited(20)).has_value());
    listener.wait_for_tokens(1, 3);
    // A signal wakes the thread; it must not step, or the stats would show it.
    auto const before = e->stats().steps_total;
    auto const heartbeat = e->heartbeat();
    e->grant(1, 0);
    while (e->heartbeat() == heartbeat) std::this_thread::yield();
    EXPECT_EQ(e->stats().steps_total, before);
}

TEST_F(engine, close_ends_everything_as_cancelled_and_refuses_the_rest) {
    Options options;
    options.credit = 5;
    auto scripted = repeating();
    scripted.sequences_max = 2;
    auto const e = start(scripted, options);
    for (RequestId id = 1; id <= 5; ++id) ASSERT_TRUE(e->submit(id, limited(1000)).has_value());
    listener.wait_for_tokens(1, 5);
    e->close();
    EXPECT_EQ(listener.ended(), 5U) << "before close() returns";
    EXPECT_EQ(listener.of(1).reason(), FinishReason::cancelled);
    auto const refused = e->submit(9, limited(1));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Code::cancelled);
    e->cancel(1);
    e->grant(1, 1);
    e->close();
}

TEST_F(engine, destruction_closes) {
    {
        auto const e = start();
        ASSERT_TRUE(e->submit(1, prompt_of(5)).has_value());
    }
    EXPECT_TRUE(listener.of(1).ended());
}

TEST_F(engine, refuses_options_that_leave_no_room) {
    auto const refused = [&](auto set, llama::ScriptedOptions scripted) {
        Options options;
        set(options);
        auto const made = Engine::create(llama::make_scripted(std::move(scripted)), options, clock, listener.sink());
        return !made.has_value() && made.error().code == Code::invalid_argument;
    };
    EXPECT_TRUE(refused([](Options& o) { o.requests_max = 0; }, {}));
    EXPECT_TRUE(refused([](Options& o) { o.step_ms_target = 0; }, {}));
    EXPECT_TRUE(refused([](Options& o) { o.credit = 0; }, {}));
    llama::ScriptedOptions narrow;
    narrow.batch_max = 1;
    EXPECT_TRUE(refused([](Options&) {}, narrow));
    llama::ScriptedOptions short_context;
    short_context.context_request = 1;
    EXPECT_TRUE(refused([](Options&) {}, short_context));
}

// Four threads that submit, grant and cancel at random while the engine swaps:
// run under ThreadSanitizer.
TEST_F(engine, many_threads_at_once_neither_race_nor_lose_a_request) {
    auto scripted = repeating();
    scripted.kv_cells = 200;
    scripted.context_request = 150;
    Options options;
    options.credit = 8;
    options.requests_max = 24;
    auto const e = start(scripted, options);
    std::atomic<std::uint64_t> submitted{0};
    std::latch ready(4);
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&, thread] {
            std::mt19937 random(thread);
            ready.arrive_and_wait();
            for (RequestId i = 1; i <= 150; ++i) {
                RequestId const id = thread * 1000 + i;
                auto request = prompt_of(1 + random() % 60);
                request.max_tokens = 1 + random() % 60;
                request.choices = 1 + random() % 3;
                bool const accepted = e->submit(id, request).has_value();
                submitted += accepted ? 1 : 0;
                if (random() % 2 == 0) e->cancel(thread * 1000 + 1 + random() % i);
                e->grant(thread * 1000 + 1 + random() % i, 50);
                if (random() % 8 == 0) (void)e->stats();
            }
            for (RequestId i = 1; i <= 150; ++i) {
                e->grant(thread * 1000 + i, 1000);
                if (i % 2 == 0) e->cancel(thread * 1000 + i);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    e->close();
    EXPECT_EQ(listener.ended(), submitted.load());
    EXPECT_EQ(e->stats().kv_used, e->stats().kv_cached);
    EXPECT_EQ(e->stats().running, 0U);
}

TEST_F(engine, hands_back_what_another_one_is_made_of) {
    auto first = start();
    ASSERT_TRUE(first->submit(1, limited(4)).has_value());
    listener.wait_for_end(1);
    ASSERT_TRUE(first->submit(2, limited(1'000'000)).has_value());
    listener.wait_for_tokens(2, 1);
    auto backends = first->release();
    EXPECT_EQ(listener.of(2).reason(), FinishReason::cancelled) << "as close()";
    first.reset();
    ASSERT_NE(backends.model, nullptr);
    EXPECT_EQ(backends.draft, nullptr);
    ASSERT_TRUE(backends.model->park().has_value()) << "what it kept of prefixes is gone";
    ASSERT_TRUE(backends.model->wake().has_value());
    auto const second = Engine::create(std::move(backends.model), {}, clock, listener.sink());
    ASSERT_TRUE(second.has_value());
    ASSERT_TRUE((*second)->submit(3, limited(4)).has_value());
    EXPECT_EQ(listener.wait_for_end(3).text(), "abab");
}

}  // namespace
}  // namespace hearth::engine
