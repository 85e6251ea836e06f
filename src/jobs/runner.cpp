#include "jobs/runner.h"

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/assert.h"

namespace hearth::jobs {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAfterError{1000};  // before the queue is asked again
constexpr milliseconds kWaitMin{10};       // so that a clock that stands still costs nothing

// One job that runs.
class Active final : public Context {
public:
    Active(Queue& queue, Lease lease) : queue_(queue), lease_(std::move(lease)) {}

    [[nodiscard]] Job const& job() const override { return lease_.job; }
    [[nodiscard]] std::stop_token stop() const override { return stop_.get_token(); }
    [[nodiscard]] Status report(Progress progress) override {
        if (stop_.stop_requested()) return Error(Code::cancelled, "the job is to stop");
        auto reported = queue_.report(lease_, std::move(progress));
        if (!reported && reported.error().code == Code::cancelled) stop_.request_stop();
        // A disk that is full for progress is no reason to lose the work.
        return reported || reported.error().code != Code::cancelled ? ok() : reported;
    }

    void request_stop() { stop_.request_stop(); }
    [[nodiscard]] Lease const& lease() const { return lease_; }

private:
    Queue& queue_;
    Lease const lease_;
    std::stop_source stop_;
};

}  // namespace

struct Runner::Impl {
    struct Kind {
        std::string name;
        Handler* handler;
        std::uint32_t at_once;
    };

    Queue& queue;
    Options const options;
    std::vector<Kind> kinds;  // constant after start()

    std::mutex mutex;
    std::condition_variable wake;
    // Under `mutex`:
    bool stopping = false;
    std::uint64_t changes = 0;  // of jobs: something may be due
    std::list<std::shared_ptr<Active>> active;

    Watch watch;
    std::vector<std::thread> threads;

    Impl(Queue& q, Options o) : queue(q), options(std::move(o)) {}

    void on_error(Error const& error) const {
        if (options.on_error) options.on_error(error);
    }

    // From any thread; does not call the queue.
    void on_change(Job const& job) {
        std::lock_guard const lock(mutex);
        if (job.state == State::running) return;
        ++changes;
        for (auto const& one : active) {
            if (one->job().id == job.id) one->request_stop();
        }
        wake.notify_all();
    }

    void work(Kind const& kind);
    void run_one(Kind const& kind, Lease lease);
    void settle(Active& one, Outcome const& outcome);
    void renew();
};

void Runner::Impl::work(Kind const& kind) {
    std::unique_lock lock(mutex);
    while (!stopping) {
        auto const seen = changes;
        lock.unlock();
        auto wait = options.look_again;
        auto claimed = queue.claim(kind.name, options.holder, options.lease);
        if (!claimed) {
            on_error(claimed.error());
            wait = kAfterError;
        } else if (*claimed) {
            run_one(kind, **std::move(claimed));
            wait = milliseconds(0);
        } else if (auto const due = queue.next_due(kind.name); due && *due) {
            wait = std::clamp(**due, kWaitMin, options.look_again);
        }
        lock.lock();
        wake.wait_for(lock, wait, [&] { return stopping || changes != seen; });
    }
}

void Runner::Impl::run_one(Kind const& kind, Lease lease) {
    auto one = std::make_shared<Active>(queue, std::move(lease));
    std::unique_lock lock(mutex);
    auto const place = active.insert(active.end(), one);
    if (stopping) one->request_stop();
    lock.unlock();
    // Between the claim and this line it may have been paused: asked again here.
    auto const renewed = queue.renew(one->lease(), options.lease);
    if (!renewed && renewed.error().code == Code::cancelled) one->request_stop();
    std::optional<Outcome> outcome;
    if (!one->stop().stop_requested()) outcome = kind.handler->run(*one);
    bool const stopped = one->stop().stop_requested();
    lock.lock();
    active.erase(place);
    lock.unlock();
    // Work that was finished although it should stop is finished.
    if (outcome && (outcome->status || !stopped)) return settle(*one, *outcome);
    if (auto const released = queue.release(one->lease()); !released) on_error(released.error());
}

void Runner::Impl::settle(Active& one, Outcome const& outcome) {
    auto const settled = outcome.status ? queue.complete(one.lease())
                                        : queue.fail(one.lease(), outcome.status.error(), outcome.retry, outcome.after);
    if (settled) return;
    if (settled.error().code != Code::cancelled) on_error(settled.error());
    if (auto const released = queue.release(one.lease()); !released) on_error(released.error());
}

void Runner::Impl::renew() {
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, options.lease / 3, [this] { return stopping; })) {
        auto const held = active;
        lock.unlock();
        for (auto const& one : held) {
            auto const renewed = queue.renew(one->lease(), options.lease);
            if (renewed) continue;
            if (renewed.error().code == Code::cancelled) one->request_stop();
            else on_error(renewed.error());
        }
        lock.lock();
    }
}

Runner::Runner(Queue& queue, Options options) : impl_(std::make_unique<Impl>(queue, std::move(options))) {}

Runner::~Runner() { stop(); }

void Runner::add(std::string kind, Handler& handler, std::uint32_t at_once) {
    HEARTH_ASSERT(impl_->threads.empty(), "kinds are added before start()");
    HEARTH_ASSERT(at_once >= 1 && at_once <= kAtOnceMax, "1 to kAtOnceMax jobs of a kind at once");
    impl_->kinds.push_back({std::move(kind), &handler, at_once});
}

Status Runner::start() {
    HEARTH_ASSERT(impl_->threads.empty(), "start() is called once");
    auto& impl = *impl_;
    HEARTH_TRY(impl.watch, impl.queue.watch([&impl](Job const& job) { impl.on_change(job); }));
    impl.threads.emplace_back([&impl] { impl.renew(); });
    for (auto const& kind : impl.kinds) {
        for (std::uint32_t i = 0; i < kind.at_once; ++i) impl.threads.emplace_back([&impl, &kind] { impl.work(kind); });
    }
    return ok();
}

void Runner::stop() {
    std::unique_lock lock(impl_->mutex);
    impl_->stopping = true;
    for (auto const& one : impl_->active) one->request_stop();
    impl_->wake.notify_all();
    lock.unlock();
    for (auto& thread : impl_->threads) thread.join();
    impl_->threads.clear();
    impl_->watch.end();
}

}  // namespace hearth::jobs
