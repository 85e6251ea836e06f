#include "net/loop.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <stdexcept>
#include <thread>
#include <vector>

namespace hearth::net {
namespace {

using namespace std::chrono_literals;

TEST(Loop, EndsWhenNothingIsLeftToWaitFor) {
    Loop loop;
    int ran = 0;
    loop.post([&] { loop.post([&] { ++ran; }); });
    loop.run();
    loop.post([&] { ++ran; });
    loop.run();
    EXPECT_EQ(ran, 2);
}

TEST(Loop, TakesWorkAndStopFromOtherThreads) {
    Loop loop;
    int sum = 0;  // on the loop's thread only
    loop.on_signals({SIGUSR2}, [](int) {});  // keeps it running
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 1000; ++i) {
                loop.post([&] {
                    if (++sum == 4000) loop.stop();
                });
            }
        });
    }
    loop.run();
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(sum, 4000);
}

Task<void> record_sleep(Loop& loop, Duration wait, std::vector<int>& order, int name) {
    co_await loop.sleep(wait);
    order.push_back(name);
}

TEST(Loop, CoroutinesSleepSideBySide) {
    Loop loop;
    std::vector<int> order;
    loop.spawn(record_sleep(loop, 20ms, order, 2));
    loop.spawn(record_sleep(loop, 1ms, order, 1));
    loop.run();
    EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(Loop, CallsBackForEverySignal) {
    Loop loop;
    std::vector<int> seen;
    loop.on_signals({SIGUSR1, SIGUSR2}, [&](int number) {
        seen.push_back(number);
        if (seen.size() == 3) loop.stop();
        else ::raise(seen.size() == 1 ? SIGUSR2 : SIGUSR1);
    });
    loop.post([] { ::raise(SIGUSR1); });
    loop.run();
    EXPECT_EQ(seen, (std::vector<int>{SIGUSR1, SIGUSR2, SIGUSR1}));
}

Task<void> throw_at_once() {
    throw std::runtime_error("the reason");
    co_return;
}

TEST(LoopDeathTest, AnExceptionThatLeavesACoroutineAborts) {
    EXPECT_DEATH(
        {
            Loop loop;
            loop.spawn(throw_at_once());
            loop.run();
        },
        "an exception left a coroutine: the reason");
    EXPECT_DEATH(
        {
            Loop loop;
            loop.post([] { throw std::runtime_error("the reason"); });
            loop.run();
        },
        "left a callback of the event loop: the reason");
}

// Runs what is ready and what that makes ready. A coroutine that waits keeps
// run() from ending, so it is stopped.
void run_ready(Loop& loop, int turns = 8) {
    std::function<void()> turn = [&] {
        if (--turns > 0) loop.post(turn);
        else loop.stop();
    };
    loop.post(turn);
    loop.run();
}

Task<void> count_waits(Signal& signal, int times, int& count) {
    for (int i = 0; i < times; ++i) {
        co_await signal.wait();
        ++count;
    }
}

TEST(Signal, WakesEveryWaiterAndNeverInsideNotify) {
    Loop loop;
    Signal signal(loop);
    int count = 0;
    loop.spawn(count_waits(signal, 1, count));
    loop.spawn(count_waits(signal, 1, count));
    run_ready(loop);
    loop.post([&] {
        signal.notify();
        EXPECT_EQ(count, 0);
    });
    loop.run();
    EXPECT_EQ(count, 2);
}

TEST(Signal, RemembersOneNotificationWithoutAWaiter) {
    Loop loop;
    Signal signal(loop);
    signal.notify();
    signal.notify();
    int count = 0;
    loop.spawn(count_waits(signal, 3, count));
    run_ready(loop);
    EXPECT_EQ(count, 1);
}

Task<void> record_wait_for(Signal& signal, Duration timeout, std::vector<bool>& results) {
    bool const notified = co_await signal.wait_for(timeout);
    results.push_back(notified);
}

Task<void> notify_after_timeout(Loop& loop, Signal& signal, std::vector<bool> const& results) {
    while (results.empty()) co_await loop.sleep(1ms);
    signal.notify();
}

TEST(Signal, ATimeoutEndsOnlyTheWaitThatSetIt) {
    Loop loop;
    auto signal = std::make_unique<Signal>(loop);
    std::vector<bool> results;
    loop.spawn(record_wait_for(*signal, 1h, results));  // sets the timer, which the next moves forward
    loop.spawn(record_wait_for(*signal, 2ms, results));
    loop.spawn(record_wait_for(*signal, Duration::max(), results));
    loop.spawn(notify_after_timeout(loop, *signal, results));
    while (results.size() < 3) run_ready(loop);
    EXPECT_EQ(results, (std::vector<bool>{false, true, true}));
    signal.reset();
    loop.run();  // ends: with the signal its timer is gone
}

Task<void> wait_often(Signal& signal, std::vector<bool>& results) {
    for (int i = 0; i < 100; ++i) {
        bool const notified = co_await signal.wait_for(1s);
        if (!notified) results.push_back(false);
    }
    bool const notified = co_await signal.wait_for(5ms);
    results.push_back(notified);
}

Task<void> notify_often(Loop& loop, Signal& signal) {
    for (int i = 0; i < 100; ++i) {
        signal.notify();
        co_await loop.sleep(0ms);
    }
}

TEST(Signal, ARenewedTimeoutCountsFromItsOwnWait) {
    Loop loop;
    Signal signal(loop);
    std::vector<bool> results;
    Instant const start = std::chrono::steady_clock::now();
    loop.spawn(wait_often(signal, results));
    loop.spawn(notify_often(loop, signal));
    loop.run();
    EXPECT_EQ(results, (std::vector<bool>{false}));
    EXPECT_GE(std::chrono::steady_clock::now() - start, 5ms);
}

struct Guard {
    explicit Guard(int& c) : count(c) {}
    ~Guard() { ++count; }
    Guard(Guard const&) = delete;
    Guard& operator=(Guard const&) = delete;
    int& count;
};

Task<void> wait_guarded(Signal& signal, int& destroyed) {
    Guard const guard(destroyed);
    co_await signal.wait();
    ADD_FAILURE() << "resumed";
}

TEST(Signal, ItsEndDestroysWhoStillWaits) {
    Loop loop;
    auto signal = std::make_unique<Signal>(loop);
    int destroyed = 0;
    loop.spawn(wait_guarded(*signal, destroyed));
    run_ready(loop);
    EXPECT_EQ(destroyed, 0);
    signal.reset();
    loop.run();
    EXPECT_EQ(destroyed, 1);
}

Task<void> wait_for_own(Loop& loop, int& destroyed) {
    Guard const guard(destroyed);
    Signal signal(loop);
    co_await signal.wait_for(1h);
    ADD_FAILURE() << "resumed";
}

TEST(Loop, ItsEndDestroysCoroutinesEvenThoseThatOwnWhatTheyWaitFor) {
    int destroyed = 0;
    auto loop = std::make_unique<Loop>();
    Signal outlives(*loop);
    loop->spawn(wait_for_own(*loop, destroyed));
    loop->spawn(wait_for_own(*loop, destroyed));
    loop->spawn(wait_guarded(outlives, destroyed));
    run_ready(*loop);
    EXPECT_EQ(destroyed, 0);
    loop.reset();
    EXPECT_EQ(destroyed, 3);
}

}  // namespace
}  // namespace hearth::net
