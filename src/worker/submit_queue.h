// Requests on their way from the reader thread to the engine, and errands for the
// thread that submits them. Private to worker.
//
// Between push() and finish() a request is unknown to the engine, so its cancel
// must be caught here; cancel() says where the request is.
//
// Threads: push(), send(), cancel() and close() on the reader thread, take() and
// finish() on the thread that submits.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <variant>

#include "serving/protocol.h"

namespace hearth::worker {

using domain::RequestId;

class SubmitQueue {
public:
    SubmitQueue(std::size_t requests_max, std::uint64_t bytes_max)
        : requests_max_(requests_max), bytes_max_(bytes_max) {}

    // False when it is full; the frame is untouched then.
    bool push(serving::SubmitFrame& frame);

    enum class Cancel : std::uint8_t {
        removed,    // it waited here and is gone; `choices` of it are to be reported
        noted,      // it is being submitted: finish() will say so
        elsewhere,  // the engine's business
    };
    struct Cancelled {
        Cancel where = Cancel::elsewhere;
        std::uint32_t choices = 0;
    };
    Cancelled cancel(RequestId id);

    enum class Errand : std::uint8_t { park, wake };

    // REQUIRES: the one before was taken
    void send(Errand errand);

    // The errand, or the next request, waiting for one; nothing once closed.
    using Work = std::variant<serving::SubmitFrame, Errand>;
    std::optional<Work> take();

    // The request of the last take() is the engine's now. True if it was
    // cancelled meanwhile.
    bool finish();

    // take() yields nothing from now on; what waits is dropped.
    void close();

private:
    std::size_t const requests_max_;
    std::uint64_t const bytes_max_;
    std::mutex mutex_;  // guards everything below
    std::condition_variable arrived_;
    std::deque<serving::SubmitFrame> waiting_;
    std::optional<Errand> errand_;
    std::uint64_t bytes_ = 0;
    RequestId submitting_ = 0;
    bool cancelled_ = false;  // the one being submitted
    bool closed_ = false;
};

}  // namespace hearth::worker
