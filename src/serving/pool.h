// Pool: the models this front serves, each behind one supervised worker.
//
// submit() admits a request or refuses it at once: `overloaded` when
// requests_max are inside the model already (seven eighths of them, if it is not
// interactive), or when it is predicted to wait for half of request_timeout
// or longer than its queue deadline (then `param` is queue_timeout_ms); `not_found`,
// `unavailable` while draining. An admitted request yields a Generation; the caller pulls its
// events. Requests wait here while a model loads or its worker restarts.
//
// Supervision: a worker that closes its connection, exits, sends a broken frame
// (or events that a request cannot have), does not answer a ping for
// hang_timeout, or takes no step for step_timeout while it could, is killed. Its
// requests that have emitted nothing (no Delta, no ChoiceDone) are replayed to
// the next worker: those that were computed, or first in line for it, up to
// replays_max times (one of them may be what killed it), those that only waited
// up to replays_waiting_max times. The others end with Failed{engine_lost} at
// once. It restarts after backoff (doubling from backoff_min to backoff_max,
// reset after it has been ready for a minute). After starts_failed_max workers
// in a row that died before they were ready, waiting requests fail and new ones
// are refused (`unavailable`) until one gets ready; the attempts go on. Under
// options.memory_bytes they do not: the model is `failed`, so that nobody lacks the room
// it would take, and is tried again as below, after the same backoff.
//
// A model that cannot be loaded (LoadFailed) is `failed`. Where that was for want of memory
// (`overloaded`, `exhausted`) it may pass: after retry_min (doubling to retry_max, until it is ready)
// the next request has it tried again, or, of one that is not lazy, room that nobody waits for. Until then
// requests are refused with the reason, and retry_after_s() is what is left. Else it stays
// `failed` until it is suspended and resumed.
//
// Residency (residency.h): a lazy model is loaded by the first request for it, and
// under options.memory_bytes models make room for one another, parked_max of them
// without losing all; requests wait meanwhile. A model that needs more than all of it is refused (`exhausted`).
//
// A model may have several workers (ModelSpec::instances, instances.h): its requests are split among them, each is
// supervised alone, and for residency they are one model, whose file's pages count once.
//
// Flow control: a request's consumer takes events at its own pace; tokens it
// took are granted to the worker again. So a slow consumer pauses its own
// sequences only, and holds at most credit_tokens tokens of events here.
//
// Threads: all on the loop's thread. Ownership: the pool owns workers and
// requests; a Generation that is destroyed cancels.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "domain/engine_report.h"
#include "domain/generate.h"
#include "domain/model.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/launcher.h"

namespace hearth::telemetry {
class Log;
class Registry;
}  // namespace hearth::telemetry

namespace hearth::serving {

using domain::RequestId;

enum class ModelState : std::uint8_t {
    starting,
    loading,
    ready,
    restarting,
    failed,
    stopped,
    cold,
    unloading,
    damaged,  // suspended: see Pool::suspend()
    parked,   // not loaded, but its worker keeps what is slow to make: see PoolOptions::parked_max
};
[[nodiscard]] std::string_view to_string(ModelState) noexcept;

// One worker of a model that has several.
struct InstanceStatus {
    ModelState state = ModelState::starting;
    std::int64_t pid = 0;
    std::uint32_t inside = 0;
    std::uint32_t waiting = 0;
    std::uint64_t restarts = 0;
    std::uint64_t memory_bytes = 0;    // what it takes, or is thought to take, with what it shares
    std::uint64_t resident_bytes = 0;  // of its worker at this moment; 0: not known
};

// Of a model with several workers: sums, the state of the one that is nearest to being ready, and its pid.
struct ModelStatus {
    std::string id;
    std::vector<std::string> aliases;
    std::string base;  // the model whose worker serves this one, which is that with adapters; empty: it is one itself
    std::vector<modelfile::Adapter> adapters;
    std::string path;
    std::shared_ptr<modelfile::Definition const> definition;  // null: none
    ModelState state = ModelState::starting;
    float progress = 0;  // while loading
    std::optional<std::uint32_t> load_left_s{};  // while loading, as that went so far; absent: not known
    std::optional<domain::ModelInfo> info;  // once it was ready
    domain::EngineStats stats;  // last reported
    std::uint32_t inside = 0;  // admitted requests
    std::uint32_t waiting = 0;  // of those, without Started
    std::array<std::uint32_t, domain::kPriorityCount> waiting_by_class{};  // the same by domain::Priority
    std::uint32_t requests_max = 0;  // how many may be inside
    std::uint64_t restarts = 0;
    std::int64_t pid = 0;
    std::string problem;  // why it is failed or restarting
    std::int64_t created_unix = 0;  // when the pool took it on
    bool awaited = false;  // it is to be there from the start, and was not yet
    bool removing = false;  // it takes nothing new and is gone when what runs has ended
    std::uint32_t context_request = 0, kv_cells = 0;  // as it is started; 0: the engine's default
    std::uint64_t memory_bytes = 0;  // what it takes, or is thought to take; 0: not known
    std::uint64_t estimated_bytes = 0;  // what it was thought to take before it was loaded
    std::uint64_t adapter_bytes = 0;  // of that, matrices of adapters, those of all names of its worker
    std::uint64_t resident_bytes = 0;  // of its worker at this moment; 0: not known
    std::optional<Duration> keep_alive;  // how long it stays when it is idle; absent: until room is wanted
    // Of a loaded or parked one: until it is let go, if nobody asks it for anything more.
    std::optional<Duration> idle_left;
    bool pinned = false;  // it stays, whatever is wanted
    std::vector<InstanceStatus> instances;  // none where there is one
};

struct PoolOptions {
    std::uint32_t requests_max = 256;  // per model, running and waiting; an eighth of them is left to interactive ones
    Duration request_timeout{};  // what a request may take in all; zero: any time
    std::uint64_t memory_bytes = 0;  // of all models that are loaded; 0: no bound
    // Models that made room for others and of which a worker keeps the vocabulary, so that they come back fast: at
    // most so many; what they keep counts. Without memory_bytes nobody makes room, and none is parked.
    std::uint32_t parked_max = 0;
    std::uint64_t request_bytes_max = 256U << 20;  // per model, of the requests kept for a replay
    std::uint32_t replays_max = 2;  // of a request that may have killed its worker
    std::uint32_t replays_waiting_max = 10;  // of one that only waited in it
    std::uint32_t starts_failed_max = 3;
    std::uint32_t credit_tokens = 256;  // passed to the worker's engine
    Duration ping_interval = std::chrono::milliseconds(250);
    Duration hang_timeout = std::chrono::milliseconds(800);  // without a pong; a long decode step does not block pongs
    Duration load_hang_timeout = std::chrono::seconds(30);  // the same while the model loads
    Duration step_timeout = std::chrono::seconds(60);  // without a step although a sequence could go on
    Duration backoff_min = std::chrono::milliseconds(100);
    Duration backoff_max = std::chrono::seconds(30);
    Duration retry_min = std::chrono::minutes(1);  // after a load that failed for want of memory
    Duration retry_max = std::chrono::minutes(30);
};

// How short memory is on the machine, or in the control group the server runs in.
enum class Pressure : std::uint8_t {
    none,
    some,  // caches of prefixes in host memory are given up, and models that are parked
    high,  // and each time it is said one model goes that nobody uses and that is not pinned
};
[[nodiscard]] std::string_view to_string(Pressure) noexcept;

struct PoolMemory {
    std::uint64_t budget_bytes = 0;  // of all models; 0: no bound
    std::uint64_t used_bytes = 0;  // what those take that are there, come or go
    Pressure pressure = Pressure::none;
};
// What a client that waits may be told.
struct Waiting {
    std::uint32_t ahead = 0;  // requests of its class or a better one that came before it
    std::optional<std::uint32_t> seconds;  // until computing is predicted to begin; absent: not known
    // The model is not there yet: how much of it is; `seconds` is until it is loaded then.
    std::optional<std::uint32_t> loaded_percent{};
    bool operator==(Waiting const&) const = default;
};

// What an engine said of itself.
struct EngineView {
    std::optional<domain::EngineReport> report;  // the last one, if there ever was one from this worker
    Duration age{};  // of the report
    std::uint32_t instance = 0;  // which of the model's workers it is, as in ModelStatus::instances
};

class Generation {
public:
    virtual ~Generation() = default;  // cancels
    [[nodiscard]] virtual RequestId id() const = 0;

    // The next event. Adjacent deltas of one choice that arrived together stay
    // separate.
    // REQUIRES: no terminal event was taken; one caller at a time
    virtual net::Task<domain::Event> next() = 0;

    // The same, but nothing when `timeout` passed first: time for a ping.
    virtual net::Task<std::optional<domain::Event>> next_within(Duration timeout) = 0;

    // What has arrived already, without waiting.
    virtual std::optional<domain::Event> try_next() = 0;

    // Ends it: the worker stops within a step; next() yields what remains, last
    // a terminal event. Idempotent.
    virtual void cancel() = 0;

    // Nothing ahead and no prediction once started.
    [[nodiscard]] virtual Waiting waiting() const = 0;
};

class Pool {
public:
    // `clock` must tell real time: timers run on the loop. All references must
    // outlive the pool.
    static std::unique_ptr<Pool> create(net::Loop& loop, PoolOptions options, Launcher& launcher, Clock const& clock,
                                        telemetry::Log& log, telemetry::Registry& metrics);
    virtual ~Pool() = default;  // kills the workers; what runs ends with Failed{unavailable}

    // Takes the model on, at any time, and starts its worker, unless it is lazy. Fails with `invalid_argument` for a
    // taken id, alias or id of a variant, and for more variants or instances than there may be, `exhausted` for one
    // that is not lazy and alone takes more than there may be used.
    [[nodiscard]] virtual Status add(ModelSpec spec) = 0;

    // Has the worker of `base` serve `spec` too, a model of the same file with adapters of its own
    // (which its one variant has, under its own name) or none (and no variant): one worker for both,
    // whose memory counts once. What holds for names with adapters holds for it, but it can be
    // removed and swapped by itself, and does not follow its base to another file: after a swap of
    // that it is gone. With adapters a worker that runs already ends what it has and is loaded again
    // with the first request; without, it goes on, and requests inside stay when the model is removed.
    // Fails with `unsupported` where their workers would differ in more (can_share_worker()),
    // `not_found` for `base`, `invalid_argument` for a taken name, `exhausted` above
    // domain::kAdapterSetsMax names or where both take more than there may be used.
    [[nodiscard]] virtual Status join(std::string_view base, ModelSpec const& spec) = 0;

    // Removes a model: refuses new requests for it (`not_found`), lets those inside end,
    // ends its worker, and then forgets it, its metrics too. Until then its names stay
    // taken and status() tells `removing`. Of one that is being removed already it is fine.
    // What joined another one leaves it at once: requests that its worker has end as they
    // began, those that wait fail, and the worker stays.
    // Fails with `invalid_argument` for an empty id, `not_found`. Aliases and ids of other variants are no ids.
    [[nodiscard]] virtual Status remove(std::string_view id) = 0;

    // `request.model` empty: the first model added. Fails with `invalid_argument`
    // also for a request that no frame can carry (see protocol.h).
    // REQUIRES: domain::validate(request)
    [[nodiscard]] virtual Result<std::unique_ptr<Generation>> submit(domain::GenerateRequest request) = 0;

    // Has a model loaded that is cold, without a request for it, to stay for `keep_alive`
    // as a request would say it. Fails with `not_found`, `exhausted`, or `unavailable`
    // while draining. One that is `failed` is tried again only if a request for it would be.
    [[nodiscard]] virtual Status warm(std::string_view model, std::optional<Duration> keep_alive) = 0;

    // The model leaves memory once what it has was answered, pinned or not; what comes for
    // it meanwhile has it loaded again. One whose worker died is not started again unless something waits
    // for it. Fails with `not_found`.
    [[nodiscard]] virtual Status unload(std::string_view model) = 0;

    // Its file is not to be used: what is inside fails with `why`, and so does what comes
    // for it; its worker is killed, and none is started before resume(). Of one that is
    // suspended already the reason is another one. Fails with `not_found`.
    [[nodiscard]] virtual Status suspend(std::string_view id, Error why) = 0;
    // The file can be used again, also where it could not be loaded. Fine for one that is not suspended.
    [[nodiscard]] virtual Status resume(std::string_view id) = 0;

    // Loads the model as `spec` has it beside the present one, moves the name and its
    // aliases over when that is ready, with all its workers, and lets the present one finish
    // what it has. No request is lost or refused by that. Fails with `not_found`; `overloaded` while it is
    // being swapped; `exhausted` when both together, and those that are pinned, take more than
    // there may be used, or others did not make room in time; `unavailable` when the new one is not
    // ready within `timeout`: then nothing has changed. The present one stays until the name is moved.
    // Id and aliases of `spec` do not count.
    [[nodiscard]] virtual net::Task<Status> swap(std::string model, ModelSpec spec, Duration timeout) = 0;

    // From now on, until it is told otherwise. To be told again as often as it is looked: under
    // `high` the idle model that is worth least goes each time, and not the next one before
    // its memory is free and somebody has looked again.
    virtual void relieve(Pressure pressure) = 0;

    // Id or alias; empty = the first. Of a name with adapters what its model does; memory is that one's alone.
    [[nodiscard]] virtual Result<ModelStatus> status(std::string_view model) const = 0;
    // Each model, then its variants.
    [[nodiscard]] virtual std::vector<ModelStatus> models() const = 0;
    [[nodiscard]] virtual PoolMemory memory() const = 0;

    // Seconds a refused caller should wait: until a model that failed is tried again, else from the
    // measured rate, 1 to 60.
    [[nodiscard]] virtual std::uint32_t retry_after_s(std::string_view model) const = 0;

    // Seconds a new request of that class is predicted to wait, rounded up, at most an hour; nothing if unknown.
    [[nodiscard]] virtual std::optional<std::uint32_t> predicted_wait_s(std::string_view model,
                                                                        domain::Priority priority) const = 0;

    // Asks the engines of the model's workers that are ready what they are doing, all at once, which
    // each says at the end of its step; of those that have not by `timeout` what they said last time.
    // Callers share one question. In order of instance; where none is ready, of the first alone. Never
    // empty. Fails with `not_found`.
    [[nodiscard]] virtual net::Task<Result<std::vector<EngineView>>> engine_views(std::string model,
                                                                                  Duration timeout) = 0;

    // All models ready, or cold or parked until somebody asks for them.
    [[nodiscard]] virtual bool ready() const = 0;

    // Refuses new requests from now on (`unavailable`).
    virtual void drain() = 0;

    // Cancels what is left, closes the workers, waits up to `grace`, then kills.
    virtual net::Task<void> stop(Duration grace) = 0;
};

}  // namespace hearth::serving
