// Task<T>: a coroutine on the front's event loop.
//
// Every coroutine of the front (http, serving, api) returns one. The loop runs
// on one thread, so coroutines share state without locks; nothing may block.
// One co_await per statement, names or calls as its operands: see CONTRIBUTING.md
// for the compiler bug behind that rule.
#pragma once

#include <boost/asio/awaitable.hpp>

namespace hearth::net {

template <typename T = void>
using Task = boost::asio::awaitable<T>;

}  // namespace hearth::net
