#include "sim/run.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace hearth::sim {
namespace {

// Steps without progress after which the next thing has to happen from outside.
constexpr std::uint32_t kIdleStepsBeforeJump = 8;

Duration of_ms(double ms) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(ms));
}

engine::RequestId id_of(std::uint32_t job) { return job + 1; }
std::uint32_t job_of(engine::RequestId id) { return static_cast<std::uint32_t>(id - 1); }

}  // namespace

Run::Run(Workload const& workload, Setup const& setup)
    : workload_(workload),
      setup_(setup),
      backend_(setup.model, clock_),
      draft_(setup.draft ? std::make_unique<SimBackend>(*setup.draft, clock_) : nullptr),
      preparer_(backend_, setup.model.seed | 1U),
      core_(backend_, setup.engine, clock_, preparer_.end_tokens()),
      followers_(workload.jobs.size()),
      outcomes_(workload.jobs.size()),
      prompts_(workload.jobs.size()),
      unread_(workload.jobs.size(), 0) {
    backend_.meanwhile = [this](Instant end) { hurry_until(end); };
    if (draft_) core_.guess_with(*draft_);
    for (std::uint32_t i = 0; i < workload.jobs.size(); ++i) {
        auto const& job = workload.jobs[i];
        if (job.after == kNoJob) {
            at(job.at_ms, Timer::Kind::arrive, i);
        } else {
            followers_[job.after].push_back(i);
        }
    }
}

void Run::at(double ms, Timer::Kind kind, std::uint32_t job) { timers_.push({ms, timers_made_++, kind, job}); }

bool Run::advance() {
    deliver_due();
    auto const due = core_.next_deadline();
    bool const late = due && *due <= clock_.now();
    if (!core_.has_work() && !late) return jump();
    Instant const before = clock_.now();
    core_.step();
    ++steps_;
    bool const moved = clock_.now() != before || !core_.events().empty();
    collect();
    idle_steps_ = moved ? 0 : idle_steps_ + 1;
    if (idle_steps_ >= kIdleStepsBeforeJump) (void)jump();
    return !stuck();
}

// To the next timer or deadline, when nothing can happen before. False when there is none.
bool Run::jump() {
    std::optional<double> next_ms;
    if (!timers_.empty()) next_ms = timers_.top().at_ms;
    if (auto const due = core_.next_deadline()) {
        double const due_ms = to_ms(*due - Instant{});
        next_ms = next_ms ? std::min(*next_ms, due_ms) : due_ms;
    }
    if (!next_ms) return false;
    // Rounded up, lest the clock stays just before it.
    if (*next_ms > now_ms()) {
        clock_.advance(of_ms(*next_ms - now_ms()) + Duration{1});
        idle_steps_ = 0;
    }
    return true;
}

void Run::deliver_due() {
    while (!timers_.empty() && timers_.top().at_ms <= now_ms()) {
        Timer const timer = timers_.top();
        timers_.pop();
        switch (timer.kind) {
            case Timer::Kind::arrive: arrive(timer.job); break;
            case Timer::Kind::grant: give_credit(timer.job); break;
            case Timer::Kind::cancel:
                if (outcomes_[timer.job].end == End::open) core_.cancel(id_of(timer.job));
                break;
        }
        collect();
    }
}

// Who comes while a step is computed may be a reason to give it up.
void Run::hurry_until(Instant end) {
    std::vector<Timer> seen;
    bool stopped = false;
    while (!stopped && !timers_.empty() && timers_.top().at_ms <= to_ms(end - Instant{})) {
        Timer const timer = timers_.top();
        timers_.pop();
        seen.push_back(timer);
        if (timer.kind != Timer::Kind::arrive || setup_.plain || inside_.size() >= setup_.engine.requests_max) continue;
        if (timer.at_ms > now_ms()) clock_.advance(of_ms(timer.at_ms - now_ms()) + Duration{1});  // as in jump()
        stopped = core_.hurry(workload_.jobs[timer.job].priority);
    }
    for (auto const& timer : seen) timers_.push(timer);
}

void Run::make_prompt(std::uint32_t index) {
    auto const& job = workload_.jobs[index];
    auto& prompt = prompts_[index];
    if (job.continues) {
        prompt = prompts_[job.after];
        auto said = backend_.answer(prompt, outcomes_[job.after].said_first);
        if (!said.empty() && backend_.is_end_of_generation(said.back())) said.pop_back();
        prompt.insert(prompt.end(), said.begin(), said.end());
    }
    for (auto const& segment : job.prompt) append_tokens(segment, setup_.model.vocabulary - 1, prompt);
}

domain::GenerateRequest Run::request_of(std::uint32_t index) const {
    auto const& job = workload_.jobs[index];
    domain::GenerateRequest request;
    request.prompt = domain::TokenPrompt{prompts_[index]};
    request.sampling.temperature = job.temperature;
    request.sampling.seed = setup_.model.seed + index;
    request.stop = job.stop;
    request.top_logprobs = job.top_logprobs;
    request.return_prompt_progress = job.progress;
    request.choices = job.choices;
    request.max_tokens = job.output_tokens;
    request.cache_prompt = job.cache_prompt;
    request.deterministic = job.deterministic;
    if (job.shifts) {
        request.overflow = domain::Overflow::shift;
        request.keep_tokens = job.keep_tokens;
        request.discard_tokens = job.discard_tokens;
    }
    request.deadlines = job.deadlines;
    if (setup_.plain) return request;
    request.priority = job.priority;
    request.tenant = "tenant-" + std::to_string(job.tenant);
    if (job.salt != 0) request.cache_salt = std::to_string(job.salt);
    return request;
}

void Run::arrive(std::uint32_t index) {
    auto const& job = workload_.jobs[index];
    auto& outcome = outcomes_[index];
    outcome.arrived_ms = now_ms();
    make_prompt(index);
    outcome.prompt = static_cast<std::uint32_t>(prompts_[index].size());
    if (inside_.size() >= setup_.engine.requests_max) {
        outcome.code = Code::overloaded;
        end(index, End::refused);
        return;
    }
    auto prepared = preparer_.prepare(id_of(index), request_of(index), clock_.now());
    if (!prepared) {
        outcome.code = prepared.error().code;
        end(index, End::refused);
        return;
    }
    prepared->public_tokens = setup_.plain ? 0 : job.public_tokens;  // there is no text to find them by
    inside_.push_back(index);
    core_.add(std::move(prepared).value());
    if (job.reads_tokens_per_s == 0) core_.grant(id_of(index), std::uint64_t{job.output_tokens} * job.choices);
    if (job.cancel_after_ms) at(now_ms() + *job.cancel_after_ms, Timer::Kind::cancel, index);
}

void Run::give_credit(std::uint32_t job) { core_.grant(id_of(job), std::exchange(unread_[job], 0)); }

void Run::collect() {
    // Ends may bring newcomers, which are timers: nothing is added while this walks.
    for (auto const& event : core_.events()) {
        auto const job = job_of(event.request);
        book(job, event.event);
        if (on_event) on_event(job, event.event);
    }
    core_.clear_events();
}

void Run::book(std::uint32_t job, domain::Event const& event) {
    auto& outcome = outcomes_[job];
    if (auto const* delta = std::get_if<domain::Delta>(&event)) {
        book_delta(job, *delta);
    } else if (auto const* started = std::get_if<domain::Started>(&event)) {
        outcome.started_ms = now_ms();
        outcome.cached = started->cached_tokens;
    } else if (auto const* choice = std::get_if<domain::ChoiceDone>(&event)) {
        if (choice->reason == domain::FinishReason::cancelled) outcome.end = End::cancelled;
    } else if (auto const* failed = std::get_if<domain::Failed>(&event)) {
        outcome.code = failed->error.code;
        std::erase(inside_, job);
        end(job, End::failed);
    } else if (auto const* done = std::get_if<domain::Done>(&event)) {
        // Events are seen at the end of a step, admission is at its begin.
        if (outcome.started_ms >= 0) outcome.started_ms = outcome.arrived_ms + done->timings.queue_ms;
        std::erase(inside_, job);
        end(job, outcome.end == End::cancelled ? End::cancelled : End::done);
    }
}

void Run::book_delta(std::uint32_t index, domain::Delta const& delta) {
    auto const& job = workload_.jobs[index];
    auto& outcome = outcomes_[index];
    if (delta.tokens == 0) return;
    outcome.said += delta.tokens;
    if (delta.choice == 0) {
        double const now = now_ms();
        if (outcome.first_ms < 0) {
            outcome.first_ms = now;
        } else if (job.reads_tokens_per_s == 0) {
            double const gap = now - outcome.last_ms;
            gaps_ms_[static_cast<std::size_t>(job.priority)].push_back(gap);
            outcome.gap_ms_max = std::max(outcome.gap_ms_max, gap);
        }
        outcome.said_first += delta.tokens;
        outcome.last_ms = now;
    }
    if (job.reads_tokens_per_s == 0) return;
    if (unread_[index] == 0) at(now_ms() + 1000 / job.reads_tokens_per_s, Timer::Kind::grant, index);
    unread_[index] += delta.tokens;
}

void Run::end(std::uint32_t index, End how) {
    auto& outcome = outcomes_[index];
    outcome.end = how;
    outcome.ended_ms = now_ms();
    bool continued = false;
    for (std::uint32_t const follower : followers_[index]) {
        auto const& job = workload_.jobs[follower];
        if (job.continues && how != End::done) {
            end(follower, End::skipped);
            continue;
        }
        continued = continued || job.continues;
        at(now_ms() + job.at_ms, Timer::Kind::arrive, follower);
    }
    auto const& job = workload_.jobs[index];
    if (job.after != kNoJob && job.continues) prompts_[job.after] = {};
    if (!continued) prompts_[index] = {};
}

}  // namespace hearth::sim
