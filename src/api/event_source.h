// EventSource: the events of one call, whether it has one generation or many.
//
// With several generations (a completion request with several prompts) their
// events interleave as they arrive; a reader that stops reading pauses them all.
//
// Threads: the loop's. Ownership: owns the generations; destruction cancels.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "domain/generate.h"
#include "net/loop.h"
#include "net/task.h"
#include "serving/pool.h"

namespace hearth::api {

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
};

// REQUIRES: generations is not empty
[[nodiscard]] std::shared_ptr<EventSource> make_event_source(
    net::Loop& loop, std::vector<std::unique_ptr<serving::Generation>> generations);

}  // namespace hearth::api
