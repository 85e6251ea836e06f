// Flight: one request between submit() and its terminal event, shared by the
// model that feeds it and the consumer that reads it.
//
// Threads: the loop's. Ownership: the model holds it until the terminal event
// arrives, the consumer as long as it likes. Private to serving.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "net/loop.h"
#include "serving/pool.h"
#include "serving/protocol.h"

namespace hearth::serving {

class Model;

enum class Phase : std::uint8_t {
    unsent,     // no worker has it
    sent,       // a worker has it, not Started
    started,    // being computed, nothing emitted
    streaming,  // something of the answer was emitted: no replay any more
    ended,      // its terminal event is queued or taken
};

struct Flight {
    Flight(net::Loop& loop, RequestId request_id, domain::GenerateRequest const& request, Instant now)
        : id(request_id),
          choices(request.choices),
          inputs(inputs_of(request.prompt)),
          adapters(request.adapters),
          priority(request.priority),
          tenant(request.tenant),
          submitted(now),
          last_delta(request.choices),
          arrived(loop) {}

    RequestId const id;
    std::uint32_t const choices;
    std::size_t const inputs;  // to embed; 0: it generates
    std::uint32_t const adapters;  // the set it wants
    domain::Priority const priority;
    std::string const tenant;
    Instant const submitted;
    Instant began{};  // Started

    Phase phase = Phase::unsent;
    bool announced = false;   // the consumer was given Started; a replay's is kept from it
    bool cancelled = false;   // asked for, by the consumer or by its going away
    bool consumed = true;     // somebody reads the events
    std::uint32_t replays = 0;          // after it may have killed its worker
    std::uint32_t replays_waiting = 0;  // after it only waited
    std::uint32_t choices_done = 0;     // bit per choice
    std::string frame;                  // the Submit frame, until streaming

    std::uint32_t prompt_cost = 0;  // tokens of its prompt that were not in the cache, as its first Started said

    std::uint64_t granted = 0;    // tokens the worker may have emitted
    std::uint64_t received = 0;   // tokens it has emitted
    std::uint32_t taken = 0;      // tokens the consumer took since the last grant
    std::vector<Instant> last_delta;  // per choice; the epoch before the first

    std::deque<domain::Event> events;
    net::Signal arrived;  // an event was queued

    [[nodiscard]] bool waits() const { return phase < Phase::started; }

private:
    static std::size_t inputs_of(domain::Prompt const& prompt) {
        auto const* embed = std::get_if<domain::EmbedPrompt>(&prompt);
        return embed == nullptr ? 0 : embed->inputs.size();
    }
};

// The consumer's end. Cancels when destroyed.
[[nodiscard]] std::unique_ptr<Generation> make_generation(std::shared_ptr<Flight> flight, std::weak_ptr<Model> model);

}  // namespace hearth::serving
