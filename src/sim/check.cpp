#include "sim/check.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "domain/transcript.h"
#include "sim/check_traffic.h"
#include "sim/run.h"

namespace hearth::sim {
namespace {

using domain::Transcript;

// Tokens others may get while a request waits, beyond the work that was in
// before it: newcomers of a better class, or of a tenant that had less so far. And
// all of one newcomer that was inside before it could be passed, however much that is.
constexpr std::uint64_t kOvertakingTokens = 4000;

// Entries by which a batch may pass its budget: each running sequence decodes,
// and one group of a prompt goes on beside them.
constexpr std::size_t kGroup = 16;

// Entries of a batch of a sequence that is computed alone.
constexpr std::size_t kPinnedMax = 64;

class Checker {
public:
    explicit Checker(CheckCase const& made)
        : case_(made), run_(made.workload, made.setup), watched_(made.workload.jobs.size()) {
        for (auto const& job : made.workload.jobs)
            if (job.shifts) heaviest_ = std::max(heaviest_, said_by(job));
        run_.on_event = [this](std::uint32_t job, domain::Event const& event) { on_event(job, event); };
    }

    Result<CheckTally> run() {
        while (run_.advance()) {
            check_step();
            if (broken_) return *broken_;
        }
        check_end();
        if (broken_) return *broken_;
        return tally();
    }

private:
    struct Watched {
        domain::GenerateRequest request;  // once it started
        Transcript transcript;
        std::uint64_t due = 0;  // when it must have got something, in tokens computed; 0: not seen yet
    };

    void broken(std::string why) {
        if (!broken_)
            broken_ = Error(Code::internal, fmt::format("{} (step {}, {:.0f} ms)", why, run_.steps(), run_.now_ms()));
    }

    void on_event(std::uint32_t job, domain::Event const& event) {
        auto& watched = watched_[job];
        if (auto const wrong = watched.transcript.add(event)) broken(fmt::format("request {}: {}", job, *wrong));
        if (std::holds_alternative<domain::Started>(event)) watched.request = run_.request_of(job);
        watched.due = due();
    }

    [[nodiscard]] std::uint64_t computed() const {
        auto const& work = run_.backend().work();
        return work.rows + work.prompt_tokens;
    }

    // By then all work that is inside now could have been done, and some for newcomers.
    [[nodiscard]] std::uint64_t due() const {
        std::uint64_t work = 0;
        for (std::uint32_t const index : run_.inside()) {
            work += run_.outcomes()[index].prompt + said_by(run_.job(index));
        }
        return computed() + work + kOvertakingTokens + heaviest_;
    }

    // What its answer computes: with shifts the context again each time it is full.
    [[nodiscard]] std::uint64_t said_by(Job const& job) const {
        std::uint64_t const tokens = std::uint64_t{job.output_tokens} * job.choices;
        if (!job.shifts) return tokens;
        std::uint64_t const context = case_.setup.model.context_request;
        return tokens + tokens * context / job.discard_tokens.value_or((kContextMin - job.keep_tokens) / 2);
    }

    void check_step() {
        run_.core().check_integrity();
        auto const stats = run_.core().stats();
        if (stats.kv_used != run_.backend().cells_used())
            broken(
                fmt::format("the engine counts {} cells, the backend {}", stats.kv_used, run_.backend().cells_used()));
        auto const batch = run_.backend().last_batch();
        auto const& options = case_.setup.engine;
        std::size_t const budget =
            std::max<std::size_t>({kPinnedMax, options.prompt_tokens, options.mixed_tokens_max, batch.rows + kGroup});
        if (batch.entries > std::min<std::size_t>(budget, case_.setup.model.batch_max))
            broken(fmt::format("a batch of {} entries, {} of them rows, passes its budget", batch.entries, batch.rows));
        for (std::uint32_t const index : run_.inside()) {
            auto& watched = watched_[index];
            if (watched.due == 0) watched.due = due();
            bool const may_pause = run_.job(index).reads_tokens_per_s > 0 && watched.transcript.started;
            if (!may_pause && computed() > watched.due)
                broken(
                    fmt::format("request {} starves: it got nothing while {} tokens were computed", index, computed()));
        }
    }

    void check_end() {
        if (run_.stuck()) broken("the engine has work and gets nowhere");
        for (std::uint32_t i = 0; i < watched_.size(); ++i) {
            auto const& outcome = run_.outcomes()[i];
            auto const& transcript = watched_[i].transcript;
            if (outcome.end == End::open) broken(fmt::format("request {} never ended", i));
            bool const inside = outcome.end != End::refused && outcome.end != End::skipped;
            if (inside != transcript.ended()) broken(fmt::format("request {}: lost, or answered though refused", i));
            bool const late = outcome.code == Code::deadline_exceeded && run_.job(i).deadlines != domain::Deadlines{};
            if (outcome.end == End::failed && !late && !case_.injects())
                broken(fmt::format("request {} failed, and nothing was made to fail: {}", i, transcript.failure));
            if (inside && transcript.started) check_text(i);
        }
        run_.core().forget();
        run_.core().check_integrity();
        auto const stats = run_.core().stats();
        if (stats.kv_used + stats.running + stats.waiting != 0) broken("the engine holds something in the end");
        if (run_.backend().cells_used() + run_.backend().sequences_used() != 0)
            broken("the backend holds something in the end");
        if (run_.draft() != nullptr && run_.draft()->cells_used() + run_.draft()->sequences_used() != 0)
            broken("the draft model holds something in the end");
    }

    void check_text(std::uint32_t index) {
        auto const& watched = watched_[index];
        auto const& request = watched.request;
        if (request.sampling.temperature == 0 && request.stop.empty()) {
            auto const answer = answer_to(request);
            for (auto const& said : watched.transcript.choices) check_greedy(index, said, answer);
            return;
        }
        if (!watched.transcript.done || run_.outcomes()[index].end != End::done) return;
        if (alone(request).choices != watched.transcript.choices)
            broken(fmt::format("request {} says something else alone", index));
    }

    // The answer up to where it was cut; halves of characters are let out at an end.
    void check_greedy(std::uint32_t index, Transcript::Said const& said, std::vector<Token> const& answer) {
        if (said.tokens > answer.size()) {
            broken(fmt::format("request {} said {} tokens of {}", index, said.tokens, answer.size()));
            return;
        }
        Utf8Carry carry;
        std::string text;
        std::string piece;
        for (std::uint32_t i = 0; i < said.tokens; ++i) {
            piece.clear();
            run_.backend().append_piece(answer[i], piece);
            carry.push(piece, text);
        }
        if (said.done) carry.finish(text);
        if (said.text != text) broken(fmt::format("request {} says \"{}\", not \"{}\"", index, said.text, text));
        bool const cut = !said.done || said.done->reason == domain::FinishReason::cancelled;
        if (!cut && said.tokens != answer.size())
            broken(fmt::format("request {} ended after {} tokens of {}", index, said.tokens, answer.size()));
    }

    [[nodiscard]] std::vector<Token> answer_to(domain::GenerateRequest const& request) const {
        auto text = std::get<domain::TokenPrompt>(request.prompt).tokens;
        std::size_t const context = std::min(case_.setup.model.context_request, case_.setup.model.kv_cells);
        if (request.overflow == domain::Overflow::shift) return shifted_answer(request, std::move(text), context);
        auto const left = static_cast<std::uint32_t>(context - text.size());
        return run_.backend().answer(text, std::min(left, *request.max_tokens));
    }

    // By the words of the contract: whenever the context is full, tokens behind the head are gone.
    [[nodiscard]] std::vector<Token> shifted_answer(domain::GenerateRequest const& request, std::vector<Token> text,
                                                    std::size_t context) const {
        auto const keep = static_cast<std::ptrdiff_t>(std::min<std::size_t>(*request.keep_tokens, text.size()));
        auto const drop = [&](std::ptrdiff_t tokens) { text.erase(text.begin() + keep, text.begin() + keep + tokens); };
        auto const behind = [&] { return static_cast<std::ptrdiff_t>(text.size()) - keep; };
        auto const block = std::max<std::ptrdiff_t>((static_cast<std::ptrdiff_t>(context) - keep) / 2, 1);
        if (text.size() >= context) drop((behind() - block) / block * block);
        std::vector<Token> said;
        while (said.size() < *request.max_tokens) {
            auto const next = run_.backend().answer(text, 1);
            said.push_back(next.front());
            if (run_.backend().is_end_of_generation(said.back())) break;
            if (text.size() == context)
                drop(request.discard_tokens ? static_cast<std::ptrdiff_t>(*request.discard_tokens) : behind() / 2);
            text.push_back(said.back());
        }
        return said;
    }

    // What the same request says in an engine of its own, with room for all.
    [[nodiscard]] Transcript alone(domain::GenerateRequest request) const {
        SimModel model = case_.setup.model;
        model.faults = {};
        model.context_request = std::min(model.context_request, model.kv_cells);
        model.kv_cells = model.context_request * (request.choices + 1);
        model.sequences_max = std::max(model.sequences_max, request.choices);
        ManualClock clock;
        SimBackend backend(model, clock);
        engine::Preparer preparer(backend, 1);
        request.return_prompt_progress = false;
        request.deadlines = {};
        engine::Options const options{.credit = *request.max_tokens * request.choices, .seed = 1};
        engine::EngineCore core(backend, options, clock, preparer.end_tokens());
        Transcript transcript;
        auto prepared = preparer.prepare(1, std::move(request), clock.now());
        if (!prepared) return transcript;
        core.add(std::move(prepared).value());
        while (core.has_work()) {
            core.step();
            for (auto const& event : core.events()) (void)transcript.add(event.event);
            core.clear_events();
        }
        return transcript;
    }

    [[nodiscard]] CheckTally tally() {
        CheckTally tally;
        for (auto const& outcome : run_.outcomes()) {
            tally.requests += outcome.arrived_ms >= 0 ? 1 : 0;
            tally.done += outcome.end == End::done ? 1 : 0;
            tally.failed += outcome.end == End::failed ? 1 : 0;
            tally.cancelled += outcome.end == End::cancelled ? 1 : 0;
            tally.cached_tokens += outcome.cached;
        }
        tally.preemptions = run_.core().stats().preemptions_total;
        tally.model_drafted = run_.core().stats().model_drafted_total;
        tally.model_accepted = run_.core().stats().model_accepted_total;
        tally.shifts = run_.core().stats().shifts_total;
        tally.interruptions = run_.core().stats().interruptions_total;
        tally.steps = run_.steps();
        tally.simulated_s = run_.now_ms() / 1000;
        return tally;
    }

    static constexpr std::uint32_t kContextMin = 50;  // as check_traffic.cpp makes them

    CheckCase const& case_;
    std::uint64_t heaviest_ = 0;  // the most that one request's shifts compute
    Run run_;
    std::vector<Watched> watched_;
    std::optional<Error> broken_;
};

// What the handler of SIGABRT writes; made before the seed runs, for a handler may not.
struct Epitaph {
    std::array<char, 128> text{};
    std::size_t size = 0;
};
thread_local Epitaph epitaph;

void set_epitaph(std::uint64_t seed) {
    auto const text = "replay: " + replay_command(seed) + '\n';
    epitaph.size = std::min(text.size(), epitaph.text.size());
    std::copy_n(text.begin(), epitaph.size, epitaph.text.begin());
}

extern "C" void write_epitaph(int) {
    if (::write(STDERR_FILENO, epitaph.text.data(), epitaph.size) < 0) return;
}

class AbortHandler {
public:
    AbortHandler() : before_(std::signal(SIGABRT, write_epitaph)) {}
    ~AbortHandler() { (void)std::signal(SIGABRT, before_); }
    AbortHandler(AbortHandler const&) = delete;
    AbortHandler& operator=(AbortHandler const&) = delete;

private:
    void (*before_)(int);
};

}  // namespace

void CheckTally::operator+=(CheckTally const& more) {
    requests += more.requests;
    done += more.done;
    failed += more.failed;
    cancelled += more.cancelled;
    cached_tokens += more.cached_tokens;
    preemptions += more.preemptions;
    model_drafted += more.model_drafted;
    model_accepted += more.model_accepted;
    shifts += more.shifts;
    interruptions += more.interruptions;
    steps += more.steps;
    simulated_s += more.simulated_s;
}

Result<CheckTally> check_seed(std::uint64_t seed) {
    auto const made = check_case(seed);
    return Checker(made).run();
}

CheckReport check_seeds(CheckOptions const& options) {
    AbortHandler const handler;
    SteadyClock const wall;
    Instant const begin = wall.now();
    CheckReport report;
    std::mutex mutex;
    std::atomic<std::uint64_t> next{0};
    auto const work = [&] {
        for (;;) {
            std::uint64_t const i = next.fetch_add(1);
            if (i >= options.count) return;
            set_epitaph(options.first + i);
            auto const checked = check_seed(options.first + i);
            std::scoped_lock const lock(mutex);
            if (checked) {
                report.tally += *checked;
                continue;
            }
            report.failures.push_back(fmt::format("seed {}: {}\nreplay: {}", options.first + i, checked.error().message,
                                                  replay_command(options.first + i)));
            if (report.failures.size() >= options.failures_max) next = options.count;
        }
    };
    std::vector<std::thread> threads;
    for (std::uint32_t i = 1; i < options.threads; ++i) threads.emplace_back(work);
    work();
    for (auto& thread : threads) thread.join();
    report.wall_s = to_ms(wall.now() - begin) / 1000;
    return report;
}

std::string replay_command(std::uint64_t seed) { return fmt::format("hearth sim --check --seed {} --seeds 1", seed); }

}  // namespace hearth::sim
