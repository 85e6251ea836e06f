// Wire: one connected socket with a bounded input buffer and a queue of output.
//
// Input is watched all the time, also while an answer is made: that is how a
// leaving client is noticed. A client's end of stream counts as leaving even if
// it only closed its sending side, as with nginx and Go: an abandoned answer
// must not go on costing compute, and the two cases look the same until
// something is written. What was answered already is still sent to it.
//
// Output goes to the kernel at once when nothing waits before it: one system
// call per put(), no copy. Otherwise it is queued and leaves in as few calls as
// the kernel allows. The caller bounds the queue with wait_room().
//
// The buffers hold what has arrived and what waits, nothing in advance: an idle
// Wire owns no buffer.
//
// Private to http. The loop's thread only. Shared: pending operations keep it.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::http {

using Scratch = std::array<char, 64U << 10>;  // one for all wires of a loop

class Wire {
public:
    // Takes ownership of `fd`, a connected stream socket. `scratch` must outlive
    // the wire. Buffers at most `input_max` bytes of input.
    static std::shared_ptr<Wire> create(net::Loop& loop, int fd, std::shared_ptr<Scratch> scratch,
                                        std::size_t input_max);
    virtual ~Wire() = default;
    Wire(Wire const&) = delete;
    Wire& operator=(Wire const&) = delete;

    [[nodiscard]] virtual std::string_view input() const = 0;
    virtual void consume(std::size_t bytes) = 0;

    // Resumes when more than `seen` bytes of input are there, when no more will
    // come, or at `deadline`.
    enum class Arrival : std::uint8_t { bytes, ended, late };
    virtual net::Task<Arrival> wait_input(std::size_t seen, Instant deadline) = 0;

    // The client sends nothing any more: it left, or closed its sending side.
    [[nodiscard]] virtual bool ended() const = 0;
    // Nothing reaches the client any more.
    [[nodiscard]] virtual bool failed() const = 0;
    // Called once, when ended() becomes true. Setting replaces.
    virtual void on_end(std::function<void()> callback) = 0;

    // Sends the three parts one after the other; drops them once failed().
    virtual void put(std::string_view head, std::string body, std::string_view tail) = 0;
    [[nodiscard]] virtual std::size_t unsent() const = 0;

    // Resumes when less than `bytes` are unsent or ended(); flush: when nothing is
    // or failed(). False: the client took nothing for `patience`.
    virtual net::Task<bool> wait_room(std::size_t bytes, Duration patience) = 0;
    virtual net::Task<bool> flush(Duration patience) = 0;

    // No more output; input goes on.
    virtual void shut_output() = 0;
    // Both ends it at once, in order or (abort) so that the kernel forgets unsent bytes.
    virtual void close() = 0;
    virtual void abort() = 0;

protected:
    Wire() = default;
};

}  // namespace hearth::http
