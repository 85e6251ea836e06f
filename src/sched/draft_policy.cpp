#include "sched/draft_policy.h"

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace hearth::sched {
namespace {

constexpr double kBeliefWeight = 3;    // guesses that a first belief stands for
constexpr double kTriedMax = 64;       // guesses a chance remembers
constexpr double kChanceMax = 0.98;    // nothing is certain: bounds how deep a chain is worth it
constexpr std::uint64_t kPlainStepsMin = 4;   // measured before the first guess
constexpr std::uint32_t kPlainEvery = 64;     // steps with guesses, then one without, so that plain_ms() stays true
constexpr double kLossMax = 8;  // a step that took longer than so many times its plain time: the machine stalled

// Guesses of the chain whose own rows pay.
bool pays(DraftCosts const& costs, double chance) { return chance * costs.token_ms > costs.row_ms + costs.guess_ms; }

}  // namespace

DraftChance::DraftChance(double belief) : right_(kBeliefWeight * belief), tried_(kBeliefWeight) {
    HEARTH_ASSERT(belief >= 0 && belief <= 1, "a chance is a part of 1");
}

void DraftChance::observe(std::uint32_t drafted, std::uint32_t accepted) {
    HEARTH_ASSERT(accepted <= drafted, "no more tokens are right than there are");
    right_ += accepted;
    tried_ += accepted + (accepted < drafted ? 1 : 0);  // behind the first wrong one nothing was tried
    if (tried_ <= kTriedMax) return;
    double const forget = kTriedMax / tried_;
    right_ *= forget;
    tried_ *= forget;
}

double DraftPolicy::choose(DraftCosts const& costs, double ms_max, std::span<DraftWish> wishes) {
    std::uint32_t best_depth = 0;
    double best = 0;
    double gain = 0;
    double spent = 0;
    double spent_best = 0;
    for (std::uint32_t depth = 1;; ++depth) {
        std::uint32_t count = 0;
        for (auto const& wish : wishes) {
            double const chance = std::pow(std::min(wish.chance, kChanceMax), depth);
            if (depth > wish.most || !pays(costs, chance)) continue;
            gain += chance * costs.token_ms - costs.row_ms - costs.guess_ms;
            ++count;
        }
        spent += costs.pass_ms + count * costs.guess_ms;
        gain -= costs.pass_ms;
        if (count == 0 || spent > ms_max) break;
        if (gain <= best) continue;
        best = gain;
        best_depth = depth;
        spent_best = spent;
    }
    for (auto& wish : wishes) {
        wish.depth = 0;
        double const chance = std::min(wish.chance, kChanceMax);
        double here = chance;
        while (wish.depth < std::min(best_depth, wish.most) && pays(costs, here)) {
            ++wish.depth;
            here *= chance;
        }
    }
    return spent_best;
}

double DraftPolicy::saving_ms(DraftCosts const& costs, double chance, std::uint32_t most) {
    double const one = std::min(chance, kChanceMax);
    double best = 0;
    double gain = 0;
    double tokens = 1;
    double here = one;
    for (std::uint32_t depth = 1; depth <= most; ++depth, here *= one) {
        gain += here * costs.token_ms - costs.row_ms - costs.guess_ms - costs.pass_ms;
        tokens += here;
        best = std::max(best, gain / tokens);
    }
    return best;
}

bool DraftPolicy::may_draft() const {
    return plain_steps_ >= kPlainStepsMin && since_plain_ < kPlainEvery && purse_.is_open();
}

void DraftPolicy::passed(StepShape const& shape, double ms, double token_ms) {
    plain_.observe(shape, ms);
    if (shape.decodes == 0) return;
    since_plain_ = 0;
    ++plain_steps_;
    purse_.earn(ms, token_ms);
    if (++idle_ < patience_) return;
    idle_ = 0;
    patience_ = std::min(2 * patience_, kPatienceMax);
    belief_ = DraftChance();
}

double DraftPolicy::drafted(StepShape const& plain, double ms, std::uint32_t extra, double token_ms) {
    double const without = plain_.predict_ms(plain);
    double const took = std::min(ms, kLossMax * without);
    double const gain = extra * token_ms - (took - without);
    ++since_plain_;
    idle_ = 0;
    if (gain > 0) patience_ = kPatienceMin;
    purse_.earn(took, token_ms);
    return gain;
}

}  // namespace hearth::sched
