#include "api/answer.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "telemetry/log.h"

namespace hearth::api {
namespace {

constexpr std::size_t kWriteBytes = 32U << 10;  // a write goes out at the latest with so much in it

// Folds the events of a call into what both kinds of answer need to know.
class Tally {
public:
    Tally(CallPlan const& plan, CallProgress& progress)
        : generations_(plan.generations),
          awaited_(plan.awaited.value_or(plan.generations)),
          choices_(plan.choices),
          progress_(progress) {}

    // The problem that ends the call, if this event is one.
    std::optional<Problem> note(domain::Event const& event) {
        if (auto const* failed = std::get_if<domain::Failed>(&event)) return to_problem(failed->error);
        if (auto const* delta = std::get_if<domain::Delta>(&event)) {
            if (delta->choice >= choices_) return stray();
            progress_.generated_tokens += delta->tokens;
        }
        if (auto const* started = std::get_if<domain::Started>(&event)) begin(*started);
        if (auto const* done = std::get_if<domain::Done>(&event)) add(*done);
        auto const* choice = std::get_if<domain::ChoiceDone>(&event);
        if (choice == nullptr) return std::nullopt;
        if (choice->choice >= choices_) return stray();
        bool const cancelled = choice->reason == domain::FinishReason::cancelled;
        if (cancelled && progress_.cancelled)
            return make_problem(Kind::request_cancelled, "The request was cancelled.");
        // Else nobody cancels but we ourselves, and then nobody listens: the server is going down.
        if (cancelled) return to_problem(Error(Code::cancelled, "The server is shutting down and ended this request."));
        if (choice->reason == domain::FinishReason::error)
            return to_problem(Error(Code::internal, "a choice ended with an error and no Failed event"));
        return std::nullopt;
    }

    [[nodiscard]] bool complete() const { return done_ == generations_; }
    [[nodiscard]] bool begun() const { return progress_.started >= awaited_; }
    [[nodiscard]] Totals const& totals() const { return totals_; }
    [[nodiscard]] std::uint32_t choice(SourcedEvent const& sourced, std::uint32_t choice) const {
        return sourced.generation * choices_ + choice;
    }
    [[nodiscard]] std::size_t choices() const { return std::size_t{generations_} * choices_; }

private:
    // A worker is another process: what it says is checked where it is used as an index.
    static Problem stray() {
        return to_problem(Error(Code::internal, "an event names a choice that was not asked for"));
    }

    void begin(domain::Started const& started) {
        ++progress_.started;
        progress_.prompt_tokens += started.prompt_tokens;
        progress_.cached_tokens += started.cached_tokens;
    }

    void add(domain::Done const& done) {
        ++done_;
        totals_.usage.prompt_tokens += done.usage.prompt_tokens;
        totals_.usage.cached_tokens += done.usage.cached_tokens;
        totals_.usage.completion_tokens += done.usage.completion_tokens;
        totals_.usage.left_out_tokens += done.usage.left_out_tokens;
        totals_.usage.context_shifts += done.usage.context_shifts;
        totals_.usage.shifted_tokens += done.usage.shifted_tokens;
        if (generations_ != 1) return;
        totals_.timings = done.timings;
        totals_.context = done.context;
    }

    std::uint32_t generations_;
    std::uint32_t awaited_;
    std::uint32_t choices_;
    CallProgress& progress_;
    std::uint32_t done_ = 0;
    Totals totals_;
};

Problem timed_out(Services const& services) {
    Problem problem;
    problem.kind = Kind::request_timeout;
    problem.message = fmt::format("The answer was not complete within {:.3g} s, the limit of this server.",
                                  to_ms(services.options.request_timeout) / 1000);
    return problem;
}

Problem queued_too_long(Services const& services, CallPlan const& plan) {
    auto problem = make_problem(Kind::queue_timeout,
                                fmt::format("The request waited {:.3g} s for its turn, which is its queue_timeout_ms.",
                                            to_ms(*plan.queue_timeout) / 1000),
                                "queue_timeout_ms");
    problem.retry_after_s = services.pool.predicted_wait_s(plan.info.model, plan.info.priority);
    return problem;
}

// When the call is over whatever happens, as seen at this moment.
Instant give_up_at(Instant began, Instant deadline, CallPlan const& plan, Tally const& tally) {
    bool const queued = plan.queue_timeout && !tally.begun();
    return queued ? std::min(deadline, began + *plan.queue_timeout) : deadline;
}

Problem too_late(Services const& services, Instant now, Instant deadline, CallPlan const& plan) {
    return now < deadline && plan.queue_timeout ? queued_too_long(services, plan) : timed_out(services);
}

// What the pool predicts belongs to an error of the engine, too.
Problem with_advice(Services const& services, CallPlan const& plan, Problem problem) {
    if (problem.kind == Kind::queue_timeout && !problem.retry_after_s)
        problem.retry_after_s = services.pool.predicted_wait_s(plan.info.model, plan.info.priority);
    return problem;
}

void log_done(Services& services, http::Exchange const& exchange, Totals const& totals, Instant began) {
    services.log.debug("generation done", {{"request_id", exchange.request().id},
                                           {"prompt_tokens", totals.usage.prompt_tokens},
                                           {"completion_tokens", totals.usage.completion_tokens},
                                           {"ms", to_ms(services.clock.now() - began)}});
}

// --- whole answers ---

void collect(Answer& answer, Tally const& tally, SourcedEvent& sourced) {
    if (auto* delta = std::get_if<domain::Delta>(&sourced.event)) {
        auto& choice = answer.choices[tally.choice(sourced, delta->choice)];
        choice.text += delta->text;
        std::ranges::move(delta->logprobs, std::back_inserter(choice.logprobs));
    } else if (auto* embedded = std::get_if<domain::Embedded>(&sourced.event)) {
        answer.embedded[sourced.generation] = std::move(*embedded);
    } else if (auto const* done = std::get_if<domain::ChoiceDone>(&sourced.event)) {
        answer.choices[tally.choice(sourced, done->choice)].reason = done->reason;
    }
}

net::Task<void> send_whole(Services& services, http::Exchange& exchange, std::shared_ptr<EventSource> source,
                           CallPlan plan, CallProgress& progress) {
    auto const began = services.clock.now();
    auto const deadline = plan.info.arrived + services.options.request_timeout;
    Tally tally(plan, progress);
    Answer answer;
    answer.choices.resize(tally.choices());
    answer.embedded.resize(plan.generations);
    while (!tally.complete()) {
        auto sourced = source->try_next();
        if (!sourced) {
            auto const left = give_up_at(began, deadline, plan, tally) - services.clock.now();
            bool const late = left <= Duration::zero();
            if (!late) sourced = co_await source->next_within(left);
            if (exchange.disconnected()) co_return;
            if (!sourced && !late) continue;
        }
        auto problem = sourced ? tally.note(sourced->event) : too_late(services, services.clock.now(), deadline, plan);
        if (problem) {
            source->cancel();
            auto advised = with_advice(services, plan, *std::move(problem));
            co_await send_problem(services, exchange, std::move(advised), plan.render_problem);
            co_return;
        }
        collect(answer, tally, *sourced);
    }
    answer.totals = tally.totals();
    log_done(services, exchange, answer.totals, began);
    auto body = plan.render(answer);
    if (!body) {
        auto problem = to_problem(body.error());
        co_await send_problem(services, exchange, std::move(problem), plan.render_problem);
        co_return;
    }
    http::Response response;
    response.body = *std::move(body);
    response.headers.emplace_back("openai-processing-ms", fmt::format("{:.0f}", to_ms(services.clock.now() - began)));
    co_await exchange.send(std::move(response));
}

// --- streams ---

class StreamRun {
public:
    StreamRun(Services& services, http::Exchange& exchange, std::shared_ptr<EventSource> source, CallPlan plan,
              CallProgress& progress)
        : services_(services),
          exchange_(exchange),
          source_(std::move(source)),
          plan_(std::move(plan)),
          tally_(plan_, progress) {}

    net::Task<void> run() {
        began_ = services_.clock.now();
        deadline_ = plan_.info.arrived + services_.options.request_timeout;
        last_write_ = began_;
        now_ = began_;
        while (!tally_.complete()) {
            auto sourced = source_->try_next();
            if (!sourced || out_.size() >= kWriteBytes) {
                auto const written = co_await flush();
                if (!written) co_return;
            }
            if (!sourced) sourced = co_await wait();
            if (exchange_.disconnected()) co_return;
            auto problem = sourced && now_ < deadline_ ? accept(*sourced) : silence();
            if (problem) {
                auto advised = with_advice(services_, plan_, *std::move(problem));
                co_await fail(std::move(advised));
                co_return;
            }
        }
        plan_.stream->end(out_, tally_.totals());
        log_done(services_, exchange_, tally_.totals(), began_);
        auto const written = co_await flush();
        if (written) co_await exchange_.end_stream();
    }

private:
    // The next event, or nothing when a ping is due or time is up.
    net::Task<std::optional<SourcedEvent>> wait() {
        now_ = services_.clock.now();
        auto left = give_up_at(began_, deadline_, plan_, tally_) - now_;
        if (plan_.ping_interval != Duration::max()) left = std::min(left, last_write_ + plan_.ping_interval - now_);
        auto sourced = co_await source_->next_within(std::max(left, Duration::zero()));
        if (!sourced) now_ = services_.clock.now();
        co_return sourced;
    }

    std::optional<Problem> accept(SourcedEvent const& sourced) {
        if (auto problem = tally_.note(sourced.event)) return problem;
        // A generation replayed on another worker starts twice; the client sees one beginning.
        if (!std::exchange(begun_, true)) plan_.stream->begin(out_);
        if (auto const* delta = std::get_if<domain::Delta>(&sourced.event)) {
            plan_.stream->delta(out_, tally_.choice(sourced, delta->choice), *delta);
        } else if (auto const* done = std::get_if<domain::ChoiceDone>(&sourced.event)) {
            plan_.stream->choice_done(out_, tally_.choice(sourced, done->choice), done->reason);
        } else if (auto const* progress = std::get_if<domain::PromptProgress>(&sourced.event)) {
            plan_.stream->progress(out_, tally_.choice(sourced, 0), *progress);
        }
        return std::nullopt;
    }

    std::optional<Problem> silence() {
        if (now_ >= give_up_at(began_, deadline_, plan_, tally_)) return too_late(services_, now_, deadline_, plan_);
        bool const due = plan_.ping_interval != Duration::max() && now_ - last_write_ >= plan_.ping_interval;
        if (!due) return std::nullopt;
        plan_.stream->ping(out_, source_->waiting());
        last_write_ = now_;
        return std::nullopt;
    }

    // False once the client is gone.
    net::Task<bool> flush() {
        if (out_.empty()) co_return true;
        if (!exchange_.started()) {
            http::StreamHead head;
            head.content_type = plan_.stream_type;
            auto const opened = co_await exchange_.start_stream(std::move(head));
            if (!opened) co_return false;
        }
        auto bytes = std::exchange(out_, std::string());
        auto const written = co_await exchange_.write(std::move(bytes));
        now_ = services_.clock.now();
        last_write_ = now_;
        co_return written.has_value();
    }

    net::Task<void> fail(Problem problem) {
        source_->cancel();
        if (!exchange_.started()) {
            co_await send_problem(services_, exchange_, std::move(problem), plan_.render_problem);
            co_return;
        }
        log_problem(services_.log, problem, exchange_.request().id);
        plan_.stream->fail(out_, problem);
        auto const written = co_await flush();
        if (written) co_await exchange_.end_stream();
    }

    Services& services_;
    http::Exchange& exchange_;
    std::shared_ptr<EventSource> source_;
    CallPlan plan_;
    Tally tally_;
    Instant began_{};
    Instant deadline_{};
    Instant last_write_{};  // or ping, also one with nothing to say
    Instant now_{};    // as of the last wait or write: the clock is not read per token
    std::string out_;  // events not written yet
    bool begun_ = false;
};

}  // namespace

net::Task<void> send_problem(Services& services, http::Exchange& exchange, Problem problem, RenderProblem render) {
    log_problem(services.log, problem, exchange.request().id);
    auto response = render(problem, exchange.request().id);
    co_await exchange.send(std::move(response));
}

net::Task<void> run_call(Services& services, http::Exchange& exchange, std::shared_ptr<EventSource> source,
                         CallPlan plan) {
    exchange.on_disconnect([source] { source->cancel(); });
    auto const listed = services.calls ? services.calls->enter(plan.info, source) : CallList::unlisted();
    source->on_admitted([entry = std::weak_ptr(listed)](domain::RequestId id) {
        if (auto const call = entry.lock()) call->info.generations.push_back(id);
    });
    if (!plan.stream) {
        co_await send_whole(services, exchange, std::move(source), std::move(plan), listed->progress);
        co_return;
    }
    StreamRun stream(services, exchange, std::move(source), std::move(plan), listed->progress);
    co_await stream.run();
}

}  // namespace hearth::api
