// Queue: jobs in SQLite, handed out under leases.
//
// What a call acknowledged survives kill -9. A job is begun by claim(), which
// gives its holder a lease: until it expires nobody else gets the job. A holder
// that renews keeps it; one that dies loses it, and the job is begun again by
// whoever claims next. So a handler must be able to go on from what an earlier
// attempt left (idempotent, resumable).
//
// State and lease are two facts. pause() and cancel() take effect at once; the
// holder learns of it from its next renew() or report(), which fail with
// `cancelled`, and lets go with release(). Only then, or when the lease has
// expired, is the job handed out again: it never runs twice at once.
//
//        enqueue            claim                complete
//   ───────────▶ queued ───────────▶ running ───────────────▶ done
//                 ▲  ▲                 │ │ fail, for good
//          resume │  └─────────────────┘ ├──────────────────▶ failed
//                 │    fail, release,    │
//               paused ◀─────────────────┘   cancel, anywhere before an end ▶ cancelled
//                        pause               retry: failed, cancelled ▶ queued
//
// A job that fails waits 1 s, then 2, 4 .. up to Options::backoff_max, and has
// failed for good after Options::failures_max failures in a row without progress
// in between. An expired lease counts as a failure.
//
// Threads: any; calls wait for one another and for the disk, so not from an
// event loop. Errors: `not_found`, `invalid_argument` (wrong state or field,
// which the message names), `cancelled` (the lease is gone), `overloaded`,
// `too_large`, and store's.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jobs/job.h"

namespace hearth::jobs {

inline constexpr std::size_t kKindMax = 64;           // bytes
inline constexpr std::size_t kKeyMax = 4096;          // bytes
inline constexpr std::size_t kPayloadMax = 1U << 20;  // bytes
inline constexpr std::size_t kTextMax = 1024;         // bytes of a progress text or an error; the rest is cut
inline constexpr std::size_t kPartsMax = 128;         // of a job's progress; those that are more go untold
inline constexpr std::size_t kPartTextMax = 512;      // bytes of what else a part says
inline constexpr std::size_t kPartNameMax = 256;      // bytes; a part with a longer name goes untold
inline constexpr std::size_t kPageMax = 1000;         // jobs of one list()
inline constexpr std::size_t kWatchersMax = 1024;

struct Options {
    std::string path;                            // of the database
    std::function<UnixMs()> now;                 // wall clock
    std::function<std::string()> new_id;         // unguessable, unique
    std::size_t open_max = 10'000;               // jobs that are not final; above it enqueue() is refused
    std::size_t history_max = 1000;              // final jobs that are kept; older ones go
    std::uint32_t failures_max = 8;
    std::chrono::milliseconds backoff{1000};
    std::chrono::milliseconds backoff_max{5 * 60'000};
    std::chrono::milliseconds progress_interval{1000};  // how often progress of a job is written
    std::chrono::milliseconds notify_interval{100};     // and told to watchers
    std::string vfs;                             // as store::Options::vfs, for tests
};

struct NewJob {
    std::string kind;
    std::string key;      // empty: never equal to another
    std::string payload;
};

struct Enqueued {
    Job job;
    bool existed = false;  // one with that key was there and goes on
};

// The right to run a job. `token` is new with every claim, so that a holder
// whose lease was taken over can do no harm.
struct Lease {
    Job job;  // as it was when it was claimed; progress is where to go on from
    std::uint64_t token = 0;
};

enum class Retry : std::uint8_t { yes, never };

struct Filter {
    std::optional<State> state;
    std::string kind;                // empty: any
    std::int64_t before = INT64_MAX;  // a sequence: the page after it, newest first
    std::size_t limit = 100;          // at most kPageMax
};

// Ends a watch() when it goes; after that the callback is not called any more.
// Not to be destroyed inside that callback.
class Watch {
public:
    struct Watcher;
    Watch() = default;
    explicit Watch(std::shared_ptr<Watcher> watcher) : watcher_(std::move(watcher)) {}
    ~Watch() { end(); }
    Watch(Watch&&) noexcept = default;
    Watch& operator=(Watch&& other) noexcept;
    void end();

private:
    std::shared_ptr<Watcher> watcher_;
};

class Queue {
public:
    [[nodiscard]] static Result<std::unique_ptr<Queue>> open(Options options);
    ~Queue();
    Queue(Queue const&) = delete;
    Queue& operator=(Queue const&) = delete;

    [[nodiscard]] Result<Enqueued> enqueue(NewJob job);
    [[nodiscard]] Result<Job> get(std::string_view id);
    [[nodiscard]] Result<std::vector<Job>> list(Filter const& filter);

    // pause: queued, running. resume: paused; a holder that has not let go goes on.
    // cancel: all that are not final. retry: failed, cancelled; its progress stays.
    // The state that was asked for already is fine.
    Result<Job> pause(std::string_view id);
    Result<Job> resume(std::string_view id);
    Result<Job> cancel(std::string_view id);
    Result<Job> retry(std::string_view id);

    // The oldest job of `kind` that may be begun now, if any.
    [[nodiscard]] Result<std::optional<Lease>> claim(std::string_view kind, std::string_view holder,
                                                     std::chrono::milliseconds lease);
    // How long until claim() may find one that it does not find now; none: not
    // before something is enqueued, resumed or retried.
    [[nodiscard]] Result<std::optional<std::chrono::milliseconds>> next_due(std::string_view kind);

    // For the holder. All but release() fail with `cancelled` when the job is not
    // running under this lease any more.
    [[nodiscard]] Status renew(Lease const& lease, std::chrono::milliseconds duration);
    [[nodiscard]] Status report(Lease const& lease, Progress progress);
    [[nodiscard]] Status complete(Lease const& lease);
    // `after`: not before that time has passed, as a Retry-After says.
    [[nodiscard]] Status fail(Lease const& lease, Error const& error, Retry retry,
                              std::optional<std::chrono::milliseconds> after = std::nullopt);
    // Gives it back: what was running is queued again, which counts as no failure.
    Status release(Lease const& lease);

    // Calls `changed` with a copy of every job that changes, progress at most every
    // notify_interval, on the thread that changed it: it must be quick and must not
    // call the Queue (net::Loop::post is the usual one). Copies of two threads may
    // arrive in either order; their revision tells. `overloaded` above kWatchersMax.
    [[nodiscard]] Result<Watch> watch(std::function<void(Job const&)> changed);

private:
    struct Impl;
    explicit Queue(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::jobs
