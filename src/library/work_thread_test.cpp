#include "library/work_thread.h"

#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::library {
namespace {

TEST(WorkThread, DoesWhatItIsGivenInOrder) {
    std::vector<int> seen;
    std::latch done(1);
    WorkThread thread({.what = "things", .chore = {}});
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(thread.post([&seen, &done, i] {
            seen.push_back(i);
            if (i == 9) done.count_down();
        }));
    }
    done.wait();
    EXPECT_EQ(seen, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(WorkThread, IsBounded) {
    std::latch busy(1), release(1);
    {
        WorkThread thread({.what = "things", .tasks_max = 2, .chore = {}});
        ASSERT_TRUE(thread.post([&] {
            busy.count_down();
            release.wait();
        }));
        busy.wait();
        EXPECT_TRUE(thread.post([] {}));
        EXPECT_TRUE(thread.post([] {}));
        auto const refused = thread.post([] {});
        EXPECT_EQ(refused.error().code, Code::overloaded);
        EXPECT_EQ(refused.error().message, "2 things wait, which is the limit");
        release.count_down();
    }
}

TEST(WorkThread, ItsChoreComesAtOnceAndAgain) {
    std::latch twice(2);
    WorkThread thread({.what = "things",
                       .chore =
                           [&] {
                               if (!twice.try_wait()) twice.count_down();
                           },
                       .every = std::chrono::milliseconds(1)});
    twice.wait();
}

net::Task<void> run_ask(net::Loop& loop, WorkThread& thread, Result<int>& result) {
    auto const post = [&thread](std::function<void()> task) { return thread.post(std::move(task)); };
    auto const work = []() -> Result<int> { return 42; };
    result = co_await ask<int>(loop, post, work);
    loop.stop();
}

TEST(WorkThread, ACoroutineWaitsForWhatWasDone) {
    net::Loop loop;
    WorkThread thread({.what = "things", .chore = {}});
    Result<int> result = Error(Code::internal, "did not end");
    loop.spawn(run_ask(loop, thread, result));
    loop.run();
    ASSERT_TRUE(result);
    EXPECT_EQ(*result, 42);
}

TEST(WorkThread, WhatTheWorkHeldIsGoneWhenItsAnswerComes) {
    net::Loop loop;
    auto token = std::make_shared<int>(42);
    std::weak_ptr<int> const seen = token;
    std::function<void()> posted;  // kept, as a thread keeps what it is at for a moment after it
    Result<int> result = Error(Code::internal, "did not end");
    auto const test = [&]() -> net::Task<void> {
        auto const post = [&](std::function<void()> task) -> Status {
            posted = std::move(task);
            posted();
            return ok();
        };
        auto work = [held = std::move(token)]() -> Result<int> { return *held; };
        result = co_await ask<int>(loop, post, std::move(work));
        EXPECT_TRUE(seen.expired());
        loop.stop();
    };
    loop.spawn(test());
    loop.run();
    ASSERT_TRUE(result);
    EXPECT_EQ(*result, 42);
}

}  // namespace
}  // namespace hearth::library
