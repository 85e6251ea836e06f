// Run: one workload through one EngineCore, in virtual time.
//
// The policy that is simulated is the engine's own: the same EngineCore, prefix
// tree and Preparer that serve, on a SimBackend whose decode() moves a clock.
// Nothing sleeps; equal arguments give equal results, to the last event.
//
// Threads: one. Limits: what the workload holds.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <vector>

#include "engine/engine_core.h"
#include "engine/prepare.h"
#include "sim/sim_backend.h"
#include "sim/workload.h"

namespace hearth::sim {

struct Setup {
    engine::Options engine;
    SimModel model;
    std::optional<SimModel> draft{};  // guesses ahead
    bool plain = false;  // one tenant and one class for all, as in a server that knows neither
};

enum class End : std::uint8_t {
    open,       // still inside, or never arrived
    done,
    cancelled,
    failed,
    refused,    // at the door
    skipped,    // its chat ended before
};

struct Outcome {  // times since the start of the run; negative: never
    End end = End::open;
    Code code = Code::internal;  // of what failed or was refused
    double arrived_ms = -1;
    double started_ms = -1;
    double first_ms = -1;
    double last_ms = -1;
    double ended_ms = -1;
    double gap_ms_max = 0;
    std::uint32_t prompt = 0;
    std::uint32_t cached = 0;
    std::uint32_t said = 0;  // tokens, all choices
    std::uint32_t said_first = 0;  // of choice 0
};

class Run {
public:
    // REQUIRES: `workload` outlives this
    Run(Workload const& workload, Setup const& setup);

    // Called with every event, after its outcome was booked.
    std::function<void(std::uint32_t job, domain::Event const& event)> on_event;

    // One engine step, or the jump to what happens next. False when all is over or stuck.
    [[nodiscard]] bool advance();

    // The engine has work and does not get anywhere, and nothing will happen to it.
    [[nodiscard]] bool stuck() const { return idle_steps_ >= kIdleStepsMax; }

    [[nodiscard]] std::vector<Outcome> const& outcomes() const { return outcomes_; }
    [[nodiscard]] Job const& job(std::uint32_t index) const { return workload_.jobs[index]; }
    // Gaps between the tokens of the streams of a class whose clients read at once.
    [[nodiscard]] std::vector<double> const& gaps_ms(domain::Priority priority) const {
        return gaps_ms_[static_cast<std::size_t>(priority)];
    }
    [[nodiscard]] engine::EngineCore& core() { return core_; }
    [[nodiscard]] SimBackend const& backend() const { return backend_; }
    [[nodiscard]] SimBackend const* draft() const { return draft_.get(); }
    [[nodiscard]] double now_ms() const { return to_ms(clock_.now() - Instant{}); }
    [[nodiscard]] std::uint64_t steps() const { return steps_; }

    // Jobs in the engine, in order of arrival.
    [[nodiscard]] std::vector<std::uint32_t> const& inside() const { return inside_; }

    // What a job inside() asked for.
    [[nodiscard]] domain::GenerateRequest request_of(std::uint32_t index) const;

private:
    static constexpr std::uint32_t kIdleStepsMax = 1000;

    struct Timer {
        enum class Kind : std::uint8_t { arrive, grant, cancel };
        double at_ms;
        std::uint64_t order;
        Kind kind;
        std::uint32_t job;
        bool operator>(Timer const& other) const {
            return at_ms != other.at_ms ? at_ms > other.at_ms : order > other.order;
        }
    };

    void at(double ms, Timer::Kind kind, std::uint32_t job);
    void deliver_due();
    void hurry_until(Instant end);
    bool jump();
    void arrive(std::uint32_t index);
    void make_prompt(std::uint32_t index);
    void give_credit(std::uint32_t job);
    void collect();
    void book(std::uint32_t job, domain::Event const& event);
    void book_delta(std::uint32_t index, domain::Delta const& delta);
    void end(std::uint32_t index, End how);

    Workload const& workload_;
    Setup setup_;
    ManualClock clock_;
    SimBackend backend_;
    std::unique_ptr<SimBackend> draft_;
    engine::Preparer preparer_;
    engine::EngineCore core_;
    std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
    std::uint64_t timers_made_ = 0;
    std::vector<std::vector<std::uint32_t>> followers_;  // per job: those that wait for its end
    std::vector<Outcome> outcomes_;
    std::vector<std::vector<Token>> prompts_;  // of jobs that are inside, or that a follower continues
    std::vector<std::uint32_t> unread_;        // tokens a slow reader got and has not read
    std::array<std::vector<double>, domain::kPriorityCount> gaps_ms_;
    std::vector<std::uint32_t> inside_;
    std::uint32_t idle_steps_ = 0;
    std::uint64_t steps_ = 0;
};

}  // namespace hearth::sim
