// Runner: the threads that run jobs, at most N of a kind at once.
//
// It claims what is due, calls the kind's Handler, renews the lease while that
// works, and writes down how it ended. A job that is paused or cancelled stops
// its handler at once; what an earlier process left behind is taken over.
//
// Threads: N for a kind, and one that renews. Handlers are called on them, so
// they may block; start() and stop() belong to one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "base/result.h"
#include "jobs/queue.h"

namespace hearth::jobs {

inline constexpr std::uint32_t kAtOnceMax = 64;  // jobs of one kind

// What a handler knows of the job it runs.
class Context {
public:
    virtual ~Context() = default;

    // As it was claimed: `progress` is where an earlier attempt came to.
    [[nodiscard]] virtual Job const& job() const = 0;

    // Asked to stop: the job was paused or cancelled, the lease is lost, or the
    // process ends. A handler returns soon then, its work kept for the next one.
    [[nodiscard]] virtual std::stop_token stop() const = 0;

    // Cheap; may be called often and from any thread. An error means: stop.
    [[nodiscard]] virtual Status report(Progress progress) = 0;
};

struct Outcome {
    Status status;  // an error fails the job, unless it was asked to stop
    Retry retry = Retry::yes;
    std::optional<std::chrono::milliseconds> after = std::nullopt;
};

class Handler {
public:
    virtual ~Handler() = default;

    // Does the work, from where an earlier attempt left it. May be called for one
    // job again after it succeeded, when the process died before that was written.
    [[nodiscard]] virtual Outcome run(Context& context) = 0;
};

class Runner {
public:
    struct Options {
        std::string holder = "runner";               // names it in leases and messages
        std::chrono::milliseconds lease{30'000};     // renewed after each third of it
        std::chrono::milliseconds look_again{5'000};  // longest wait without looking for due jobs
        std::function<void(Error const&)> on_error;  // what the queue said, e.g. a full disk; any thread
    };

    // `queue` must outlive it.
    Runner(Queue& queue, Options options);
    ~Runner();  // stop()
    Runner(Runner const&) = delete;
    Runner& operator=(Runner const&) = delete;

    // REQUIRES: not started, `kind` is new, 1 <= at_once <= kAtOnceMax, `handler` outlives it
    void add(std::string kind, Handler& handler, std::uint32_t at_once);

    [[nodiscard]] Status start();

    // Stops the handlers, waits for them and gives their jobs back.
    void stop();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::jobs
