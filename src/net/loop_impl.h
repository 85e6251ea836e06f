// What Loop and Signal share; private to net.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <list>
#include <memory>
#include <vector>

#include "net/loop.h"

namespace hearth::net {

// Ends the process: an exception left the code that `where` names.
[[noreturn]] void abort_on_exception(char const* where) noexcept;

// The signals of a loop that lives. Waiting coroutines belong to their Signal,
// which may itself lie in a coroutine's frame: the loop breaks that cycle when
// it goes. Signals may outlive it.
struct SignalList {
    std::list<Signal::Impl*> all;
};

struct Loop::Impl {
    Impl() : context(1), signals(std::make_shared<SignalList>()) {}

    boost::asio::io_context context;
    std::shared_ptr<SignalList> signals;
    std::vector<std::unique_ptr<boost::asio::signal_set>> signal_sets;
};

// Destroys the coroutines that wait for signals of the list.
void abandon_waiters(SignalList& signals);

}  // namespace hearth::net
