// DraftPolicy: whether tokens that a second, smaller model guesses are worth
// their time, and how many of them.
//
// The draft model guesses one token per pass for each sequence that takes part,
// and each guess is a row of the step that verifies it. So d guesses for a
// sequence cost d rows and a share of d passes, and are worth the chance of each
// times what a token takes without guesses. choose() takes the number of passes
// for which that comes out best.
//
// Predictions err. What drafting really gained or lost is measured against what
// steps take without it (plain_ms(), learnt from steps without such guesses, of
// which there is always one now and then) and booked into a purse (sched/purse.h):
// so whatever goes wrong, about a hundredth of the time is lost to finding out.
//
// Threads: one. Deterministic: times are given to it.
#pragma once

#include <cstdint>
#include <span>

#include "sched/cost_model.h"
#include "sched/purse.h"

namespace hearth::sched {

// How often guesses come true for one sequence, or for all.
class DraftChance {
public:
    static constexpr double kHope = 0.7;  // before anything was seen

    explicit DraftChance(double belief = kHope);

    // That one more guess is right, given that those before it are.
    [[nodiscard]] double probability() const { return right_ / tried_; }

    // Of `drafted` guesses the first `accepted` were right. REQUIRES: accepted <= drafted
    void observe(std::uint32_t drafted, std::uint32_t accepted);

private:
    double right_;
    double tried_;
};

struct DraftCosts {  // milliseconds
    double token_ms = 0;  // what a token takes in a step without guesses
    double row_ms = 0;    // a row more in that step
    double pass_ms = 0;   // a pass of the draft model,
    double guess_ms = 0;  // and each sequence in it
};

struct DraftWish {
    double chance = 0;
    std::uint32_t most = 0;   // guesses there is room for
    std::uint32_t depth = 0;  // guesses that pay: set by choose()
};

class DraftPolicy {
public:
    // `first_guess` of steps without guesses. REQUIRES: as CostModel
    explicit DraftPolicy(CostModel::Weights first_guess) : plain_(first_guess) {}

    // Sets the depth of each wish, such that the passes take no more than
    // `ms_max`; returns what they take together, as predicted.
    static double choose(DraftCosts const& costs, double ms_max, std::span<DraftWish> wishes);

    // What guessing for one sequence alone saves per token that it emits; 0 where it does not pay.
    [[nodiscard]] static double saving_ms(DraftCosts const& costs, double chance, std::uint32_t most);

    // Guesses may be made in this step.
    [[nodiscard]] bool may_draft() const;

    // What new sequences are believed to have.
    [[nodiscard]] double belief() const { return belief_.probability(); }
    void observe(std::uint32_t drafted, std::uint32_t accepted) { belief_.observe(drafted, accepted); }

    // A step without guesses of the draft model took `ms`; `token_ms`: per token.
    void passed(StepShape const& shape, double ms, double token_ms);

    // A step with such guesses took `ms`, the passes included; without, it would
    // have been of `plain` shape. `extra` guesses came true. Returns what it gained.
    double drafted(StepShape const& plain, double ms, std::uint32_t extra, double token_ms);

    // Adds to the purse, or takes from it.
    void book(double ms) { purse_.book(ms); }

    [[nodiscard]] double plain_ms(StepShape const& shape) const { return plain_.predict_ms(shape); }
    [[nodiscard]] double purse_ms() const { return purse_.ms(); }

private:
    static constexpr double kPurseTokens = 12;

    CostModel plain_;
    DraftChance belief_;
    std::uint64_t plain_steps_ = 0;
    std::uint32_t since_plain_ = 0;  // steps with guesses since one without
    std::uint32_t idle_ = 0;         // steps without guesses since one with
    std::uint32_t patience_ = kPatienceMin;
    Purse purse_{kPurseTokens, kPurseTokens};

    static constexpr std::uint32_t kPatienceMin = 500;  // idle steps after which hope comes back
    static constexpr std::uint32_t kPatienceMax = 8000;
};

}  // namespace hearth::sched
