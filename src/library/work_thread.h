// WorkThread: one thread that does what it is given, in order, away from the loop;
// and ask(), by which a coroutine waits for what was done there.
//
// Threads:   post() from any; the work comes on the thread.
// Ownership: owns its thread. Destruction ends it after the work it is at; what
//            still waits is dropped.
// Limits:    `tasks_max` wait; one more is `overloaded`, naming `what`.
// Private to library.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/result.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::library {

class WorkThread {
public:
    struct Options {
        std::string what;  // in plural, for messages: "uploads"
        std::size_t tasks_max = 64;
        std::function<void()> chore;  // done at once and after each `every`; may be empty
        std::chrono::milliseconds every = std::chrono::hours(1);
    };

    explicit WorkThread(Options options);
    ~WorkThread();
    WorkThread(WorkThread const&) = delete;
    WorkThread& operator=(WorkThread const&) = delete;

    [[nodiscard]] Status post(std::function<void()> task);

private:
    void live();

    Options const options_;
    std::mutex mutex_;  // guards the next three
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;
    bool stopping_ = false;
    std::thread thread_;  // last: it uses all of the above
};

template <typename T>
struct Answer {
    explicit Answer(net::Loop& loop) : signal(loop) {}
    net::Signal signal;
    std::optional<Result<T>> result;
};

// What `work` gives where `post` has it done; `post` passes on what it has to `work`, if
// anything. The loop's things are let go on the loop's thread: the answer travels back
// with its result. What `work` holds goes before that, while who asked holds it still:
// else the last reference to what belongs to the loop could end on the other thread.
template <typename T, typename Post, typename Work>
net::Task<Result<T>> ask(net::Loop& loop, Post post, Work work) {
    auto const answer = std::make_shared<Answer<T>>(loop);
    auto task = [&to = loop, held = answer, work = std::optional<Work>(std::move(work))](auto&&... with) mutable {
        auto result = std::make_shared<Result<T>>((*work)(with...));
        work.reset();
        to.post([held = std::move(held), result] {
            held->result = std::move(*result);
            held->signal.notify();
        });
    };
    Status const posted = post(std::move(task));
    if (!posted) co_return posted.error();
    co_await answer->signal.wait();
    co_return *std::move(answer->result);
}

}  // namespace hearth::library
