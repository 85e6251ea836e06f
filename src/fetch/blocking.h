// blocking(): work for the disk or the processor, away from the loop.
//
// Threads: called on the loop; `work` runs on a thread of the pool, the coroutine
// goes on on the loop. What `work` refers to must live until then.
#pragma once

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <type_traits>
#include <utility>

#include "net/task.h"

namespace hearth::fetch {

template <typename Work>
auto blocking(boost::asio::thread_pool& pool, Work work) {
    namespace asio = boost::asio;
    using Value = std::invoke_result_t<Work>;
    return asio::async_initiate<asio::use_awaitable_t<> const, void(Value)>(
        [&pool, work = std::move(work)](auto handler) mutable {
            auto executor = asio::get_associated_executor(handler);
            auto guard = asio::make_work_guard(executor);  // the loop stays while the pool works
            asio::post(pool, [work = std::move(work), handler = std::move(handler),
                              guard = std::move(guard)]() mutable {
                auto value = work();
                auto const executor = guard.get_executor();
                asio::post(executor, [handler = std::move(handler), guard = std::move(guard),
                                      value = std::move(value)]() mutable { std::move(handler)(std::move(value)); });
            });
        },
        asio::use_awaitable);
}

}  // namespace hearth::fetch
