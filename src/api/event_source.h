// EventSource: the events of one call, whether it has one generation or many.
//
// With several generations (a completion request with several prompts) their
// events interleave as they arrive; a reader that stops reading pauses them all.
//
// A batch is a call of any number of requests, of which kBatchUnderWay at most are
// in the pool at a time: the next is submitted when one has ended, in their order.
//
// Threads: the loop's. Ownership: owns the generations; destruction cancels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "domain/generate.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/pool.h"

namespace hearth::api {

struct Services;

struct SourcedEvent {
    std::uint32_t generation = 0;  // index in the vector given
    domain::Event event;
};

class EventSource {
public:
    virtual ~EventSource() = default;

    // Nothing when `timeout` passed first.
    virtual net::Task<std::optional<SourcedEvent>> next_within(Duration timeout) = 0;

    // What has arrived already.
    virtual std::optional<SourcedEvent> try_next() = 0;

    // Every generation ends soon; what remains can still be read.
    virtual void cancel() = 0;

    // Of the generation that has fewest in front of it.
    [[nodiscard]] virtual serving::Waiting waiting() const = 0;

    // Has `tell` called with the id of every generation that is admitted from now on. Of all
    // but a batch they are admitted already.
    virtual void on_admitted(std::function<void(domain::RequestId)> const& tell);
};

// REQUIRES: generations is not empty
[[nodiscard]] std::shared_ptr<EventSource> make_event_source(
    net::Loop& loop, std::vector<std::unique_ptr<serving::Generation>> generations);

// Enough that an engine's batches stay full, few enough that others find room in the pool.
inline constexpr std::size_t kBatchUnderWay = 16;

struct Batch {
    std::shared_ptr<EventSource> source;
    std::vector<domain::RequestId> admitted;  // those of the first requests: at least one, at most kBatchUnderWay
};

// Submits the first requests; fails as Pool::submit() does for the very first, and nothing is computed then.
// A later one that finds the model full (`overloaded`) waits for room, for as long as its queue deadline
// or the call lasts; any other refusal is a Failed event, as it is if the model was swapped for
// another file meanwhile: vectors of two models are no answer. keep_alive counts once the last one is submitted.
// REQUIRES: requests are not empty, and of one model; `services` outlive the source
[[nodiscard]] Result<Batch> make_batch(Services& services, std::vector<domain::GenerateRequest> requests);

}  // namespace hearth::api
