#include "net/loop.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "base/assert.h"
#include "base/prompt_thread.h"
#include "net/loop_impl.h"

namespace hearth::net {
namespace {

namespace asio = boost::asio;

void wait_for_signal(asio::signal_set& set, std::shared_ptr<std::function<void(int)>> const& work) {
    set.async_wait([&set, work](boost::system::error_code const& failure, int number) {
        if (failure) return;
        (*work)(number);
        wait_for_signal(set, work);
    });
}

}  // namespace

void abort_on_exception(char const* where) noexcept {
    try {
        throw;
    } catch (std::exception const& problem) {
        std::fprintf(stderr, "fatal: an exception left %s: %s\n", where, problem.what());
    } catch (...) {
        std::fprintf(stderr, "fatal: an exception left %s\n", where);
    }
    std::abort();
}

Loop::Loop() : impl_(std::make_unique<Impl>()) {}

Loop::~Loop() { abandon_waiters(*impl_->signals); }

void Loop::run() {
    ask_for_short_slices();  // without them it only answers later
    try {
        impl_->context.run();
    } catch (...) {
        abort_on_exception("a callback of the event loop");
    }
    impl_->context.restart();
}

void Loop::stop() { impl_->context.stop(); }

void Loop::post(std::function<void()> work) { asio::post(impl_->context, std::move(work)); }

void Loop::spawn(Task<void> task) {
    asio::co_spawn(impl_->context, std::move(task), [](std::exception_ptr const& problem) {
        if (!problem) return;
        try {
            std::rethrow_exception(problem);
        } catch (...) {
            abort_on_exception("a coroutine");
        }
    });
}

Task<void> Loop::sleep(Duration wait) {
    asio::steady_timer timer(impl_->context, wait);
    co_await timer.async_wait(asio::use_awaitable);
}

void Loop::on_signals(std::initializer_list<int> signals, std::function<void(int)> work) {
    auto set = std::make_unique<asio::signal_set>(impl_->context);
    for (int const number : signals) {
        boost::system::error_code failure;
        set->add(number, failure);
        HEARTH_ASSERT(!failure, "a signal that can be caught");
    }
    wait_for_signal(*set, std::make_shared<std::function<void(int)>>(std::move(work)));
    impl_->signal_sets.push_back(std::move(set));
}

asio::io_context& Loop::context() { return impl_->context; }

}  // namespace hearth::net
