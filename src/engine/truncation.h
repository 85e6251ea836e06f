// The truncating steps of the sampler chain, over a short list of candidates.
//
// Each takes the candidates as the step before left them and drops those it
// rules out; none ever drops the last one. Probabilities are those among the
// candidates still in, as in llama.cpp: every step normalises again.
#pragma once

#include <vector>

#include "engine/logits_scan.h"
#include "engine/sampling_math.h"

namespace hearth::engine {

// Fills p from the logits at temperature 1. REQUIRES: !candidates.empty()
void softmax(std::vector<Candidate>& candidates);

// Keeps the most likely ones until their sum reaches `top_p`. REQUIRES: sorted best first
void keep_top_p(std::vector<Candidate>& candidates, float top_p);

// Keeps those at least `min_p` times as likely as the best.
void keep_min_p(std::vector<Candidate>& candidates, float min_p);

// Locally typical sampling: keeps those whose surprise is closest to the
// entropy until their sum passes `typical_p`. Leaves them in that order.
void keep_typical(std::vector<Candidate>& candidates, float typical_p);

// XTC ("exclude top choices"): of the candidates at least `threshold` likely,
// drops all but the least likely; one alone stays.
void drop_top_choices(std::vector<Candidate>& candidates, float threshold);

// Draws one with the chance its logit at `temperature` gives it.
// REQUIRES: !candidates.empty(), temperature > 0
[[nodiscard]] std::size_t draw(std::vector<Candidate>& candidates, float temperature, Random& random);

}  // namespace hearth::engine
