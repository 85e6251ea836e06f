// The worker's end of the connection: whole frames from several threads out,
// bytes of one thread in. Private to worker.
//
// Threads: write() and shutdown() from any thread, read() from one.
#pragma once

#include <atomic>
#include <mutex>
#include <span>
#include <string_view>

#include "base/clock.h"
#include "serving/protocol.h"

namespace hearth::worker {

class Connection {
public:
    // Owns `fd`.
    Connection(int fd, Duration write_timeout) : fd_(fd), write_timeout_(write_timeout) {}
    ~Connection();
    Connection(Connection const&) = delete;
    Connection& operator=(Connection const&) = delete;

    // Writes all of `frame`. When the front takes nothing for write_timeout, or is
    // gone, the connection is shut down and this and later writes do nothing.
    void write(std::string_view frame);
    // REQUIRES: the frame can be encoded
    void write(serving::Frame const& frame);

    // Bytes of the front, at least one; 0 when the connection is over.
    [[nodiscard]] std::size_t read(std::span<char> buffer) const;

    // Ends both directions; a blocked read() or write() returns.
    void shutdown();

private:
    bool wait_writable() const;

    int const fd_;
    Duration const write_timeout_;
    std::mutex writing_;  // keeps frames whole
    std::atomic<bool> over_ = false;
};

}  // namespace hearth::worker
