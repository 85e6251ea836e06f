#include <algorithm>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "serving/model.h"

namespace hearth::serving {
namespace {

// What the engine may emit beyond its credit: a step of all choices, and text
// held back for a stop string.
constexpr std::uint64_t kCreditSlack = 64;
constexpr std::size_t kEventsBesides = 64;  // Started, progress, ends

double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

std::string frame_of(RequestId id, std::uint32_t tokens) {
    // A Grant of a known request and at least one token always encodes.
    return *encode(GrantFrame{id, tokens});
}

}  // namespace

Error Model::unavailable() const {
    auto why = problem_.empty() ? std::string(to_string(state_)) : problem_;
    if (retry_at()) why += fmt::format("; it can be tried again in {} s", retry_after_s());
    return {Code::unavailable, fmt::format("model '{}' is not available: {}", spec_.id, why)};
}

Error Model::removed(Flight const& flight) const {
    return {Code::not_found, fmt::format("model '{}' was removed", spec_.variants[flight.adapters - 1].id), "model"};
}

Result<std::shared_ptr<Flight>> Model::submit(RequestId id, domain::GenerateRequest request) {
    if (suspended_) return *suspended_;
    if (retry_is_due()) try_again();
    if (closing_ || state_ == ModelState::failed || state_ == ModelState::stopped || no_worker_works())
        return unavailable();
    auto const refuse = [this](std::string message) {
        rate_.refused();
        metrics_.count_outcome(to_string(Code::overloaded));
        return Error(Code::overloaded, std::move(message));
    };
    auto const most = places(request.priority);
    if (flights_.size() >= most) {
        bool const reserved = most < env_.options.requests_max;
        return refuse(fmt::format("model '{}' holds {} requests, which is the limit{}", spec_.id, flights_.size(),
                                  reserved ? " of those that are not interactive" : ""));
    }
    if (auto late = check_wait(request); !late) {
        metrics_.count_outcome("queue_timeout");
        return std::move(late).error();
    }
    auto const keep_alive = request.keep_alive;
    auto flight = std::make_shared<Flight>(env_.loop, id, request, env_.clock.now());
    HEARTH_TRY(auto frame, encode(SubmitFrame{id, std::move(request)}));
    if (frame_bytes_ + frame.size() > env_.options.request_bytes_max) {
        return refuse(fmt::format("model '{}' holds {} bytes of requests, this one has {}, the limit is {}", spec_.id,
                                  frame_bytes_, frame.size(), env_.options.request_bytes_max));
    }
    if (keep_alive) keep(*keep_alive);
    frame_bytes_ += frame.size();
    flight->frame = std::move(frame);
    flights_.emplace(id, flight);
    line_.add(flight->priority, id, flight->submitted);
    if (may_be_sent(*flight)) send(*flight);
    else want();
    show_load();
    return flight;
}

void Model::send(Flight& flight) {
    flight.phase = Phase::sent;
    asked_ = true;
    flight.granted = env_.options.credit_tokens;
    flight.received = 0;
    worker_->pipe->send(flight.frame);
}

bool Model::may_be_sent(Flight const& flight) const {
    return state_ == ModelState::ready && !draining_ && flight.adapters <= worker_->sets;
}

// What this worker cannot serve has it loaded again.
void Model::send_unsent() {
    for (auto const& flight : in_order()) {
        if (flight->phase != Phase::unsent) continue;
        if (may_be_sent(*flight)) send(*flight);
        else want();
    }
}

bool Model::wants_what_is_gone(Flight const& flight) const {
    return flight.adapters != 0 && spec_.variants[flight.adapters - 1].gone;
}

void Model::cancel(Flight& flight) {
    if (flight.phase == Phase::ended || flight.cancelled) return;
    flight.cancelled = true;
    if (flight.phase == Phase::unsent) return end_cancelled(flights_.at(flight.id), env_.clock.now());
    // Sent: its worker lives, or settle_lost() would have changed the phase.
    worker_->pipe->send(*encode(CancelFrame{flight.id}));
}

void Model::taken(Flight& flight, std::uint32_t tokens) {
    flight.taken += tokens;
    auto const batch = std::max(1U, env_.options.credit_tokens / 4);
    if (flight.taken < batch || flight.phase != Phase::streaming || flight.cancelled) return;
    auto const grant = std::exchange(flight.taken, 0);
    flight.granted += grant;
    worker_->pipe->send(frame_of(flight.id, grant));
}

// --- events ---

char const* Model::handle_event(RequestId id, domain::Event& event, Instant now) {
    auto const found = flights_.find(id);
    if (found == flights_.end()) return nullptr;  // nobody is left to hear it
    auto& flight = *found->second;
    if (flight.phase == Phase::unsent) return "an event of a request that it was not given";
    if (flight.events.size() > env_.options.credit_tokens + kCreditSlack + kEventsBesides) {
        return "more events than a request may have under way";
    }
    return std::visit(
        [&]<typename T>(T& value) -> char const* {
            if constexpr (std::is_same_v<T, domain::Started>) {
                if (auto const* problem = handle_started(flight, value, now)) return problem;
                if (std::exchange(flight.announced, true)) return nullptr;  // the consumer knows, from before a replay
            } else if constexpr (std::is_same_v<T, domain::PromptProgress>) {
                // Only the last one says anything; so a slow consumer holds one.
                if (!flight.events.empty() && std::holds_alternative<T>(flight.events.back())) flight.events.pop_back();
            } else if constexpr (std::is_same_v<T, domain::Delta>) {
                if (auto const* problem = handle_delta(flight, value, now)) return problem;
            } else if constexpr (std::is_same_v<T, domain::Embedded>) {
                if (auto const* problem = handle_embedded(flight, value)) return problem;
            } else if constexpr (std::is_same_v<T, domain::ChoiceDone>) {
                if (auto const* problem = handle_choice_done(flight, value)) return problem;
            } else {
                if constexpr (std::is_same_v<T, domain::Done>) {
                    if (flight.choices_done != (1U << flight.choices) - 1) return "Done before the last ChoiceDone";
                }
                end(found->second, std::move(event), now);
                return nullptr;
            }
            deliver(flight, std::move(event));
            return nullptr;
        },
        event);
}

char const* Model::handle_started(Flight& flight, domain::Started const& event, Instant now) {
    if (flight.phase != Phase::sent) return "Started twice";
    flight.phase = Phase::started;
    flight.began = now;
    line_.remove(flight.priority, flight.id);
    choices_begun_ += flight.choices;
    show_load();
    if (flight.announced) return nullptr;
    flight.prompt_cost = event.prompt_tokens - std::min(event.cached_tokens, event.prompt_tokens);
    metrics_.queue_time.observe(seconds(now - flight.submitted));
    metrics_.prompt_tokens.add(event.prompt_tokens);
    metrics_.cached_tokens.add(event.cached_tokens);
    return nullptr;
}

char const* Model::handle_delta(Flight& flight, domain::Delta const& event, Instant now) {
    if (flight.phase != Phase::started && flight.phase != Phase::streaming) return "a Delta before Started";
    if (flight.inputs > 0) return "text of a request for vectors";
    if (event.choice >= flight.choices || (flight.choices_done >> event.choice & 1U) != 0)
        return "a Delta of no open choice";
    flight.received += event.tokens;
    if (flight.received > flight.granted + kCreditSlack) return "more tokens than it was granted";
    metrics_.generated_tokens.add(event.tokens);
    auto& last = flight.last_delta[event.choice];
    if (flight.phase == Phase::started) {
        metrics_.time_to_first_token.observe(seconds(now - flight.submitted));
        emitted(flight);
    } else if (last != Instant{} && event.tokens > 0) {
        metrics_.inter_token_latency.observe(seconds(now - last) / event.tokens);
    }
    last = now;
    return nullptr;
}

char const* Model::handle_embedded(Flight& flight, domain::Embedded const& event) {
    if (flight.phase != Phase::started) return "vectors before Started, or twice";
    if (flight.inputs == 0) return "vectors of a request that generates";
    if (event.vectors.size() != flight.inputs) return "another number of vectors than there are inputs";
    emitted(flight);
    return nullptr;
}

char const* Model::handle_choice_done(Flight& flight, domain::ChoiceDone const& event) {
    auto const bit = 1U << event.choice;
    if (event.choice >= flight.choices || (flight.choices_done & bit) != 0) return "a ChoiceDone of no open choice";
    bool const whole = event.reason == domain::FinishReason::stop;
    if (flight.inputs > 0 && whole && flight.phase != Phase::streaming) return "an end without vectors";
    flight.choices_done |= bit;
    if (flight.phase == Phase::started) emitted(flight);
    return nullptr;
}

void Model::emitted(Flight& flight) {
    flight.phase = Phase::streaming;
    drop_frame(flight);
}

void Model::deliver(Flight& flight, domain::Event event) {
    if (!flight.consumed) return;
    flight.events.push_back(std::move(event));
    flight.arrived.notify();
}

// --- ends ---

void Model::drop_frame(Flight& flight) {
    frame_bytes_ -= flight.frame.size();
    flight.frame = {};
}

// The line, or its places among those that were begun.
void Model::leave(Flight const& flight) {
    if (flight.waits()) line_.remove(flight.priority, flight.id);
    else choices_begun_ -= flight.choices;
}

void Model::end(std::shared_ptr<Flight> flight, domain::Event terminal, Instant now) {
    leave(*flight);
    flights_.erase(flight->id);
    drop_frame(*flight);
    flight->phase = Phase::ended;
    if (auto const* failed = std::get_if<domain::Failed>(&terminal)) {
        metrics_.count_outcome(to_string(failed->error.code));
    } else {
        metrics_.count_outcome(flight->cancelled ? "cancelled" : "completed");
    }
    metrics_.duration.observe(seconds(now - flight->submitted));
    ended(*flight, now);
    metrics_.count_tenant(flight->tenant, flight->prompt_cost + flight->received);
    deliver(*flight, std::move(terminal));
    show_load();
    used_ = now;
    if (flights_.empty() && !warmed_) wanted_since_.reset();
    if (flights_.empty() || draining_) env_.residency->notify();
}

void Model::end_cancelled(std::shared_ptr<Flight> flight, Instant now) {
    flight->cancelled = true;
    for (std::uint32_t choice = 0; choice < flight->choices; ++choice) {
        if ((flight->choices_done >> choice & 1U) == 0)
            deliver(*flight, domain::ChoiceDone{choice, domain::FinishReason::cancelled, {}});
    }
    domain::Done done;
    done.usage.completion_tokens = static_cast<std::uint32_t>(flight->received);
    end(std::move(flight), done, now);
}

// Whether the request may have been what the worker was computing. Started says
// so only after a step, and the step may be what killed it; requests are begun
// in order, so the first in line are suspects too.
bool Model::is_suspect(Flight const& flight, std::uint32_t sequences_before) const {
    return flight.phase == Phase::started || sequences_before < (info_ ? info_->sequences_max : 0);
}

void Model::settle_lost() {
    auto const now = env_.clock.now();
    std::uint32_t sequences = 0;
    for (auto const& flight : in_order()) {
        if (flight->phase == Phase::unsent && !closing_) continue;
        if (flight->cancelled || closing_) {
            end_cancelled(flight, now);
            continue;
        }
        if (wants_what_is_gone(*flight)) {
            end(flight, domain::Failed{removed(*flight)}, now);
            continue;
        }
        bool const suspect = is_suspect(*flight, sequences);
        sequences += flight->choices;
        auto& replays = suspect ? flight->replays : flight->replays_waiting;
        auto const replays_max = suspect ? env_.options.replays_max : env_.options.replays_waiting_max;
        if (flight->phase == Phase::streaming || replays >= replays_max) {
            auto message = fmt::format("the engine of model '{}' was lost while it worked on this request: {}",
                                       spec_.id, worker_->lost);
            end(flight, domain::Failed{Error(Code::engine_lost, std::move(message))}, now);
            continue;
        }
        ++replays;
        if (!flight->waits()) {
            leave(*flight);
            line_.add(flight->priority, flight->id, flight->submitted);
        }
        flight->phase = Phase::unsent;
        metrics_.replays.add();
    }
    if (!flights_.empty()) want();
    show_load();
}

void Model::fail_all(Error const& error) {
    for (auto const& flight : in_order()) end(flight, domain::Failed{error}, env_.clock.now());
}

std::vector<std::shared_ptr<Flight>> Model::in_order() const {
    std::vector<std::shared_ptr<Flight>> out;
    out.reserve(flights_.size());
    for (auto const& [id, flight] : flights_) out.push_back(flight);
    std::ranges::sort(out, {}, [](auto const& flight) { return flight->id; });
    return out;
}

void Model::show_load() {
    if (!shown_) return;
    metrics_.waiting.set(line_.size());
    metrics_.running.set(static_cast<double>(flights_.size()) - line_.size());
}

}  // namespace hearth::serving
