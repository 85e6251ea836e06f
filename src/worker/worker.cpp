// Three threads: the caller's (loads, then submits, parks and wakes), the reader's,
// the engine's. Everything they share is the Connection, the SubmitQueue and the Seen:
// what the reader knows of the engine.
#include "worker/worker.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <csignal>
#include <ctime>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "base/prompt_thread.h"
#include "base/utf8.h"
#include "serving/protocol.h"
#include "worker/connection.h"
#include "worker/submit_queue.h"

namespace hearth::worker {
namespace {

using namespace serving;

constexpr Duration kProgressInterval = std::chrono::milliseconds(50);
constexpr std::size_t kReadBytes = 64U << 10;

std::uint64_t cpu_ms() {
    timespec spent{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return static_cast<std::uint64_t>(spent.tv_sec) * 1000 + static_cast<std::uint64_t>(spent.tv_nsec) / 1'000'000;
}

// The second number of /proc/self/statm, in pages. 0: unknown.
std::uint64_t resident_bytes(int statm_fd) {
    std::array<char, 128> text;
    auto const count = statm_fd < 0 ? -1 : ::pread(statm_fd, text.data(), text.size(), 0);
    if (count <= 0) return 0;
    char const* const begin = text.data();
    char const* const end = begin + count;
    char const* const space = std::find(begin, end, ' ');
    std::uint64_t pages = 0;
    if (space != end) std::from_chars(space + 1, end, pages);
    return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// Valid UTF-8 of at most kLogBytesMax bytes.
std::string log_text(std::string_view text) {
    std::string out;
    Utf8Carry carry;
    carry.push(text.substr(0, kLogBytesMax), out);
    if (out.size() > kLogBytesMax) {
        auto cut = out.begin() + kLogBytesMax;
        while ((static_cast<unsigned char>(*cut) & 0xc0U) == 0x80U) --cut;  // to the start of a code point
        out.erase(cut, out.end());
    }
    return out;
}

class Host {
public:
    Host(Options options, Clock const& clock)
        : options_(std::move(options)),
          clock_(clock),
          connection_(std::make_shared<Connection>(options_.fd, options_.write_timeout)),
          submits_(options_.engine.requests_max, kPromptBytesWaiting) {}

    Status run(BackendFactory const& load) {
        std::thread reader([this] { read_frames(); });
        auto status = load_engine(load);
        if (status) status = serve();
        if (engine_) engine_->close();
        finishing_.store(true, std::memory_order_release);
        connection_->shutdown();
        reader.join();
        if (broken_) status = *std::move(broken_);
        if (options_.on_finished) options_.on_finished(status);
        return status;
    }

private:
    enum class Stage : std::uint8_t { loading, serving, parking, parked };

    Status load_engine(BackendFactory const& load) {
        auto const begin = clock_.now();
        auto backend = load(progress());
        if (!backend) return load_failed(std::move(backend.error()));
        info_ = backend.value()->properties().info;
        info_.isolation = options_.isolation;
        std::unique_ptr<llama::Backend> draft;
        if (options_.load_draft) {
            auto loaded = options_.load_draft(**backend, progress());
            if (!loaded) return load_failed(std::move(loaded.error()));
            draft = *std::move(loaded);
            info_.memory_bytes += draft->properties().info.memory_bytes;
            info_.kv_bytes += draft->properties().info.kv_bytes;
        }
        auto const started = start_engine({*std::move(backend), std::move(draft)});
        if (!started) return load_failed(started.error());
        info_.resident_bytes = resident_bytes(options_.statm_fd);
        ready("loaded", begin);
        return ok();
    }

    Status start_engine(engine::Engine::Backends backends) {
        auto options = options_.engine;
        options.tiers.log = [report = progress()](int level, std::string_view text) { report.log(level, text); };
        auto const sink = [this](auto events) { send_step(events); };
        HEARTH_TRY(engine_,
                   engine::Engine::create(std::move(backends.model), options, clock_, sink, std::move(backends.draft)));
        std::lock_guard const lock(seen_mutex_);
        seen_ = {Stage::serving, engine_.get()};
        return ok();
    }

    void ready(char const* what, Instant begin) {
        auto const took_ms = to_ms(clock_.now() - begin);
        connection_->write(ReadyFrame{info_});
        connection_->write(LogFrame{1, fmt::format("{} in {:.0f} ms", what, took_ms)});
    }

    Status load_failed(Error error) {
        connection_->write(LoadFailedFrame{error});
        return error;
    }

    // The copies hold the connection weakly: a backend may keep its log for ever.
    Progress progress() {
        std::weak_ptr<Connection> const weak = connection_;
        auto report = [weak, &clock = clock_, last = std::make_shared<std::optional<Instant>>()](float value) {
            auto const connection = weak.lock();
            if (!connection || std::isnan(value)) return;
            auto const now = clock.now();
            if (*last && now - **last < kProgressInterval && value < 1) return;
            *last = now;
            connection->write(LoadingFrame{std::clamp(value, 0.0F, 1.0F)});
        };
        auto log = [weak](int level, std::string_view text) {
            auto const connection = weak.lock();
            if (connection)
                connection->write(LogFrame{static_cast<std::uint8_t>(std::clamp(level, 0, 3)), log_text(text)});
        };
        return {std::move(report), std::move(log)};
    }

    // --- the caller's thread, once the engine is there ---

    Status serve() {
        ask_for_short_slices();
        while (auto work = submits_.take()) {
            if (auto* frame = std::get_if<SubmitFrame>(&*work)) {
                submit(*frame);
                continue;
            }
            bool const wakes = std::get<SubmitQueue::Errand>(*work) == SubmitQueue::Errand::wake;
            auto const done = wakes ? wake() : park();
            if (done) continue;
            progress().log(wakes ? 3 : 1,
                           fmt::format("the model was not {}: {}", wakes ? "woken" : "parked", done.error().message));
            return wakes ? done : ok();
        }
        return ok();
    }

    void submit(SubmitFrame& frame) {
        auto const id = frame.id;
        auto const status = engine_ ? engine_->submit(id, std::move(frame.request))
                                    : Status(Error(Code::unavailable, "the model is parked"));
        bool const cancelled = submits_.finish();
        if (!status) send_event(id, domain::Failed{status.error()});
        else if (cancelled) engine_->cancel(id);
    }

    // The reader sees no engine any more. Closing it writes down what it computed.
    Status park() {
        parked_ = engine_->release();
        engine_.reset();
        HEARTH_CHECK(parked_.model->park());
        if (parked_.draft) HEARTH_CHECK(parked_.draft->park());
        ::malloc_trim(0);
        {
            std::lock_guard const lock(seen_mutex_);
            seen_.stage = Stage::parked;
        }
        connection_->write(ParkedFrame{resident_bytes(options_.statm_fd)});
        return ok();
    }

    Status wake() {
        auto const begin = clock_.now();
        HEARTH_CHECK(parked_.model->wake());
        if (parked_.draft) HEARTH_CHECK(parked_.draft->wake());
        HEARTH_CHECK(start_engine(std::move(parked_)));
        ready("woken", begin);
        return ok();
    }

    // --- the engine's thread ---

    void send_step(std::span<engine::StepEvent const> events) {
        step_.clear();
        for (auto const& event : events) {
            step_.add(event.request, event.event);
            if (step_.size() < kStepFrameBytes) continue;
            connection_->write(step_.finish());
            step_.clear();
        }
        if (!step_.empty()) connection_->write(step_.finish());
    }

    // --- the reader thread ---

    void read_frames() {
        ask_for_short_slices();  // without them requests only come later
        FrameReader frames;
        std::array<char, kReadBytes> buffer;
        auto reading = Reading::on;
        while (reading == Reading::on) {
            auto const count = connection_->read(buffer);
            if (count == 0) {
                reading = Reading::abandoned;
                break;
            }
            frames.push({buffer.data(), count});
            reading = handle_all(frames);
        }
        // Asked before submits_.close() lets the caller's thread finish: whoever is abandoned hears of it.
        bool const finishes =
            finishing_.load(std::memory_order_acquire) || (reading == Reading::closed && has_engine());
        submits_.close();
        if (!finishes && options_.on_abandoned) options_.on_abandoned();
    }

    // One that is being parked writes down what it computed.
    bool has_engine() {
        std::lock_guard const lock(seen_mutex_);
        return seen_.stage == Stage::serving || seen_.stage == Stage::parking;
    }

    enum class Reading : std::uint8_t { on, closed, abandoned };

    Reading handle_all(FrameReader& frames) {
        for (;;) {
            auto frame = frames.next();
            if (!frame) return broken(std::move(frame.error()));
            if (!*frame) return Reading::on;
            if (std::holds_alternative<CloseFrame>(**frame)) return Reading::closed;
            if (auto status = handle(**frame); !status) return broken(std::move(status.error()));
        }
    }

    Reading broken(Error error) {
        broken_ = std::move(error);
        return Reading::abandoned;
    }

    Status handle(Frame& frame) {
        // While it holds this the engine stays.
        std::lock_guard const lock(seen_mutex_);
        auto* const engine = seen_.engine;
        if (auto const* ping = std::get_if<PingFrame>(&frame)) {
            connection_->write(pong(ping->nonce, engine));
        } else if (auto const* grant = std::get_if<GrantFrame>(&frame)) {
            if (engine != nullptr) engine->grant(grant->id, grant->tokens);
        } else if (auto const* cancel = std::get_if<CancelFrame>(&frame)) {
            handle_cancel(cancel->id, engine);
        } else if (auto const* ask = std::get_if<AskReportFrame>(&frame)) {
            ask_report(ask->nonce, engine);
        } else if (auto const* limit = std::get_if<LimitCacheFrame>(&frame)) {
            limit_cache(limit->bytes, engine);
        } else if (auto* submit = std::get_if<SubmitFrame>(&frame)) {
            handle_submit(*submit);
        } else if (std::holds_alternative<ParkFrame>(frame)) {
            return send_errand(SubmitQueue::Errand::park, Stage::serving, Stage::parking);
        } else if (std::holds_alternative<WakeFrame>(frame)) {
            return send_errand(SubmitQueue::Errand::wake, Stage::parked, Stage::loading);
        } else {
            return Error(Code::corrupt, fmt::format("the front sent a worker's frame (kind {})", frame.index()));
        }
        return ok();
    }

    // REQUIRES: seen_mutex_ is held
    Status send_errand(SubmitQueue::Errand errand, Stage from, Stage to) {
        if (seen_.stage != from)
            return Error(Code::corrupt, "the front parks a worker that is not ready, or wakes one that is not parked");
        seen_ = {to, nullptr};
        submits_.send(errand);
        return ok();
    }

    PongFrame pong(std::uint64_t nonce, engine::Engine const* engine) const {
        PongFrame frame{nonce, 0, {}};
        if (engine != nullptr) {
            frame.heartbeat = engine->heartbeat();
            frame.stats = engine->stats();
        }
        frame.stats.rss_bytes = resident_bytes(options_.statm_fd);
        frame.stats.cpu_ms_total = cpu_ms();
        return frame;
    }

    // While it loads there is nothing to tell; and whoever asks too often hears of the earlier ones.
    void ask_report(std::uint64_t nonce, engine::Engine* engine) const {
        if (engine == nullptr) return;
        auto answer = [connection = connection_, nonce](domain::EngineReport report) {
            connection->write(ReportFrame{nonce, std::move(report)});
        };
        static_cast<void>(engine->report(std::move(answer)));
    }

    // What was given up goes back to the system: blobs are many and of all sizes.
    static void limit_cache(std::uint64_t bytes, engine::Engine* engine) {
        if (engine == nullptr) return;
        engine->limit_cache(bytes);
        ::malloc_trim(0);
    }

    void handle_submit(SubmitFrame& submit) {
        if (submits_.push(submit)) return;
        auto message = fmt::format("{} requests or {} MiB of prompts wait to be tokenised already, which is the limit",
                                   options_.engine.requests_max, kPromptBytesWaiting >> 20);
        send_event(submit.id, domain::Failed{Error(Code::overloaded, std::move(message))});
    }

    void handle_cancel(RequestId id, engine::Engine* engine) {
        auto const [where, choices] = submits_.cancel(id);
        if (where == SubmitQueue::Cancel::elsewhere && engine != nullptr) engine->cancel(id);
        if (where != SubmitQueue::Cancel::removed) return;
        StepEncoder step;
        for (std::uint32_t choice = 0; choice < choices; ++choice)
            step.add(id, domain::ChoiceDone{choice, domain::FinishReason::cancelled, {}});
        step.add(id, domain::Done{});
        connection_->write(step.finish());
    }

    void send_event(RequestId id, domain::Event const& event) {
        StepEncoder step;
        step.add(id, event);
        connection_->write(step.finish());
    }

    Options const options_;
    Clock const& clock_;
    std::shared_ptr<Connection> const connection_;
    SubmitQueue submits_;
    StepEncoder step_;                                     // the engine's thread
    std::optional<Error> broken_;                          // the reader's until it ended: what the front sent
    std::atomic<bool> finishing_ = false;                  // run() is about to return
    domain::ModelInfo info_;                               // the caller's thread
    engine::Engine::Backends parked_;                      // the caller's thread: without an engine
    std::unique_ptr<engine::Engine> engine_;               // the caller's thread

    struct Seen {
        Stage stage = Stage::loading;
        engine::Engine* engine = nullptr;  // of Stage::serving
    };
    std::mutex seen_mutex_;
    Seen seen_;  // under seen_mutex_; the reader takes the engine away, the caller gives one
};

}  // namespace

Status run(Options options, BackendFactory const& load, Clock const& clock) {
    return Host(std::move(options), clock).run(load);
}

engine::Options engine_options(engine::Options base, ModelSpec const& spec) {
    if (spec.requests_max != 0) base.requests_max = spec.requests_max;
    if (spec.credit_tokens != 0) base.credit = spec.credit_tokens;
    base.prefix_cache = base.prefix_cache && spec.prefix_cache != 0;
    base.speculation = base.speculation && spec.speculation != 0;
    if (spec.draft_max != 0) base.draft_max = spec.draft_max;
    if (spec.step_ms_target != 0) base.step_ms_target = spec.step_ms_target;
    base.tenant_weights = spec.tenant_weights;
    base.public_prefixes = spec.public_prefixes;
    base.tiers.memory_bytes = spec.cache_memory_bytes;
    base.tiers.disk_bytes = spec.cache_disk_bytes;
    return base;
}

int prepare_process() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int const number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
    return ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

}  // namespace hearth::worker
