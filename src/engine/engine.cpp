// The thread around EngineCore.
//
// Callers leave requests and signals in a mailbox; the engine thread takes all
// of it between two steps. Waiting for the mailbox costs no CPU. What is inside
// is counted under the same lock, so `overloaded` is answered without asking the
// thread.
#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "engine/engine_core.h"
#include "engine/prepare.h"

namespace hearth::engine {
namespace {

// What saving computed prefixes may take when the engine closes.
constexpr Duration kGoodbye = std::chrono::seconds(2);

// What a caller asked of a request since the engine thread last looked.
struct Signal {
    RequestId id;
    std::uint64_t granted;
    bool cancelled;
};

// A request inside; its signals wait here until submit() has posted it.
struct Inside {
    bool posted = false;
    Signal early;
};

struct Mailbox {
    std::vector<PreparedRequest> requests;
    std::vector<Signal> signals;  // one per id at most: never more than requests_max
    std::vector<std::function<void(domain::EngineReport)>> reports;
    bool closing = false;
    bool fetched = false;  // what a request waited for

    [[nodiscard]] bool empty() const {
        return requests.empty() && signals.empty() && reports.empty() && !closing && !fetched;
    }
};

void merge(Signal& into, Signal const& more) {
    into.granted += more.granted;
    into.cancelled = into.cancelled || more.cancelled;
}

Status check_public_prefixes(std::vector<std::string> const& texts) {
    auto const refused = [](std::string why) {
        return Error(Code::invalid_argument, std::move(why), "public_prefixes");
    };
    if (texts.size() > kPublicPrefixesMax)
        return refused(fmt::format("there are {} public prefixes, the limit is {}", texts.size(), kPublicPrefixesMax));
    for (auto const& text : texts) {
        if (text.empty() || text.size() > kPublicPrefixBytesMax || !is_valid_utf8(text)) {
            return refused(fmt::format("a public prefix must be UTF-8 of 1 to {} bytes, got {} bytes",
                                       kPublicPrefixBytesMax, text.size()));
        }
    }
    return ok();
}

Status check_options(llama::Properties const& properties, Options const& options) {
    auto const positive = [](std::uint32_t value, char const* name) -> Status {
        if (value > 0) return ok();
        return Error(Code::invalid_argument, fmt::format("'{}' must be at least 1, got 0", name), name);
    };
    HEARTH_CHECK(positive(options.requests_max, "requests_max"));
    HEARTH_CHECK(positive(options.mixed_tokens_max, "mixed_tokens_max"));
    HEARTH_CHECK(positive(options.step_ms_target, "step_ms_target"));
    HEARTH_CHECK(positive(options.ageing_ms, "ageing_ms"));
    for (auto const& [tenant, weight] : options.tenant_weights) {
        if (weight > 0 && std::isfinite(weight)) continue;
        return Error(Code::invalid_argument,
                     fmt::format("the weight of tenant '{}' must be above 0, got {}", tenant, weight),
                     "tenant_weights");
    }
    HEARTH_CHECK(check_public_prefixes(options.public_prefixes));
    HEARTH_CHECK(positive(options.credit, "credit"));
    HEARTH_CHECK(positive(options.draft_max, "draft_max"));
    HEARTH_CHECK(positive(properties.sequences_max, "sequences_max"));
    if (properties.batch_max < 2) {
        return Error(Code::invalid_argument,
                     fmt::format("'batch_max' must be at least 2, got {}", properties.batch_max), "batch_max");
    }
    std::uint32_t const limit = std::min(properties.info.context_request, properties.kv_cells);
    if (limit < 2)
        return Error(Code::invalid_argument, fmt::format("a context of {} tokens leaves no room for an answer", limit),
                     "context_request");
    return ok();
}

class ThreadedEngine final : public Engine {
public:
    ThreadedEngine(std::unique_ptr<llama::Backend> backend, Options const& options, Clock const& clock, Sink sink,
                   std::unique_ptr<llama::Backend> draft)
        : backend_(std::move(backend)),
          draft_(std::move(draft)),
          options_(options),
          clock_(clock),
          sink_(std::move(sink)),
          preparer_(*backend_, options.seed, options.public_prefixes),
          core_(*backend_, options, clock, preparer_.end_tokens(), [this] { wake(); }),
          stats_(core_.stats()),
          thread_([this] {
              if (draft_) core_.guess_with(*draft_);
              run();
          }) {}

    ~ThreadedEngine() override { close(); }

    [[nodiscard]] Status submit(RequestId id, domain::GenerateRequest request) override;
    void cancel(RequestId id) override { signal({id, 0, true}); }
    void grant(RequestId id, std::uint32_t tokens) override { signal({id, tokens, false}); }
    [[nodiscard]] domain::EngineStats stats() const override;
    [[nodiscard]] bool report(std::function<void(domain::EngineReport)> answer) override;
    void limit_cache(std::uint64_t bytes) override { core_.limit_cache(bytes); }
    [[nodiscard]] std::uint64_t heartbeat() const override { return heartbeat_.load(std::memory_order_relaxed); }
    void close() override;
    [[nodiscard]] llama::Backend const& backend() const override { return *backend_; }
    [[nodiscard]] Backends release() override {
        close();
        return {std::move(backend_), std::move(draft_)};
    }

private:
    [[nodiscard]] Status enter(RequestId id);
    void leave(RequestId id);
    [[nodiscard]] Status post(PreparedRequest prepared);
    void signal(Signal signal);
    void wake();
    void run();
    void wait_for_mail(std::unique_lock<std::mutex>& lock);
    void take_mail(Mailbox mail);
    void deliver();

    std::unique_ptr<llama::Backend> backend_;  // null after release()
    std::unique_ptr<llama::Backend> draft_;    // or null
    Options const options_;
    Clock const& clock_;
    Sink const sink_;
    Preparer preparer_;  // its prepare() from any thread

    mutable std::mutex mutex_;
    std::condition_variable arrived_;
    Mailbox mailbox_;                         // under mutex_

    EngineCore core_;  // engine thread only, but for limit_cache(); threads of its tiers call wake()

    std::unordered_map<RequestId, Inside> inside_;  // under mutex_
    bool closed_ = false;                     // under mutex_
    domain::EngineStats stats_;               // under mutex_

    std::atomic<std::uint64_t> heartbeat_{0};
    std::mutex join_mutex_;
    std::thread thread_;  // under join_mutex_; last: it uses all of the above
};

Status ThreadedEngine::submit(RequestId id, domain::GenerateRequest request) {
    HEARTH_CHECK(enter(id));
    auto prepared = preparer_.prepare(id, std::move(request), clock_.now());
    if (!prepared) {
        leave(id);
        return std::move(prepared).error();
    }
    return post(std::move(prepared).value());
}

Status ThreadedEngine::enter(RequestId id) {
    std::scoped_lock const lock(mutex_);
    if (closed_) return Error(Code::cancelled, "the engine is closing");
    if (inside_.size() >= options_.requests_max) {
        return Error(Code::overloaded, fmt::format("{} requests are inside the engine, the limit is {}", inside_.size(),
                                                   options_.requests_max));
    }
    if (!inside_.try_emplace(id, Inside{false, {id, 0, false}}).second)
        return Error(Code::invalid_argument, fmt::format("request {} is inside already", id));
    return ok();
}

void ThreadedEngine::leave(RequestId id) {
    std::scoped_lock const lock(mutex_);
    inside_.erase(id);
}

Status ThreadedEngine::post(PreparedRequest prepared) {
    auto const priority = prepared.priority;
    {
        std::scoped_lock const lock(mutex_);
        auto const inside = inside_.find(prepared.id);
        if (closed_) {
            inside_.erase(inside);
            return Error(Code::cancelled, "the engine is closing");
        }
        inside->second.posted = true;
        Signal const& early = inside->second.early;
        if (early.granted > 0 || early.cancelled) mailbox_.signals.push_back(early);
        mailbox_.requests.push_back(std::move(prepared));
    }
    arrived_.notify_one();
    core_.hurry(priority);  // after the mailbox has it: the step that ends takes it
    return ok();
}

void ThreadedEngine::signal(Signal signal) {
    {
        std::scoped_lock const lock(mutex_);
        auto const inside = inside_.find(signal.id);
        if (closed_ || inside == inside_.end()) return;
        if (!inside->second.posted) {
            merge(inside->second.early, signal);
            return;
        }
        auto const same = [&](Signal const& known) { return known.id == signal.id; };
        auto const known = std::find_if(mailbox_.signals.begin(), mailbox_.signals.end(), same);
        if (known == mailbox_.signals.end()) {
            mailbox_.signals.push_back(signal);
        } else {
            merge(*known, signal);
        }
    }
    arrived_.notify_one();
}

void ThreadedEngine::wake() {
    {
        std::scoped_lock const lock(mutex_);
        mailbox_.fetched = true;
    }
    arrived_.notify_one();
}

domain::EngineStats ThreadedEngine::stats() const {
    std::scoped_lock const lock(mutex_);
    auto stats = stats_;
    core_.report_tiers(stats);
    stats.waiting += static_cast<std::uint32_t>(mailbox_.requests.size());
    return stats;
}

bool ThreadedEngine::report(std::function<void(domain::EngineReport)> answer) {
    {
        std::scoped_lock const lock(mutex_);
        if (closed_ || mailbox_.reports.size() >= kReportsMax) return false;
        mailbox_.reports.push_back(std::move(answer));
    }
    arrived_.notify_one();
    return true;
}

void ThreadedEngine::close() {
    {
        std::scoped_lock const lock(mutex_);
        closed_ = true;
        mailbox_.closing = true;
    }
    arrived_.notify_one();
    std::scoped_lock const lock(join_mutex_);
    HEARTH_ASSERT(thread_.get_id() != std::this_thread::get_id(), "the sink does not close the engine that calls it");
    if (thread_.joinable()) thread_.join();
}

void ThreadedEngine::run() {
    for (;;) {
        Mailbox mail;
        {
            std::unique_lock lock(mutex_);
            if (!core_.has_work()) wait_for_mail(lock);
            std::swap(mail, mailbox_);
            mailbox_.closing = mail.closing;
        }
        heartbeat_.fetch_add(1, std::memory_order_relaxed);
        bool const closing = mail.closing;
        auto const reports = std::move(mail.reports);
        take_mail(std::move(mail));
        if (closing) core_.cancel_all();
        auto const due = core_.next_deadline();
        if (core_.has_work() || (due && *due <= clock_.now())) {
            core_.step();
        } else {
            core_.check_integrity();
        }
        deliver();
        for (auto const& answer : reports) {
            auto report = core_.report();
            report.public_prefixes = preparer_.public_prefixes().tokens();
            answer(std::move(report));
        }
        if (!closing) continue;
        core_.save_rest(kGoodbye);
        return;
    }
}

// Returns without mail when a request's deadline passes.
void ThreadedEngine::wait_for_mail(std::unique_lock<std::mutex>& lock) {
    auto const mail = [this] { return !mailbox_.empty(); };
    if (auto const due = core_.next_deadline()) {
        arrived_.wait_for(lock, std::max(*due - clock_.now(), Duration::zero()), mail);
    } else {
        arrived_.wait(lock, mail);
    }
}

void ThreadedEngine::take_mail(Mailbox mail) {
    for (auto& request : mail.requests) core_.add(std::move(request));
    for (auto const& signal : mail.signals) {
        if (signal.granted > 0) core_.grant(signal.id, signal.granted);
        if (signal.cancelled) core_.cancel(signal.id);
    }
}

void ThreadedEngine::deliver() {
    auto& events = core_.events();
    {
        // Before the sink: who hears of an end may submit the next request at once.
        std::scoped_lock const lock(mutex_);
        stats_ = core_.stats();
        for (auto const& event : events) {
            if (domain::is_terminal(event.event)) inside_.erase(event.request);
        }
    }
    if (!events.empty()) sink_(events);
    core_.clear_events();
}

}  // namespace

std::uint32_t prompt_chunk(domain::ModelInfo const& info) {
    constexpr double kOperationsPerThread = 40e9;  // a second, of quantised kernels on a current core
    constexpr std::uint32_t kChunkMin = 32;        // below, the weights are read for too few tokens
    constexpr std::uint32_t kChunkMax = 512;
    double const per_token = 2 * static_cast<double>(std::max<std::uint64_t>(info.parameters, 1));
    double const tokens = kOperationsPerThread * std::max(info.threads, 1U) / per_token;
    std::uint32_t chunk = kChunkMin;
    while (chunk < kChunkMax && 2 * chunk <= tokens) chunk *= 2;
    return chunk;
}

Result<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<llama::Backend> backend, Options const& options,
                                               Clock const& clock, Sink sink, std::unique_ptr<llama::Backend> draft) {
    HEARTH_ASSERT(backend && sink, "an engine has a backend and a sink");
    HEARTH_CHECK(check_options(backend->properties(), options));
    if (draft) HEARTH_CHECK(DraftModel::check(*backend, *draft));
    return std::unique_ptr<Engine>(
        std::make_unique<ThreadedEngine>(std::move(backend), options, clock, std::move(sink), std::move(draft)));
}

}  // namespace hearth::engine
