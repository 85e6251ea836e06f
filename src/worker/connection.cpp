#include "worker/connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "base/assert.h"

namespace hearth::worker {

Connection::~Connection() { ::close(fd_); }

// Blocking is right here. What can be under way is bounded by the requests'
// credits, and the front's loop always reads, parking events of slow clients
// itself; so a full socket means that the front is busy for a moment, and an
// engine that ran on would only pile up more for it.
void Connection::write(std::string_view frame) {
    std::lock_guard const lock(writing_);
    while (!frame.empty() && !over_.load(std::memory_order_relaxed)) {
        auto const count = ::send(fd_, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count >= 0) {
            frame.remove_prefix(static_cast<std::size_t>(count));
        } else if (errno != EINTR && (errno != EAGAIN || !wait_writable())) {
            shutdown();
        }
    }
}

void Connection::write(serving::Frame const& frame) {
    auto const bytes = serving::encode(frame);
    HEARTH_ASSERT(bytes.has_value(), "a worker sends frames that its front accepts");
    write(*bytes);
}

bool Connection::wait_writable() const {
    pollfd writable{fd_, POLLOUT, 0};
    auto const limit = std::chrono::duration_cast<std::chrono::milliseconds>(write_timeout_).count();
    int const ready = ::poll(&writable, 1, static_cast<int>(limit));
    return ready > 0 || (ready < 0 && errno == EINTR);
}

std::size_t Connection::read(std::span<char> buffer) const {
    for (;;) {
        auto const count = ::recv(fd_, buffer.data(), buffer.size(), 0);
        if (count >= 0) return static_cast<std::size_t>(count);
        if (errno != EINTR) return 0;
    }
}

void Connection::shutdown() {
    over_.store(true, std::memory_order_relaxed);
    ::shutdown(fd_, SHUT_RDWR);
}

}  // namespace hearth::worker
