// What clients and operators are told without disturbing the engine: its own
// report, asked for once however many ask; and how long requests wait, told to
// those that do, and reason to refuse those that would wait in vain.
//
// The order is told here by class, and by arrival within one. The engine knows
// more: what waits rises by a class from time to time, and within a class tenants
// go by what they had, short prompts before long ones (docs/scheduler.md, Rank).
// So a tenant that had little begins earlier than it is told, the others later, and
// an interactive request later than it is told behind what has waited for long. That,
// and engines that get slower under load, is what half of the time limit is left for.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "serving/model.h"

namespace hearth::serving {
namespace {

constexpr RequestId kNewcomer = ~RequestId{0};  // behind all that are inside
constexpr double kWaitShare = 0.5;  // of the time limit of a request; the rest is for computing, and for being wrong
constexpr Duration kStanding = std::chrono::seconds(2);  // longer than a step takes

}  // namespace

// When the oldest of those that wait came.
std::optional<Instant> Model::queued_since() const {
    std::optional<Instant> oldest;
    if (waiting_ == 0) return oldest;
    for (auto const& [id, flight] : flights_) {
        if (flight->waits() && (!oldest || flight->submitted < *oldest)) oldest = flight->submitted;
    }
    return oldest;
}

// Those that wait and are to be begun before a request of that class and number.
std::uint32_t Model::ahead_of(domain::Priority priority, RequestId id) const {
    if (waiting_ == 0) return 0;
    auto const ahead = [&](auto const& entry) {
        auto const& [other, flight] = entry;
        return flight->waits() && std::pair(flight->priority, other) < std::pair(priority, id);
    };
    return static_cast<std::uint32_t>(std::count_if(flights_.begin(), flights_.end(), ahead));
}

// Sequences that could begin at once. None once somebody waits for longer than a
// step takes: then it is cells that are short.
std::uint32_t Model::free_places(std::optional<Instant> queued_since) const {
    if (!info_) return 0;
    if (queued_since && env_.clock.now() - *queued_since > kStanding) return 0;
    std::uint32_t taken = 0;
    for (auto const& [id, flight] : flights_) taken += flight->waits() ? 0 : flight->choices;
    return info_->sequences_max - std::min(taken, info_->sequences_max);
}

std::optional<double> Model::predicted_s(std::uint32_t ahead) const {
    if (state_ != ModelState::ready) return std::nullopt;
    auto const queued = queued_since();
    auto const places = free_places(queued);
    if (ahead < places) return 0;
    return rate_.wait_s(ahead - places, env_.clock.now(), queued);
}

std::optional<std::uint32_t> Model::predicted_wait_s(domain::Priority priority) const {
    auto const wait = predicted_s(ahead_of(priority, kNewcomer));
    if (!wait) return std::nullopt;
    return CompletionRate::whole(*wait, 0, CompletionRate::kPredictedMax);
}

Waiting Model::waiting(Flight const& flight) const {
    if (!flight.waits()) return {};
    Waiting out{ahead_of(flight.priority, flight.id), std::nullopt};
    auto const wait = predicted_s(out.ahead);
    if (wait) out.seconds = CompletionRate::whole(*wait, 0, CompletionRate::kPredictedMax);
    return out;
}

Status Model::check_wait(domain::GenerateRequest const& request) const {
    double const most = std::chrono::duration<double>(env_.options.request_timeout).count() * kWaitShare;
    if (!request.deadlines.queue_ms && most <= 0) return ok();
    auto const wait = predicted_s(ahead_of(request.priority, kNewcomer));
    if (wait && most > 0 && *wait > most) {
        return Error(
            Code::overloaded,
            fmt::format("this request is predicted to wait {:.3g} s, more than {:.3g} s, half of what one may take",
                        *wait, most));
    }
    if (!request.deadlines.queue_ms) return ok();
    double const limit = *request.deadlines.queue_ms / 1000.0;
    if (!wait || *wait <= limit) return ok();
    return Error(
        Code::overloaded,
        fmt::format("this request is predicted to wait {:.3g} s, its queue_timeout_ms allows {:.3g} s", *wait, limit),
        "queue_timeout_ms");
}

std::array<std::uint32_t, domain::kPriorityCount> Model::waiting_by_class() const {
    std::array<std::uint32_t, domain::kPriorityCount> waiting{};
    if (waiting_ == 0) return waiting;
    for (auto const& [id, flight] : flights_) {
        if (flight->waits()) ++waiting[static_cast<std::size_t>(flight->priority)];
    }
    return waiting;
}

void Model::show_queue() {
    auto const wait = predicted_s(ahead_of(domain::Priority::normal, kNewcomer));
    metrics_.show_queue(waiting_by_class(), wait);
}

void Model::handle_report(ReportFrame& answer) {
    auto& reporting = *reporting_;
    if (answer.nonce > reporting.asked || answer.nonce <= reporting.heard)
        return lose("broken frame: a report that nobody asked for");
    reporting.heard = answer.nonce;
    reporting.last = std::move(answer.report);
    reporting.at = worker_->heard;
    reporting.answered.notify();
}

// After a wait only what is shared is touched: the pool may be gone.
net::Task<EngineView> Model::engine_view(std::shared_ptr<Model> self, Duration timeout) {
    auto const reporting = self->reporting_;
    auto const& clock = self->env_.clock;
    if (state_ == ModelState::ready && reporting->heard == reporting->asked)
        worker_->pipe->send(*encode(AskReportFrame{++reporting->asked}));
    auto const wanted = reporting->asked;
    auto const deadline = std::chrono::steady_clock::now() + timeout;
    for (auto left = timeout; reporting->heard < wanted && left > Duration::zero();
         left = deadline - std::chrono::steady_clock::now())
        co_await reporting->answered.wait_for(left);
    EngineView view;
    view.report = reporting->last;
    if (!abandoned_) view.age = clock.now() - reporting->at;
    co_return view;
}

void Model::ended(Flight const& flight, Instant now) {
    if (flight.began == Instant{}) return;  // it took nobody's place
    std::uint32_t beside = 1;
    for (auto const& [id, other] : flights_) beside += other->waits() ? 0 : 1;
    rate_.completed(now, now - flight.began, beside, queued_since());
}

}  // namespace hearth::serving
