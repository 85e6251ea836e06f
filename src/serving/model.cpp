#include "serving/model.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "telemetry/log.h"

namespace hearth::serving {
namespace {

constexpr Duration kExitPoll = std::chrono::milliseconds(2);
constexpr Duration kExitByItself = std::chrono::milliseconds(200);  // after it closed its connection
constexpr Duration kExitWait = std::chrono::seconds(1);
constexpr Duration kGoodbye = std::chrono::seconds(5);
constexpr Duration kStable = std::chrono::minutes(1);  // ready for that long: the next loss is a new story
constexpr std::uint32_t kLogLinesMax = 100;            // of a worker, between two pings

}  // namespace

Model::Model(Environment environment, ModelSpec spec, std::int64_t created_unix, std::uint32_t number)
    : env_(std::move(environment)),
      spec_(std::move(spec)),
      created_unix_(created_unix),
      label_(number == 1 ? spec_.id : fmt::format("{}#{}", spec_.id, number)),
      metrics_(env_.metrics, label_),
      changed_(env_.loop),
      backoff_(env_.options.backoff_min),
      retry_wait_(env_.options.retry_min),
      reporting_(std::make_shared<Reporting>(env_.loop)) {
    if (spec_.lazy || env_.options.memory_bytes != 0) state_ = ModelState::cold;
    keep_alive_ = spec_.keep_alive;
}

void Model::start(Place place) {
    shown_ = place == Place::named;
    bool const now = !spec_.lazy || place == Place::beside;
    if (now) warm();
    // Without a budget there is nothing to decide.
    if (now && env_.options.memory_bytes == 0) load();
    set_state(state_);
    env_.loop.spawn(supervise(shared_from_this()));
}

ModelStatus Model::status(std::uint32_t adapters) const {
    ModelStatus out;
    out.id = spec_.id;
    out.aliases = spec_.aliases;
    out.path = spec_.path;
    out.definition = spec_.definition;
    out.state = suspended_ ? ModelState::damaged : state_;
    out.progress = progress_;
    if (auto const left = load_left_s())
        out.load_left_s = CompletionRate::whole(*left, 0, CompletionRate::kPredictedMax);
    out.info = info_;
    out.stats = stats_;
    out.inside = static_cast<std::uint32_t>(flights_.size());
    out.waiting = line_.size();
    out.waiting_by_class = line_.by_class();
    out.requests_max = env_.options.requests_max;
    out.restarts = restarts_;
    out.pid = worker_ ? worker_->handle->pid() : 0;
    out.problem = suspended_ ? suspended_->message : problem_;
    out.created_unix = created_unix_;
    out.awaited = !spec_.lazy && !info_ && !retiring_ && !suspended_ && state_ != ModelState::failed;
    out.removing = retiring_;
    out.context_request = spec_.context_request;
    out.kv_cells = spec_.kv_cells;
    out.memory_bytes = state_ == ModelState::parked ? parked_cost() : cost();
    out.estimated_bytes = spec_.memory_bytes;
    out.adapter_bytes = spec_.adapter_bytes;
    out.resident_bytes = stats_.rss_bytes;
    out.pinned = is_pinned();
    out.keep_alive = keep_alive_;
    out.idle_left = idle_left();
    if (adapters == 0) return out;
    auto const& variant = spec_.variants[adapters - 1];
    out.adapters = variant.adapters;
    if (variant.id == spec_.id) return out;
    out.id = variant.id;
    out.base = spec_.id;
    out.aliases.clear();
    out.definition = variant.definition;
    out.memory_bytes = out.estimated_bytes = out.resident_bytes = 0;
    return out;
}

// --- the worker's life ---

// abandoned_ is looked at after every wait: from then on nothing that env_
// refers to exists. `self` keeps this object until the coroutine ends.
net::Task<void> Model::supervise(std::shared_ptr<Model> self) {
    HEARTH_ASSERT(self.get() == this, "a model supervises itself");
    while (!closing_ && state_ != ModelState::failed) {
        if (!wanted_) {
            co_await changed_.wait();
            if (abandoned_) co_return;
            continue;
        }
        if (launch()) {
            co_await attend();
            if (abandoned_) co_return;
            co_await collect();
            if (abandoned_) co_return;
        }
        // Where it was about to go there is no next worker for nobody.
        bool const went = state_ == ModelState::restarting && (draining_ || leaves_) && flights_.empty();
        bool const cold = std::exchange(cold_next_, false) || state_ == ModelState::unloading || went;
        if (cold && !closing_) {
            gone();
            continue;
        }
        if (closing_ || state_ == ModelState::failed) break;
        if (no_worker_works() && env_.options.memory_bytes != 0) {
            give_up();
            break;
        }
        co_await back_off();
        if (abandoned_) co_return;
    }
    if (state_ != ModelState::failed) set_state(ModelState::stopped);
    over_ = true;
    env_.residency->notify();
    if (on_over_) on_over_();
}

bool Model::launch() {
    auto spec = spec_;
    spec.requests_max = env_.options.requests_max;
    spec.credit_tokens = env_.options.credit_tokens;
    auto handle = env_.launcher.launch(spec);
    if (!handle) {
        start_failed(handle.error().message);
        return false;
    }
    set_state(ModelState::starting);
    progress_ = 0;
    worker_ = std::make_unique<Worker>();
    worker_->handle = *std::move(handle);
    worker_->sets = spec_.variants.size();
    worker_->launched = worker_->heard = worker_->stepped = env_.clock.now();
    int const fd = worker_->handle->release_fd();
    worker_->pipe =
        std::make_unique<net::Pipe>(env_.loop, fd, [this](auto bytes) { on_bytes(bytes); }, [this] { on_closed(); });
    ping(worker_->launched);
    env_.log.debug("worker started", {{"model", label_}, {"pid", worker_->handle->pid()}});
    return true;
}

void Model::start_failed(std::string problem) {
    problem_ = std::move(problem);
    ++starts_failed_;
    set_state(ModelState::restarting);
    env_.residency->notify();
    env_.log.error("worker did not start", {{"model", label_}, {"problem", problem_}, {"attempts", starts_failed_}});
    if (no_worker_works()) fail_all(unavailable());
}

// It would hold room that others lack, although whoever asks for it is refused.
void Model::give_up() {
    set_state(ModelState::failed);
    forget_wish();
    retry_at_ = env_.clock.now() + backoff_;
    backoff_ = std::min(backoff_ * 2, env_.options.backoff_max);
    env_.residency->notify();
}

net::Task<void> Model::attend() {
    while (worker_->lost.empty()) {
        Instant const planned = next_check();
        co_await changed_.wait_for(planned - env_.clock.now());
        if (abandoned_) co_return;
        check(planned);
    }
}

// The lost worker's requests are settled; here only its end is waited for, so
// that the log can say how it ended.
net::Task<void> Model::collect() {
    Instant const begin = env_.clock.now();
    auto exit = worker_->handle->exit_reason();
    while (exit.empty() && env_.clock.now() - begin < kExitWait) {
        if (env_.clock.now() - begin > kExitByItself && !closing_) worker_->handle->kill();
        co_await changed_.wait_for(kExitPoll);
        if (abandoned_) co_return;
        exit = worker_->handle->exit_reason();
    }
    if (exit.empty()) exit = "still ending";
    if (closing_ || state_ == ModelState::unloading) {
        env_.log.debug("worker ended", {{"model", label_}, {"exit", exit}});
    } else if (state_ != ModelState::failed) {
        problem_ = fmt::format("{} ({})", worker_->lost, exit);
        env_.log.error("worker lost",
                       {{"model", label_}, {"problem", worker_->lost}, {"exit", exit}, {"restarts", restarts_}});
    }
    worker_.reset();
    parking_ = Parking::no;
    if (shown_) metrics_.forget_worker();
    stats_ = {};
    forget_engine();
    env_.residency->notify();
}

// What it was told, and what it was asked.
void Model::forget_engine() {
    cache_limit_sent_.reset();
    reporting_->last.reset();
    reporting_->heard = reporting_->asked;
    reporting_->answered.notify();
}

// It is over, too, when there is to be no next worker, or another one than this would be.
net::Task<void> Model::back_off() {
    Instant const until = env_.clock.now() + backoff_;
    backoff_ = std::min(backoff_ * 2, env_.options.backoff_max);
    auto const waits = [this] { return state_ == ModelState::restarting && !closing_; };
    for (Duration left = until - env_.clock.now(); left > Duration::zero() && waits();
         left = until - env_.clock.now()) {
        co_await changed_.wait_for(left);
        if (abandoned_) co_return;
    }
    if (!waits()) co_return;
    ++restarts_;
    metrics_.restarts.add();
}

// --- watching it ---

Duration Model::silence_limit() const {
    // One that goes writes down what it computed, and answers nothing any more.
    if (closing_ || state_ == ModelState::unloading) return kGoodbye;
    return state_ == ModelState::ready ? env_.options.hang_timeout : env_.options.load_hang_timeout;
}

Instant Model::next_check() const {
    Instant const next_ping = worker_->pinged + env_.options.ping_interval;
    return worker_->nonce == worker_->answered ? next_ping : std::min(next_ping, worker_->heard + silence_limit());
}

void Model::check(Instant planned) {
    auto& worker = *worker_;
    if (!worker.lost.empty()) return;
    Instant const now = env_.clock.now();
    // If this loop itself was held up, what the worker said may lie unread.
    if (now - planned > env_.options.ping_interval) worker.heard = worker.stepped = now;

    if (worker.nonce != worker.answered && now - worker.heard >= silence_limit()) {
        return lose(fmt::format("no answer for {:.0f} ms", to_ms(now - worker.heard)));
    }
    if (!could_step()) worker.stepped = now;
    if (now - worker.stepped >= env_.options.step_timeout) {
        return lose(
            fmt::format("no step for {:.0f} s although a request could go on", to_ms(now - worker.stepped) / 1000));
    }
    if (now - worker.pinged >= env_.options.ping_interval) ping(now);
}

// True if the engine has something to compute: a running request with credit
// left, or waiting ones and no running one that holds them up.
bool Model::could_step() const {
    if (state_ != ModelState::ready || stats_.running + stats_.waiting == 0) return false;
    bool any_started = false;
    bool any_sent = false;
    for (auto const& [id, flight] : flights_) {
        bool const started = flight->phase == Phase::started || flight->phase == Phase::streaming;
        if (started && flight->received < flight->granted) return true;
        any_started = any_started || started;
        any_sent = any_sent || flight->phase == Phase::sent;
    }
    return any_sent && !any_started;
}

void Model::ping(Instant now) {
    // One ping at a time, so that a worker that is busy loading is not flooded.
    worker_->pinged = now;
    worker_->log_lines = 0;
    if (worker_->nonce != worker_->answered) return;
    worker_->pipe->send(*encode(PingFrame{++worker_->nonce}));
}

// --- what it says ---

void Model::on_bytes(std::string_view bytes) {
    if (!worker_ || !worker_->lost.empty()) return;
    worker_->heard = env_.clock.now();
    worker_->frames.push(bytes);
    while (worker_->lost.empty()) {
        auto frame = worker_->frames.next();
        if (!frame) return lose("broken frame: " + frame.error().message);
        if (!*frame) return;
        handle(**frame);
    }
}

void Model::on_closed() { lose("connection closed", Ending::by_itself); }

void Model::handle(Frame& frame) {
    if (auto* step = std::get_if<StepFrame>(&frame)) {
        for (auto& entry : step->entries) {
            if (auto const* problem = handle_event(entry.id, entry.event, worker_->heard))
                return lose(fmt::format("broken frame: {}", problem));
        }
    } else if (auto const* pong = std::get_if<PongFrame>(&frame)) {
        handle_pong(*pong);
    } else if (auto const* line = std::get_if<LogFrame>(&frame)) {
        handle_log(*line);
    } else if (auto* report = std::get_if<ReportFrame>(&frame)) {
        handle_report(*report);
    } else if (auto const* loading = std::get_if<LoadingFrame>(&frame)) {
        if (state_ == ModelState::starting) set_state(ModelState::loading);
        progress_ = loading->progress;
    } else if (auto* ready = std::get_if<ReadyFrame>(&frame)) {
        handle_ready(*ready);
    } else if (auto const* failed = std::get_if<LoadFailedFrame>(&frame)) {
        handle_load_failed(failed->error);
    } else if (auto const* parked = std::get_if<ParkedFrame>(&frame)) {
        handle_parked(*parked);
    } else {
        lose("broken frame: one that only the front sends");
    }
}

void Model::handle_ready(ReadyFrame& ready) {
    if (state_ == ModelState::ready) return lose("broken frame: ready twice");
    if (state_ == ModelState::parked || state_ == ModelState::unloading)
        return lose("broken frame: ready without being woken");
    bool const woken = std::exchange(parking_, Parking::no) == Parking::wakes;
    if (woken) metrics_.wakes.add();
    worker_->ready = worker_->stepped = worker_->heard;
    if (!woken) load_took_ = worker_->ready - worker_->launched;
    info_ = std::move(ready.info);
    progress_ = 1;
    problem_.clear();
    starts_failed_ = 0;
    retry_at_.reset();
    retry_wait_ = env_.options.retry_min;
    set_state(ModelState::ready);
    forget_wish();
    draining_ = ends_ = asked_ = false;
    if (worker_->sets == spec_.variants.size()) unmeasured_bytes_ = 0;
    used_ = worker_->ready;
    env_.residency->notify();  // it may take more than it was thought to
    cost_told_ = cost();
    send_cache_limit();
    env_.log.info("worker ready", {{"model", label_},
                                   {"ms", to_ms(worker_->ready - worker_->launched)},
                                   {"woken", woken},
                                   {"pid", worker_->handle->pid()},
                                   {"isolation", info_->isolation}});
    send_unsent();
    draining_ = ends_ = std::exchange(leaves_, false);
}

void Model::handle_load_failed(Error const& error) {
    if (state_ == ModelState::ready) return lose("broken frame: load failed after ready");
    problem_ = error.message;
    set_state(ModelState::failed);
    forget_wish();
    retry_at_.reset();
    bool const may_pass = error.code == Code::overloaded || error.code == Code::exhausted;
    if (may_pass) {
        retry_at_ = env_.clock.now() + retry_wait_;
        retry_wait_ = std::min(retry_wait_ * 2, env_.options.retry_max);
    }
    env_.residency->notify();
    env_.log.error("model cannot be loaded",
                   {{"model", label_}, {"problem", problem_}, {"code", to_string(error.code)}});
    fail_all(unavailable());
}

void Model::handle_pong(PongFrame const& pong) {
    auto& worker = *worker_;
    if (pong.nonce != worker.nonce) return lose("broken frame: answer to a ping that was not sent");
    worker.answered = pong.nonce;
    if (pong.heartbeat != worker.heartbeat) worker.stepped = worker.heard;
    worker.heartbeat = pong.heartbeat;
    // While it is being parked it has no engine to ask, but its cache is there until that was written down.
    auto const cached = stats_.tier_memory_bytes;
    stats_ = pong.stats;
    if (parking_ == Parking::begins) stats_.tier_memory_bytes = cached;
    if (shown_) metrics_.report(stats_);
    show_queue();
    check_cost();
}

void Model::handle_log(LogFrame const& line) {
    auto const level = static_cast<telemetry::Level>(line.level);
    if (!env_.log.enabled(level)) return;
    if (++worker_->log_lines > kLogLinesMax) {
        if (worker_->log_lines == kLogLinesMax + 1) env_.log.warning("worker log lines dropped", {{"model", label_}});
        return;
    }
    env_.log.write(level, line.text, {{"model", label_}});
}

// --- its end ---

void Model::lose(std::string why, Ending ending) {
    if (!worker_ || !worker_->lost.empty()) return;
    worker_->lost = std::move(why);
    worker_->pipe.reset();
    if (ending == Ending::kill) worker_->handle->kill();
    bool const went_instead = parking_ == Parking::begins && ending == Ending::by_itself;
    if (went_instead && ++parks_failed_ == kParksFailedMax)
        env_.log.info("model cannot be parked, and goes instead", {{"model", label_}});
    if (state_ == ModelState::parked) set_state(ModelState::unloading);  // nothing is lost but time
    if (state_ != ModelState::failed && state_ != ModelState::unloading) {
        bool const was_ready = state_ == ModelState::ready;
        if (!was_ready && !closing_) ++starts_failed_;
        if (was_ready && env_.clock.now() - worker_->ready >= kStable) backoff_ = env_.options.backoff_min;
        problem_ = worker_->lost;
        set_state(ModelState::restarting);
        env_.residency->notify();
        settle_lost();
        if (no_worker_works()) fail_all(unavailable());
        if (ends_) leaves_ = true;  // what it has is answered by the next one
    }
    changed_.notify();
}

void Model::close(std::function<void()> over) {
    on_over_ = std::move(over);
    closing_ = true;
    for (auto const& flight : in_order()) cancel(*flight);
    if (worker_ && worker_->pipe) {
        worker_->pipe->send(*encode(CloseFrame{}));
        worker_->heard = env_.clock.now();
    }
    changed_.notify();
}

// --- its file ---

void Model::suspend(Error why) {
    suspended_ = std::move(why);
    wanted_ = draining_ = leaves_ = false;
    forget_wish();
    fail_all(*suspended_);
    if (worker_) lose("its file is not to be used any more");
    cold_next_ = worker_ != nullptr;
    bool const over = state_ == ModelState::failed || state_ == ModelState::stopped;
    set_state(worker_ || over ? state_ : ModelState::cold);
    changed_.notify();
    env_.residency->notify();
}

void Model::resume() {
    if (!suspended_) return;
    suspended_.reset();
    problem_.clear();
    starts_failed_ = parks_failed_ = 0;
    backoff_ = env_.options.backoff_min;
    retry_wait_ = env_.options.retry_min;
    if (state_ == ModelState::failed && over_ && !closing_) revive();
    else set_state(state_);
    if (!spec_.lazy && !retiring_) warm();
}

void Model::retire() {
    retiring_ = true;
    env_.residency->notify();
}

void Model::forget_metrics() {
    HEARTH_ASSERT(over_ && flights_.empty(), "nothing counts any more");
    env_.metrics.forget("model", label_);
}

void Model::kill() {
    if (!worker_) return;
    lose("killed");
    worker_->handle->kill();
}

void Model::abandon() {
    abandoned_ = true;
    if (problem_.empty()) problem_ = "the server is shutting down";
    fail_all(unavailable());
    on_over_ = nullptr;
    worker_.reset();
    changed_.notify();
}

void Model::set_state(ModelState state) {
    state_ = state;
    if (shown_) metrics_.set_state(suspended_ ? ModelState::damaged : state);
}

}  // namespace hearth::serving
