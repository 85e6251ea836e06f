// Signal keeps the handlers of its waiting coroutines itself instead of parking
// them in a timer: notify() then costs one post per waiter and no timer queue.
//
// The timer behind wait_for() is lazy. A stream waits for its next token with a
// time-out of seconds, thousands of times; each wait only notes its deadline,
// and the timer, once set, is moved when it fires too early. So a renewed
// time-out costs one reading of the clock.
#include <algorithm>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <type_traits>
#include <utility>

#include "net/loop_impl.h"

namespace hearth::net {
namespace {

namespace asio = boost::asio;

constexpr Instant kNever = Instant::max();

class Waiter {
public:
    explicit Waiter(Instant d) : deadline(d) {}
    virtual ~Waiter() = default;
    Waiter(Waiter const&) = delete;
    Waiter& operator=(Waiter const&) = delete;
    virtual void resume(asio::io_context& context, bool notified) = 0;
    Instant const deadline;
};

// Asio's handler resumes its coroutine when called and destroys it when it is
// destroyed uncalled.
template <typename Handler>
class HandlerWaiter final : public Waiter {
public:
    HandlerWaiter(Instant deadline, Handler handler) : Waiter(deadline), handler_(std::move(handler)) {}
    void resume(asio::io_context& context, bool notified) override {
        if constexpr (std::is_invocable_v<Handler, bool>) {
            asio::post(context, [handler = std::move(handler_), notified]() mutable { std::move(handler)(notified); });
        } else {
            asio::post(context, [handler = std::move(handler_)]() mutable { std::move(handler)(); });
        }
    }

private:
    Handler handler_;
};

Task<bool> already_true() { co_return true; }
Task<void> already_done() { co_return; }

}  // namespace

struct Signal::Impl : std::enable_shared_from_this<Impl> {
    Impl(asio::io_context& c, std::shared_ptr<SignalList> list) : context(c), signals(std::move(list)) {
        place = signals->all.insert(signals->all.end(), this);
    }
    ~Impl() { signals->all.erase(place); }
    Impl(Impl const&) = delete;
    Impl& operator=(Impl const&) = delete;

    bool take_pending() { return std::exchange(pending, false); }

    template <typename Signature>
    auto wait(Instant deadline) {
        return asio::async_initiate<asio::use_awaitable_t<> const, Signature>(
            [this, deadline](auto handler) {
                using Handler = decltype(handler);
                waiters.push_back(std::make_unique<HandlerWaiter<Handler>>(deadline, std::move(handler)));
                arm(deadline);
            },
            asio::use_awaitable);
    }

    void notify() {
        if (waiters.empty()) {
            pending = true;
            return;
        }
        for (auto const& waiter : std::exchange(waiters, {})) waiter->resume(context, true);
    }

    void arm(Instant deadline) {
        if (deadline >= armed_until) return;
        if (!timer) timer.emplace(context);
        armed_until = deadline;
        timer->expires_at(deadline);
        timer->async_wait([weak = weak_from_this(), deadline](boost::system::error_code const& failure) {
            auto const self = weak.lock();
            if (!failure && self && self->armed_until == deadline) self->expire();
        });
    }

    void expire() {
        armed_until = kNever;
        Instant const now = std::chrono::steady_clock::now();
        Instant next = kNever;
        for (auto& waiter : std::exchange(waiters, {})) {
            if (waiter->deadline <= now) {
                waiter->resume(context, false);
            } else {
                next = std::min(next, waiter->deadline);
                waiters.push_back(std::move(waiter));
            }
        }
        arm(next);
    }

    asio::io_context& context;
    std::shared_ptr<SignalList> signals;
    std::list<Signal::Impl*>::iterator place;
    std::vector<std::unique_ptr<Waiter>> waiters;
    std::optional<asio::steady_timer> timer;
    Instant armed_until = kNever;
    bool pending = false;
};

void abandon_waiters(SignalList& signals) {
    // Destroying a coroutine may destroy or add signals: take one at a time.
    for (bool found = true; found;) {
        found = false;
        for (Signal::Impl* const signal : signals.all) {
            signal->timer.reset();
            if (signal->waiters.empty()) continue;
            auto const keep = signal->shared_from_this();
            found = true;
            std::exchange(signal->waiters, {}).clear();
            break;
        }
    }
}

Signal::Signal(Loop& loop) : impl_(std::make_shared<Impl>(loop.context(), loop.impl_->signals)) {}

Signal::~Signal() = default;

void Signal::notify() { impl_->notify(); }

Task<void> Signal::wait() { return impl_->take_pending() ? already_done() : impl_->wait<void()>(kNever); }

Task<bool> Signal::wait_for(Duration timeout) {
    if (impl_->take_pending()) return already_true();
    Instant const now = std::chrono::steady_clock::now();
    return impl_->wait<void(bool)>(timeout >= kNever - now ? kNever : now + timeout);
}

}  // namespace hearth::net
