// Model: one model of the pool, or one instance of it: its requests, and the worker that serves them.
//
// Lives as long as the pool or its supervise() coroutine. model_requests.cpp
// holds what happens to requests, model_waiting.cpp how long they wait and what
// the engine tells, model_residency.cpp whether it is loaded, model.cpp what
// happens to the worker.
//
// Threads: the loop's. Private to serving.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/completion_rate.h"
#include "serving/flight.h"
#include "serving/launcher.h"
#include "serving/model_metrics.h"
#include "serving/pool.h"
#include "serving/protocol.h"
#include "serving/residency.h"
#include "serving/waiting_line.h"

namespace hearth::serving {

class Model : public std::enable_shared_from_this<Model> {
public:
    struct Environment {
        net::Loop& loop;
        PoolOptions options;
        Launcher& launcher;
        Clock const& clock;
        telemetry::Log& log;
        telemetry::Registry& metrics;
        std::shared_ptr<net::Signal> residency;  // something changed that decides who is loaded
    };

    // `number`: of those that serve the same model, from 1 (instances.h).
    Model(Environment environment, ModelSpec spec, std::int64_t created_unix, std::uint32_t number = 1);
    Model(Model const&) = delete;
    Model& operator=(Model const&) = delete;

    // Loads it, unless it is lazy or there is a budget to wait for. Beside the model
    // that has its name it is loaded at once, and shows nothing of itself in the metrics.
    enum class Place : std::uint8_t { named, beside };
    void start(Place place);
    void take_name();
    // It is another's now: as retire(), and it shows nothing of itself any more.
    void lose_name();

    // --- residency: what is decided elsewhere is done here ---
    [[nodiscard]] Resident resident() const;
    // When it is loaded.
    [[nodiscard]] std::uint64_t cost() const;
    // It is to be loaded, although no request waits for that.
    void warm();
    void load();
    // REQUIRES: it is parked, or ready and no request is with its worker
    void let_go();
    // What loading it again takes.
    [[nodiscard]] Duration reload_cost() const;
    // Its worker keeps what is slow to make; one that cannot goes.
    // REQUIRES: it is ready and no request is with its worker
    void park();
    // If it is ready it takes nothing new from now on: what comes waits until it was loaded again.
    void drain_for_others() { draining_ = draining_ || state_ == ModelState::ready; }
    [[nodiscard]] bool drains_for_others() const { return state_ == ModelState::ready && draining_ && !ends_; }
    // Nobody waits for its room any more.
    // REQUIRES: drains_for_others()
    void stay();
    // If it lost its worker there is no next one by itself: what waits has it loaded again.
    void stand_down();
    // Since when it may be tried again, of one that failed for a reason that may have passed.
    [[nodiscard]] std::optional<Instant> retry_at() const;
    [[nodiscard]] bool retry_is_due() const;
    // If there is such a time it is cold from now on, be it due or not. False: it stays as it is.
    bool try_again();
    // Stays for so long once it is idle, until it is told otherwise; negative: for ever.
    void keep(Duration keep_alive);
    // What its cache of prefixes in host memory may take; absent: as it was started with.
    void limit_cache(std::optional<std::uint64_t> bytes);
    // Leaves once what it has was answered. What comes later has it loaded again.
    void unload();

    // --- models of the same file that it serves as well: see Pool::join() ---
    // At most domain::kAdapterSetsMax, those included that are gone but not forgotten.
    [[nodiscard]] bool has_place_for(Variant const& variant) const;
    // A worker that runs without the new set drains.
    // REQUIRES: has_place_for(variant)
    void join(Variant variant);
    // Requests for its adapters that no worker was given fail; those inside end as they began.
    // REQUIRES: that variant is there, joined and not gone
    void part(std::string_view id);

    // --- its file is not to be used, or can be again ---
    void suspend(Error why);
    void resume();
    [[nodiscard]] std::optional<Error> const& suspended() const { return suspended_; }

    // It has a worker that takes them at once.
    [[nodiscard]] bool takes_requests() const { return state_ == ModelState::ready && !draining_; }
    // It drains, or its worker was lost while it did.
    [[nodiscard]] bool drains() const {
        return draining_ && (state_ == ModelState::ready || state_ == ModelState::restarting);
    }
    [[nodiscard]] std::size_t inside() const { return flights_.size(); }
    // Whether it would be taken in, as far as that is known before it is made a frame.
    [[nodiscard]] bool has_room_for(domain::GenerateRequest const& request) const;
    // What of its cost is pages of the file; absent before it was loaded.
    [[nodiscard]] std::optional<std::uint64_t> shared_bytes() const {
        return info_ ? std::optional(info_->shared_bytes) : std::nullopt;
    }

    [[nodiscard]] Result<std::shared_ptr<Flight>> submit(RequestId id, domain::GenerateRequest request);

    // --- from the consumer of a flight ---
    void cancel(Flight& flight);
    void taken(Flight& flight, std::uint32_t tokens);
    [[nodiscard]] Waiting waiting(Flight const& flight) const;

    // Asks its engine for a report, if it has one; the question's number.
    [[nodiscard]] std::uint64_t ask_report();
    // When that was answered, or `timeout` passed. `self` keeps the model alive meanwhile.
    static net::Task<EngineView> engine_view(std::shared_ptr<Model> self, std::uint64_t question, Duration timeout);

    [[nodiscard]] ModelSpec const& spec() const { return spec_; }
    // With that set of adapters on top.
    [[nodiscard]] ModelStatus status(std::uint32_t adapters = 0) const;
    [[nodiscard]] ModelState state() const { return state_; }
    [[nodiscard]] std::uint32_t retry_after_s() const;
    [[nodiscard]] std::optional<std::uint32_t> predicted_wait_s(domain::Priority priority) const;

    // Cancels all requests and lets the worker go; `over` is called when it is gone.
    void close(std::function<void()> over);
    void kill();
    [[nodiscard]] bool over() const { return over_; }

    // --- removal: submit() refuses, what is inside ends, then the pool closes and forgets it ---
    void retire();
    [[nodiscard]] bool retiring() const { return retiring_; }
    // Retiring, and nothing is left inside.
    [[nodiscard]] bool to_close() const { return retiring_ && !closing_ && flights_.empty(); }
    // REQUIRES: over()
    void forget_metrics();

    // The pool goes away, and with it everything Environment refers to.
    void abandon();

private:
    struct Worker {
        std::unique_ptr<WorkerHandle> handle;
        std::unique_ptr<net::Pipe> pipe;
        FrameReader frames{kWorkerFrameBytesMax};
        Instant launched;
        Instant ready;         // when state_ became ready
        Instant heard;         // the last bytes
        Instant pinged;        // the last Ping
        Instant stepped;       // heartbeat moved, or nothing could move it
        std::uint64_t nonce = 0;     // of the last Ping
        std::uint64_t answered = 0;  // of the last Pong
        std::uint64_t heartbeat = 0;
        std::uint32_t log_lines = 0;  // since the last Ping
        std::size_t sets = 0;         // of adapters, that it was started with
        std::string lost;             // why it is over; empty while it lives
    };

    // --- model_residency.cpp ---
    // Somebody waits for it to be loaded.
    void want();
    void forget_wish();
    // As unload(), but who wants it loaded still does.
    void leave_when_answered();
    void gone();
    void revive();
    void leave_memory();
    void handle_parked(ParkedFrame const& parked);
    [[nodiscard]] std::uint64_t parked_cost() const;
    void forget_gone_variants();
    [[nodiscard]] bool is_pinned() const;
    void check_cost();
    void send_cache_limit();
    [[nodiscard]] std::optional<Duration> idle_limit() const;
    [[nodiscard]] std::optional<Duration> idle_left() const;

    // --- model.cpp: the worker ---
    net::Task<void> supervise(std::shared_ptr<Model> self);
    net::Task<void> attend();
    net::Task<void> collect();
    void forget_engine();
    net::Task<void> back_off();
    bool launch();
    void start_failed(std::string problem);
    [[nodiscard]] bool no_worker_works() const { return starts_failed_ >= env_.options.starts_failed_max; }
    void give_up();
    [[nodiscard]] Instant next_check() const;
    void check(Instant planned);
    [[nodiscard]] Duration silence_limit() const;
    [[nodiscard]] bool could_step() const;
    void ping(Instant now);
    void on_bytes(std::string_view bytes);
    void on_closed();
    void handle(Frame& frame);
    void handle_ready(ReadyFrame& ready);
    void handle_load_failed(Error const& error);
    void handle_pong(PongFrame const& pong);
    void handle_log(LogFrame const& line);
    void handle_report(ReportFrame& answer);
    // The worker is not to be trusted any more: its requests are settled now.
    enum class Ending : std::uint8_t { kill, by_itself };
    void lose(std::string why, Ending ending = Ending::kill);
    void set_state(ModelState state);

    // --- model_requests.cpp: the requests ---
    void send(Flight& flight);
    void send_unsent();
    [[nodiscard]] bool may_be_sent(Flight const& flight) const;
    [[nodiscard]] bool wants_what_is_gone(Flight const& flight) const;
    // Empty, or why no worker could send that.
    [[nodiscard]] char const* handle_event(RequestId id, domain::Event& event, Instant now);
    [[nodiscard]] char const* handle_started(Flight& flight, domain::Started const& event, Instant now);
    [[nodiscard]] char const* handle_delta(Flight& flight, domain::Delta const& event, Instant now);
    [[nodiscard]] char const* handle_embedded(Flight& flight, domain::Embedded const& event);
    [[nodiscard]] char const* handle_choice_done(Flight& flight, domain::ChoiceDone const& event);
    void deliver(Flight& flight, domain::Event event);
    void emitted(Flight& flight);
    void leave(Flight const& flight);
    void end(std::shared_ptr<Flight> flight, domain::Event terminal, Instant now);
    void end_cancelled(std::shared_ptr<Flight> flight, Instant now);
    [[nodiscard]] bool is_suspect(Flight const& flight, std::uint32_t sequences_before) const;
    void settle_lost();
    void fail_all(Error const& error);
    void drop_frame(Flight& flight);
    [[nodiscard]] std::vector<std::shared_ptr<Flight>> in_order() const;
    void show_load();
    [[nodiscard]] Error unavailable() const;
    [[nodiscard]] Error removed(Flight const& flight) const;

    // --- model_waiting.cpp: how long requests wait ---
    // It is full for a request of that class when so many are inside.
    [[nodiscard]] std::uint32_t places(domain::Priority priority) const;
    [[nodiscard]] std::uint32_t free_places(std::optional<Instant> queued_since) const;
    [[nodiscard]] std::optional<double> predicted_s(std::uint32_t ahead) const;
    [[nodiscard]] std::optional<double> load_left_s() const;
    [[nodiscard]] Status check_wait(domain::GenerateRequest const& request) const;
    void ended(Flight const& flight, Instant now);
    void show_queue();

    Environment const env_;
    ModelSpec spec_;  // only its variants change, and what they take
    std::int64_t const created_unix_;
    std::string const label_;  // in logs and metrics
    ModelMetrics metrics_;
    net::Signal changed_;  // the worker's end, close()

    ModelState state_ = ModelState::starting;
    std::unique_ptr<Worker> worker_;  // from launch() until it was collected
    std::string problem_;
    float progress_ = 0;
    std::optional<domain::ModelInfo> info_;
    domain::EngineStats stats_;
    std::uint64_t restarts_ = 0;
    std::uint32_t starts_failed_ = 0;  // in a row
    Duration backoff_;
    Duration retry_wait_;              // after the next load that fails for want of memory
    std::optional<Instant> retry_at_;  // of ModelState::failed; absent: for good
    bool wanted_ = false;    // it is to have a worker
    bool draining_ = false;  // its worker gets no more requests
    bool leaves_ = false;    // it is to drain as soon as it is ready
    bool ends_ = false;      // where it goes it does not stay parked
    // What its worker does about being parked, of ModelState::unloading, loading and parked.
    enum class Parking : std::uint8_t { no, begins, parked, wakes };
    Parking parking_ = Parking::no;
    static constexpr std::uint32_t kParksFailedMax = 2;
    std::uint32_t parks_failed_ = 0;   // in a row: its worker went instead
    std::uint64_t parked_bytes_ = 0;   // what it kept the last time; 0: it never was
    std::optional<Duration> load_took_;  // the last time that it was loaded, not woken
    std::optional<Error> suspended_;  // why nothing may use its file
    bool cold_next_ = false;          // when its worker has ended it is as if there never was one
    bool asked_ = false;     // its worker was sent a request
    std::optional<Duration> keep_alive_;   // idle for so long, it goes; absent: it stays
    std::optional<Instant> wanted_since_;  // somebody waits for it to be loaded,
    bool warmed_ = false;                  // and not only requests
    Instant used_{};         // the last request ended, or it got ready
    bool retiring_ = false;
    std::uint64_t cost_told_ = 0;  // the last that the pool looked at
    std::uint64_t unmeasured_bytes_ = 0;  // of variants that no worker was ready with yet
    std::optional<std::uint64_t> cache_limit_;       // absent: as started
    std::optional<std::uint64_t> cache_limit_sent_;  // to this worker
    bool shown_ = true;      // the gauges of its name are its own
    bool closing_ = false;
    bool abandoned_ = false;
    bool over_ = false;
    std::function<void()> on_over_;

    std::unordered_map<RequestId, std::shared_ptr<Flight>> flights_;  // until their terminal event
    WaitingLine line_;                 // of those, without Started
    std::uint32_t choices_begun_ = 0;  // of the others
    std::uint64_t frame_bytes_ = 0;    // of those, kept for a replay
    CompletionRate rate_;

    // The worker's last report, and the question under way. Shared with those who wait for it.
    struct Reporting {
        explicit Reporting(net::Loop& loop) : answered(loop) {}
        std::uint64_t asked = 0;  // nonces
        std::uint64_t heard = 0;
        std::optional<domain::EngineReport> last;
        Instant at{};
        net::Signal answered;
    };
    std::shared_ptr<Reporting> reporting_;
};

}  // namespace hearth::serving
