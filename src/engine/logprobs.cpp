#include "engine/logprobs.h"

#include <algorithm>

#include "base/assert.h"

namespace hearth::engine {

domain::SampledLogprob make_logprob(std::span<float const> logits, Token chosen, std::uint32_t top,
                                    llama::Backend const& backend, SamplerScratch& scratch) {
    auto const peak = find_peak(logits);
    HEARTH_ASSERT(peak.has_value(), "the sampler accepted these logits");
    scratch.weights.resize(logits.size());
    double const log_sum = log_of(exponentials(logits, peak->logit, 1, scratch.weights));
    auto const entry = [&](Token token, float logit) {
        double const logprob = static_cast<double>(logit - peak->logit) - log_sum;
        domain::TokenLogprob made{token, std::max(static_cast<float>(logprob), kLogprobFloor), {}};
        backend.append_piece(token, made.bytes);
        return made;
    };
    domain::SampledLogprob result;
    result.chosen = entry(chosen, logits[static_cast<std::size_t>(chosen)]);
    if (top == 0) return result;
    select_top(logits, top, scratch.candidates);
    result.top.reserve(scratch.candidates.size());
    for (auto const& candidate : scratch.candidates) result.top.push_back(entry(candidate.id, candidate.logit));
    return result;
}

}  // namespace hearth::engine
