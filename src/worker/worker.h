// Worker: the thin host of an engine at the end of a connection.
//
// run() loads the backend on the calling thread while a reader thread of its
// own answers pings from the start; then it sends Ready and the calling thread
// hands requests to the engine (templates and tokenising happen there, so that
// neither delays a pong or a cancel). The engine's thread writes one Step frame
// per step.
//
// Told to park, it lets the engine go, after it wrote down what it computed, and the
// backend gives its memory back (Backend::park()); what is slow to make stays, until it
// is woken. A backend that cannot be parked ends the worker.
//
// A front that is gone ends the worker at once; a front that takes no bytes for
// write_timeout counts as gone.
//
// Limits: at most engine.requests_max requests, and kPromptBytesWaiting bytes of
// prompts, wait for the calling thread; what comes on top fails with `overloaded`.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "engine/engine.h"
#include "llama/backend.h"
#include "serving/launcher.h"

namespace hearth::worker {

inline constexpr std::uint64_t kPromptBytesWaiting = 256U << 20;

// What a backend being loaded may tell the front. Copies may outlive run() and
// be called from any thread; they say nothing then.
class Progress {
public:
    using OnProgress = std::function<void(float)>;
    using OnLog = std::function<void(int level, std::string_view text)>;

    Progress(OnProgress on_progress, OnLog on_log) : on_progress_(std::move(on_progress)), on_log_(std::move(on_log)) {}

    // 0 to 1; sent at most 20 times a second.
    void operator()(float progress) const { on_progress_(progress); }

    // A line for the front's log, never prompt or answer text. 0 debug .. 3 error. Longer than 4 KiB is cut.
    void log(int level, std::string_view text) const { on_log_(level, text); }

private:
    OnProgress on_progress_;
    OnLog on_log_;
};

using BackendFactory = std::function<Result<std::unique_ptr<llama::Backend>>(Progress const&)>;

// Loads the model that guesses ahead for `model`, which is loaded already.
using DraftFactory =
    std::function<Result<std::unique_ptr<llama::Backend>>(llama::Backend const& model, Progress const&)>;

struct Options {
    int fd = -1;                // the connection; owned by run()
    engine::Options engine;
    DraftFactory load_draft{};  // empty: no second model
    std::string isolation;      // copied into ModelInfo
    int statm_fd = -1;          // from prepare_process(); -1: resident memory is reported as 0
    Duration write_timeout = std::chrono::seconds(30);

    // Called at most once, on a thread of the worker's own, when nothing can reach
    // the front any more while run() may still load or compute: the connection
    // closed or broke, or Close came before the engine was there. A process ends
    // itself here; without it run() returns after the current load or step.
    std::function<void()> on_abandoned;

    // Called on the caller's thread when all is done and written, before the model is
    // given back: a process ends itself here, which gives everything back at once and
    // makes room for the next model sooner than taking its vocabulary apart.
    std::function<void(Status const& outcome)> on_finished;
};

// Returns when the worker is done: ok() after Close or a closed connection, or after
// Park where it cannot; the load's error after LoadFailed, that of a wake that failed,
// `corrupt` for a broken frame.
[[nodiscard]] Status run(Options options, BackendFactory const& load, Clock const& clock);

// The engine's options for a worker of that model: `base` with what the pool set
// in the spec, so that both sides agree on limits and credit.
[[nodiscard]] engine::Options engine_options(engine::Options base, serving::ModelSpec const& spec);

// The first act of a worker process: from now on it dies with the thread that
// started it, and leaves SIGINT, SIGTERM and SIGHUP, which a terminal or a
// service manager sends to everybody, to the front. Returns a descriptor of
// /proc/self/statm, to be kept by the sandbox, or -1 without /proc.
[[nodiscard]] int prepare_process();

}  // namespace hearth::worker
