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

constexpr double kWaitShare = 0.5;  // of the time limit of a request; the rest is for computing, and for being wrong
constexpr Duration kStanding = std::chrono::seconds(2);  // longer than a step takes

}  // namespace

std::uint32_t Model::places(domain::Priority priority) const {
    auto const limit = env_.options.requests_max;
    return priority == domain::Priority::interactive ? limit : limit - limit / 8;
}

// How large it is as a frame is not known: with half of the bytes free there is room for any but the largest.
bool Model::has_room_for(domain::GenerateRequest const& request) const {
    bool const full = flights_.size() >= places(request.priority);
    bool const heavy = frame_bytes_ > env_.options.request_bytes_max / 2;
    return !full && !heavy && check_wait(request);
}

// Sequences that could begin at once. None once somebody waits for longer than a
// step takes: then it is cells that are short.
std::uint32_t Model::free_places(std::optional<Instant> queued_since) const {
    if (!info_) return 0;
    if (queued_since && env_.clock.now() - *queued_since > kStanding) return 0;
    return info_->sequences_max - std::min(choices_begun_, info_->sequences_max);
}

std::optional<double> Model::predicted_s(std::uint32_t ahead) const {
    if (state_ != ModelState::ready) return std::nullopt;
    auto const queued = line_.oldest();
    auto const places = free_places(queued);
    if (ahead < places) return 0;
    return rate_.wait_s(ahead - places, env_.clock.now(), queued);
}

// As loading went so far; nothing before it says anything.
std::optional<double> Model::load_left_s() const {
    constexpr float kTelling = 0.05F;
    if (state_ != ModelState::loading || progress_ < kTelling) return std::nullopt;
    auto const taken = std::chrono::duration<double>(env_.clock.now() - worker_->launched).count();
    return taken * (1 - progress_) / progress_;
}

std::uint32_t Model::retry_after_s() const {
    constexpr std::uint32_t kLongest = 3600;
    auto const now = env_.clock.now();
    if (auto const at = retry_at()) return CompletionRate::whole(to_ms(*at - now) / 1000, 1, kLongest);
    return rate_.retry_s(now, line_.oldest());
}

std::optional<std::uint32_t> Model::predicted_wait_s(domain::Priority priority) const {
    auto const wait = predicted_s(line_.before_newcomer(priority));
    if (!wait) return std::nullopt;
    return CompletionRate::whole(*wait, 0, CompletionRate::kPredictedMax);
}

Waiting Model::waiting(Flight const& flight) const {
    if (!flight.waits()) return {};
    Waiting out{line_.before(flight.priority, flight.id), std::nullopt};
    if (state_ != ModelState::ready) {
        out.loaded_percent = state_ == ModelState::loading ? static_cast<std::uint32_t>(progress_ * 100) : 0;
        if (auto const left = load_left_s())
            out.seconds = CompletionRate::whole(*left, 0, CompletionRate::kPredictedMax);
        return out;
    }
    auto const wait = predicted_s(out.ahead);
    if (wait) out.seconds = CompletionRate::whole(*wait, 0, CompletionRate::kPredictedMax);
    return out;
}

Status Model::check_wait(domain::GenerateRequest const& request) const {
    double const most = std::chrono::duration<double>(env_.options.request_timeout).count() * kWaitShare;
    if (!request.deadlines.queue_ms && most <= 0) return ok();
    auto const wait = predicted_s(line_.before_newcomer(request.priority));
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

void Model::show_queue() {
    if (!shown_) return;
    auto const wait = predicted_s(line_.before_newcomer(domain::Priority::normal));
    metrics_.show_queue(line_.by_class(), wait);
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

std::uint64_t Model::ask_report() {
    auto& reporting = *reporting_;
    if (state_ == ModelState::ready && reporting.heard == reporting.asked)
        worker_->pipe->send(*encode(AskReportFrame{++reporting.asked}));
    return reporting.asked;
}

// After a wait only what is shared is touched: the pool may be gone.
net::Task<EngineView> Model::engine_view(std::shared_ptr<Model> self, std::uint64_t question, Duration timeout) {
    auto const reporting = self->reporting_;
    auto const& clock = self->env_.clock;
    auto const deadline = std::chrono::steady_clock::now() + timeout;
    for (auto left = timeout; reporting->heard < question && left > Duration::zero();
         left = deadline - std::chrono::steady_clock::now())
        co_await reporting->answered.wait_for(left);
    EngineView view;
    view.report = reporting->last;
    if (!self->abandoned_) view.age = clock.now() - reporting->at;
    co_return view;
}

void Model::ended(Flight const& flight, Instant now) {
    if (flight.began == Instant{}) return;  // it took nobody's place
    auto const beside = static_cast<std::uint32_t>(flights_.size()) - line_.size() + 1;
    rate_.completed(now, now - flight.began, beside, line_.oldest());
}

}  // namespace hearth::serving
