// Whose turn it is: ranks, admission, preemption and deadlines.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

// Prompt tokens worth waiting for when another request is about to compute them.
constexpr std::size_t kPromiseMin = 32;

double milliseconds_between(Instant from, Instant to) { return to_ms(to - from); }

// `field`: which of the request's fields set the limit.
Error late(char const* what, double ms, std::uint32_t limit, char const* field) {
    return {Code::deadline_exceeded,
            fmt::format("{} took {:.0f} ms, the limit of this request is {} ms", what, ms, limit), field};
}

}  // namespace

// A request rises by one class each time it has been inside for ageing_ms; and
// stands with the best of those that wait for what it computes.
std::uint32_t EngineCore::level(Request const& request) const {
    return std::min(aged(request.spec), static_cast<std::uint32_t>(request.lent));
}

std::uint32_t EngineCore::aged(PreparedRequest const& spec) const {
    auto const own = static_cast<std::uint32_t>(spec.priority);
    auto const inside = milliseconds_between(spec.arrived, now_);
    auto const risen = inside <= 0 ? 0.0 : inside / options_.ageing_ms;
    return risen >= own ? 0 : own - static_cast<std::uint32_t>(risen);
}

// Who rose to the best class and still waits as long again goes before all shares:
// ever new tenants, who begin with the least, would pass it for ever.
double EngineCore::account(PreparedRequest const& spec) const {
    auto const patience = (static_cast<double>(spec.priority) + 1) * options_.ageing_ms;
    bool const overdue = milliseconds_between(spec.arrived, now_) >= patience;
    return overdue ? -1 : share_.account(spec.tenant);
}

EngineCore::Rank EngineCore::rank(Request const& request) const {
    bool const started = request.started();
    return {level(request), started ? 0U : 1U, account(request.spec), request.due, request.spec.id};
}

// Those that could go on if there were room, and those that wait, best first.
void EngineCore::list_candidates() {
    candidates_.clear();
    for (auto const& request : active_) {
        request->lent = domain::Priority::batch;
        bool const swapped = std::any_of(request->choices.begin(), request->choices.end(),
                                         [](Choice const& choice) { return choice.state == Choice::State::swapped; });
        if (!request->paused() && (request->parked || swapped)) candidates_.push_back({rank(*request), request.get()});
    }
    for (auto const& request : waiting_) candidates_.push_back({rank(*request), request.get()});
    std::sort(candidates_.begin(), candidates_.end(),
              [](Candidate const& a, Candidate const& b) { return a.rank < b.rank; });
}

// In order of rank; behind the first that finds no room nobody enters, so that
// it gets the room that becomes free. Those that wait for what is being computed
// for another, or read from a disk, let all pass.
void EngineCore::admit_and_resume() {
    list_candidates();
    bool admitted = false;
    for (auto const& candidate : candidates_) {
        Request& request = *candidate.request;
        if (request.phase == Request::Phase::ended) continue;
        if (request.started()) {
            if (!try_resume(request)) break;
            continue;
        }
        if (is_promised(request) || must_fetch(request)) continue;
        if (!try_admit(request)) break;
        admitted = true;
    }
    if (admitted) std::erase(waiting_, nullptr);
}

// Somebody computes more of this prompt at this moment than there is to find.
bool EngineCore::is_promised(Request const& request) {
    if (!shares(request.spec)) return false;
    auto const prompt = reusable(request);
    auto const promises = [&](std::unique_ptr<Request> const& other) {
        bool const computes =
            other->phase == Request::Phase::prompt && !other->parked && other->choices[0].state == Choice::State::live;
        if (!computes) return false;
        auto const& text = other->spec.prompt;
        std::size_t const done = other->prompt_done;
        std::size_t end = std::min(prompt.size(), text.size());
        // Of another's prompt only what is public of both will be found.
        if (other->key.space != request.key.space)
            end = std::min<std::size_t>({end, other->key.shared, request.key.shared});
        if (end < done + kPromiseMin) return false;
        return std::equal(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(done + kPromiseMin),
                          text.begin());
    };
    auto const found = std::find_if(active_.begin(), active_.end(), promises);
    if (found == active_.end()) return false;
    (*found)->lent = std::min((*found)->lent, request.spec.priority);
    return true;
}

// Sequences that take part in steps, or will when their prompt is complete.
std::uint32_t EngineCore::slots_taken() const {
    std::uint32_t count = 0;
    for (auto const& request : active_) {
        if (request->idle()) continue;
        bool const prompt = request->phase == Request::Phase::prompt;
        for (auto const& choice : request->choices) {
            bool const takes =
                choice.state == Choice::State::live ||
                (prompt && choice.state == Choice::State::pending && request->choices[0].state == Choice::State::live);
            count += takes ? 1 : 0;
        }
    }
    return count;
}

// True when `slots` more sequences may run; parks requests of a worse level when
// that gets there.
bool EngineCore::make_slots(std::uint32_t slots, std::uint32_t level) {
    std::uint32_t const most = backend_.properties().info.sequences_max;
    std::uint32_t taken = slots_taken();
    if (taken + slots <= most) return true;
    std::uint32_t in_reach = 0;
    for (auto const& request : active_) {
        if (!request->idle() && this->level(*request) > level) in_reach += slots_of(*request);
    }
    if (taken + slots > most + in_reach) return false;
    while (slots_taken() + slots > most) {
        Request* const victim = pick_parkable(level);
        if (victim == nullptr) return false;
        victim->parked = true;
        ++preemptions_total_;
    }
    return true;
}

std::uint32_t EngineCore::slots_of(Request const& request) const {
    bool const prompt = request.phase == Request::Phase::prompt;
    if (prompt) return request.choices[0].state == Choice::State::live ? request.open : 0;
    return static_cast<std::uint32_t>(
        std::count_if(request.choices.begin(), request.choices.end(),
                      [](Choice const& choice) { return choice.state == Choice::State::live; }));
}

// The worst and youngest of those that run and stand behind `level`.
Request* EngineCore::pick_parkable(std::uint32_t level) const {
    Request* worst = nullptr;
    for (auto const& request : active_) {
        if (request->idle() || slots_of(*request) == 0 || this->level(*request) <= level) continue;
        if (worst == nullptr || this->level(*request) >= this->level(*worst)) worst = request.get();
    }
    return worst;
}

// Whoever passed a limit of its own ends now.
void EngineCore::expire() {
    embeddings_.expire(now_);
    for (auto const& request : waiting_) {
        auto const& limit = request->spec.deadlines.queue_ms;
        double const ms = milliseconds_between(request->spec.arrived, now_);
        if (limit && ms >= *limit) fail(*request, late("waiting for its turn", ms, *limit, "queue_timeout_ms"));
    }
    for (auto const& request : active_) {
        bool const prompt = request->phase == Request::Phase::prompt;
        auto const& limit = prompt ? request->spec.deadlines.prefill_ms : request->spec.deadlines.decode_ms;
        if (!limit || request->phase == Request::Phase::ended) continue;
        double const ms = milliseconds_between(prompt ? request->admitted : request->first_token, now_);
        if (ms < *limit) continue;
        fail(*request, prompt ? late("computing the prompt", ms, *limit, "prefill_timeout_ms")
                              : late("generating", ms, *limit, "decode_timeout_ms"));
    }
}

std::optional<Instant> EngineCore::next_deadline() const {
    auto next = embeddings_.next_deadline();
    auto const consider = [&next](Instant from, std::optional<std::uint32_t> const& ms) {
        if (!ms) return;
        Instant const at = from + std::chrono::milliseconds(*ms);
        if (!next || at < *next) next = at;
    };
    for (auto const& request : waiting_) {
        consider(request->spec.arrived, request->spec.deadlines.queue_ms);
        if (request->fetch && !request->fetch->done()) consider(request->fetch_began, kFetchMsMax);
    }
    for (auto const& request : active_) {
        if (request->phase == Request::Phase::prompt) consider(request->admitted, request->spec.deadlines.prefill_ms);
        if (request->phase == Request::Phase::generating)
            consider(request->first_token, request->spec.deadlines.decode_ms);
    }
    return next;
}

}  // namespace hearth::engine
