// Log-probabilities of a sampled token and its best rivals, as llama-server
// reports them: of the model's own distribution, before any sampler.
//
// A probability of zero would be -infinity, which JSON cannot carry: nothing
// reported is below kLogprobFloor (the value OpenAI uses for "practically never").
#pragma once

#include <cstdint>
#include <span>

#include "domain/generate.h"
#include "engine/sampler.h"
#include "llama/backend.h"

namespace hearth::engine {

inline constexpr float kLogprobFloor = -9999.0F;

// `top` rivals, best first, the chosen one among them where it belongs.
// REQUIRES: `logits` have a distribution (Sampler::sample succeeded on them)
[[nodiscard]] domain::SampledLogprob make_logprob(std::span<float const> logits, Token chosen, std::uint32_t top,
                                                  llama::Backend const& backend, SamplerScratch& scratch);

}  // namespace hearth::engine
