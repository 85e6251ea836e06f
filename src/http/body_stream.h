// BodyStream: the body of one request, read piece by piece by its handler.
//
// Nothing is read ahead of the handler but what the Wire buffers: a handler that
// takes its time makes the client wait, through the socket. "100 Continue" is sent
// with the first read, so a handler that answers before has nothing sent to it.
//
// Time: the client may be silent for body_timeout, and all waiting for it together
// may take that long and a second for each kBodyBytesPerSecondMin bytes that came.
// The handler's own time is not counted.
//
// Private to http. Lives in its connection's frame; the loop's thread only.
#pragma once

#include <optional>
#include <string>

#include "http/request_parser.h"
#include "http/wire.h"

namespace hearth::http {

// A body may take body_timeout, and longer only if it comes faster than this.
inline constexpr std::size_t kBodyBytesPerSecondMin = 8U << 10;

// What so many bytes may take besides.
[[nodiscard]] Duration body_time_for(std::size_t bytes);

class BodyStream {
public:
    // `bytes_max` bounds chunked bodies; a length above it is refused before.
    BodyStream(Wire& wire, Head const& head, std::size_t bytes_max, Duration body_timeout);

    // As Exchange::read_body(). After a failure the same one again.
    net::Task<Result<std::string>> read();

    // All of it was read: what follows on the wire is the next request.
    [[nodiscard]] bool done() const { return reader_.done() && !failure_; }

    // What the client is to be told of a failure; nothing if there was none or it left. Once.
    [[nodiscard]] std::optional<Refusal> take_refusal() { return std::exchange(refusal_, std::nullopt); }

private:
    [[nodiscard]] Error fail(Refusal refusal);
    [[nodiscard]] Duration patience() const;

    Wire& wire_;
    BodyReader reader_;
    Duration const body_timeout_;
    Duration waited_{};
    bool to_continue_;  // the client waits for a 100
    std::optional<Error> failure_;
    std::optional<Refusal> refusal_;
};

}  // namespace hearth::http
