// Loop, Signal, Pipe: the front's event loop and what waits on it.
//
// Threads: post() and stop() from any thread; the rest on the loop's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "net/task.h"

namespace boost::asio {
class io_context;
}

namespace hearth::net {

class Loop {
public:
    Loop();
    ~Loop();
    Loop(Loop const&) = delete;
    Loop& operator=(Loop const&) = delete;

    // Runs until stop() or until nothing is left to wait for.
    void run();
    void stop();

    // Runs `work` on the loop's thread, later.
    void post(std::function<void()> work);

    // Starts a coroutine; it owns itself. An exception that leaves it aborts.
    void spawn(Task<void> task);

    // Suspends for `wait`.
    Task<void> sleep(Duration wait);

    // Calls `work` on the loop's thread when one of `signals` arrives, every time.
    void on_signals(std::initializer_list<int> signals, std::function<void(int)> work);

    [[nodiscard]] boost::asio::io_context& context();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// One-thread condition: waiters resume after notify(). A notify() without a
// waiter is remembered once.
class Signal {
public:
    explicit Signal(Loop& loop);
    ~Signal();
    void notify();
    Task<void> wait();
    // False when `timeout` passed first.
    Task<bool> wait_for(Duration timeout);

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

// A connected local stream socket (one end of a socketpair), for worker frames.
//
// Reading: `on_bytes` gets each chunk; `on_closed` is called once, after the
// last chunk, when the peer is gone or close() was called.
// Writing: send() queues; queued() is what the kernel has not taken yet. The
// owner bounds it.
class Pipe {
public:
    // Takes ownership of `fd`.
    Pipe(Loop& loop, int fd, std::function<void(std::string_view)> on_bytes, std::function<void()> on_closed);
    ~Pipe();
    Pipe(Pipe const&) = delete;
    Pipe& operator=(Pipe const&) = delete;

    void send(std::string bytes);
    [[nodiscard]] std::size_t queued() const;
    void close();

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace hearth::net
