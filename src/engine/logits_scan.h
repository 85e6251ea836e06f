// Passes over a row of logits, written so that the compiler vectorises them.
//
// They are the only code that touches every logit of every token: at 49,000
// entries each pass costs some ten microseconds, so a sampler makes as few as
// it can and hands small candidate lists on.
//
// Order: every selection prefers the higher logit, then the lower token id.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "domain/generate.h"

namespace hearth::engine {

using domain::Token;

struct Candidate {
    float logit;
    float p;  // filled by whoever needs it
    Token id;
};

// The order of every selection.
[[nodiscard]] inline bool comes_first(Candidate const& a, Candidate const& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

struct Peak {
    Token id;
    float logit;
};

// The largest logit. Nothing when a logit is NaN or +infinity, or all are
// -infinity (or there are none): such a row has no distribution.
[[nodiscard]] std::optional<Peak> find_peak(std::span<float const> logits);

// The `k` largest, best first; -infinity is never among them.
void select_top(std::span<float const> logits, std::size_t k, std::vector<Candidate>& out);

// Every logit >= `at_least`, in order of ids; -infinity is never among them.
void select_above(std::span<float const> logits, float at_least, std::vector<Candidate>& out);

// weights[i] = e^((logits[i] - peak) * inverse_temperature); returns their sum.
// REQUIRES: weights.size() == logits.size(), peak >= every logit
double exponentials(std::span<float const> logits, float peak, float inverse_temperature, std::span<float> weights);

// Index of the weight in which the running sum passes `target`; the last
// positive one if rounding keeps it from getting there.
// REQUIRES: a weight is positive
[[nodiscard]] std::size_t find_quantile(std::span<float const> weights, double target);

}  // namespace hearth::engine
