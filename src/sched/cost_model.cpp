#include "sched/cost_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/assert.h"

namespace hearth::sched {
namespace {

constexpr double kDecay = 0.97;     // what a step weighs when the next one has come: some 30 are remembered
constexpr double kInertia = 0.05;   // pull towards what is believed, against what the steps say of the same weight
constexpr double kBelief = 0.01;    // how fast beliefs follow what the steps say, once there were some
constexpr double kMemory = 1e-6;  // and at least this, against what they say of all: holds what they do not speak of
constexpr double kSurprise = 4;  // a step that took longer than so many times the prediction: the machine stalled
constexpr std::uint64_t kStepsToBeSurprised = 16;  // before, it knows too little
constexpr double kErrorRate = 0.02;  // how fast the average error follows
constexpr double kErrorMax = 0.5;    // what one step counts at most: it stalled
constexpr double kErrorsLate = 1.6;  // so many average errors above the prediction are nine of ten steps over
constexpr double kSlownessMax = 16;
constexpr double kMsMin = 0.05;  // differences of shorter steps are noise of the clock

// The largest of what a shape's parts may be, about: brings the four weights to one scale.
using Vector = std::array<double, 4>;
constexpr Vector kScale{1, 16, 256, 256};

Vector features(StepShape const& shape) {
    return {1 / kScale[0], shape.decodes / kScale[1], shape.prompt_tokens / kScale[2],
            static_cast<double>(shape.attended) / 1000 / kScale[3]};
}

double dot(Vector const& a, Vector const& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

}  // namespace

CostModel::CostModel(Weights initial)
    : weights_{initial.base * kScale[0], initial.per_decode * kScale[1], initial.per_prompt * kScale[2],
               initial.per_attended * kScale[3]},
      belief_(weights_) {
    HEARTH_ASSERT(std::ranges::all_of(weights_, [](double w) { return w >= 0; }), "no part of a step gives time back");
    HEARTH_ASSERT(std::ranges::any_of(weights_, [](double w) { return w > 0; }), "steps take time");
}

CostModel::Weights CostModel::weights() const {
    return {weights_[0] / kScale[0], weights_[1] / kScale[1], weights_[2] / kScale[2], weights_[3] / kScale[3]};
}

double CostModel::predict_ms(StepShape const& shape) const { return dot(weights_, features(shape)); }

double CostModel::prompt_ms(std::uint32_t tokens, std::uint32_t done) const {
    StepShape shape;
    shape.add_prompt(tokens, done);
    return predict_ms(shape);
}

double CostModel::margin() const { return 1 + kErrorsLate * error_; }

void CostModel::observe(StepShape const& shape, double ms) {
    if (!(ms > 0)) return;
    double const predicted = std::max(predict_ms(shape), kMsMin);
    double const most = steps_seen_ < kStepsToBeSurprised ? ms : kSurprise * predicted;
    double const y = std::clamp(ms, kMsMin, std::max(most, kMsMin));
    if (steps_seen_ >= kStepsToBeSurprised)
        error_ += kErrorRate * (std::min(std::abs(y / predicted - 1), kErrorMax) - error_);
    prompt_tokens_seen_ += shape.prompt_tokens;
    if (shape.guesses > 0) {
        guess_steps_ = std::min(guess_steps_ + 1, kGuessStepsToKnow);
        since_guesses_ = 0;
    } else if (shape.decodes > 0 && ++since_guesses_ >= kStepsToForget) {
        guess_steps_ = 0;
    }
    ++steps_seen_;
    double const weight = 1 / (y * y);  // so that errors are relative: short steps count as much as long ones
    Vector const x = features(shape);
    for (std::size_t i = 0; i < kSize; ++i) {
        for (std::size_t j = 0; j < kSize; ++j) squares_[i][j] = kDecay * squares_[i][j] + weight * x[i] * x[j];
        products_[i] = kDecay * products_[i] + weight * x[i] * y;
    }
    solve();
    double const rate = std::max(kBelief, 1.0 / static_cast<double>(steps_seen_));
    for (std::size_t i = 0; i < kSize; ++i) belief_[i] += rate * (weights_[i] - belief_[i]);
}

// How many times slower the machine was of late than believed: least squares as well.
double CostModel::slowness() const {
    double above = 0, below = 0;
    for (std::size_t i = 0; i < kSize; ++i) {
        above += products_[i] * belief_[i];
        below += dot(squares_[i], belief_) * belief_[i];
    }
    return below > 0 && above > 0 ? std::clamp(above / below, 1 / kSlownessMax, kSlownessMax) : 1;
}

// Minimises the remembered squared errors plus the inertia; weights that come out
// negative are held at zero and the others solved again. Steps of like shapes say
// little of what each part costs, and noise would make of it anything: so the pull
// is to beliefs that move slowly. A machine that is slowed down is so in all parts.
void CostModel::solve() {
    double const slow = slowness();
    double trace = 0;
    for (std::size_t i = 0; i < kSize; ++i) trace += squares_[i][i];
    std::array<bool, kSize> held{};
    Vector solution{};
    for (std::size_t round = 0; round <= kSize; ++round) {
        auto a = squares_;
        Vector b = products_;
        for (std::size_t i = 0; i < kSize; ++i) {
            double const pull = std::max(kInertia * squares_[i][i], kMemory * trace);
            a[i][i] += pull;
            b[i] += pull * slow * belief_[i];
            if (!held[i]) continue;
            for (std::size_t j = 0; j < kSize; ++j) a[i][j] = a[j][i] = 0;
            a[i][i] = 1;
            b[i] = 0;
        }
        // Gauss elimination: positive definite, so no pivots are needed.
        for (std::size_t i = 0; i < kSize; ++i) {
            for (std::size_t row = i + 1; row < kSize; ++row) {
                double const factor = a[row][i] / a[i][i];
                for (std::size_t column = i; column < kSize; ++column) a[row][column] -= factor * a[i][column];
                b[row] -= factor * b[i];
            }
        }
        for (std::size_t i = kSize; i-- > 0;) {
            double rest = b[i];
            for (std::size_t j = i + 1; j < kSize; ++j) rest -= a[i][j] * solution[j];
            solution[i] = rest / a[i][i];
        }
        bool fine = true;
        for (std::size_t i = 0; i < kSize; ++i) {
            if (solution[i] >= 0) continue;
            held[i] = true;
            fine = false;
        }
        if (fine) break;
    }
    weights_ = solution;
}

std::uint32_t CostModel::tokens_within(double target_ms, StepShape const& shape, std::uint32_t tokens,
                                       std::uint32_t done) const {
    auto const fit = [&](std::uint32_t count) {
        StepShape longer = shape;
        longer.add_prompt(count, done);
        return predict_ms(longer) <= target_ms;
    };
    if (fit(tokens)) return tokens;
    std::uint32_t most = 0;
    for (std::uint32_t too_many = tokens; too_many - most > 1;) {
        std::uint32_t const middle = most + (too_many - most) / 2;
        (fit(middle) ? most : too_many) = middle;
    }
    return most;
}

}  // namespace hearth::sched
