// Loop, Signal, Pipe: the front's event loop and what waits on it.
//
// Threads: post() and stop() from any thread; the rest on the loop's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
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

    // Runs until stop() or until no coroutine, Pipe or timer is left. May be called
    // again.
    // An exception that leaves anything the loop calls aborts the process.
    void run();
    void stop();

    // Runs `work` on the loop's thread, later.
    void post(std::function<void()> work);

    // Starts a coroutine, at the loop's next turn; it owns itself. What is still
    // suspended when the loop is destroyed is destroyed with it.
    void spawn(Task<void> task);

    // Suspends for `wait`.
    Task<void> sleep(Duration wait);

    // Calls `work` on the loop's thread when one of `signals` arrives, every time.
    // From then on run() ends by stop() only.
    void on_signals(std::initializer_list<int> signals, std::function<void(int)> work);

    [[nodiscard]] boost::asio::io_context& context();

    struct Impl;  // private to the module

private:
    friend class Signal;
    std::unique_ptr<Impl> impl_;
};

// One-thread condition: all waiters resume after notify(), at the loop's next
// turn and never inside notify(). A notify() without a waiter is remembered
// once. A coroutine that still waits when its Signal is destroyed never resumes:
// it is destroyed.
//
// Time-outs are cheap to renew: the timer is set again only when it fires. Until
// then, or until the Signal goes, it keeps run() from ending by itself.
class Signal {
public:
    explicit Signal(Loop& loop);
    ~Signal();
    Signal(Signal const&) = delete;
    Signal& operator=(Signal const&) = delete;

    void notify();

    // To be awaited at once.
    Task<void> wait();
    // False when `timeout` passed first.
    Task<bool> wait_for(Duration timeout);

    struct Impl;  // private to the module

private:
    std::shared_ptr<Impl> impl_;
};

// A connected local stream socket (one end of a socketpair), for worker frames.
//
// Reading: `on_bytes` gets each chunk; `on_closed` is called once, after the
// last chunk, when the peer is gone or close() was called; never from inside
// close(). Neither is called once the Pipe is destroyed; both may destroy it.
// Writing: send() queues, what one turn of the loop queued leaves in one system
// call; queued() is what the kernel has not taken yet. The owner bounds it.
// When the peer has stopped reading, bytes are dropped and on_closed tells.
class Pipe {
public:
    // Takes ownership of `fd`.
    Pipe(Loop& loop, int fd, std::function<void(std::string_view)> on_bytes, std::function<void()> on_closed);
    ~Pipe();
    Pipe(Pipe const&) = delete;
    Pipe& operator=(Pipe const&) = delete;

    void send(std::string bytes);
    [[nodiscard]] std::size_t queued() const;

    // Gives the kernel what it takes at once of the queue, then closes.
    void close();

private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace hearth::net
