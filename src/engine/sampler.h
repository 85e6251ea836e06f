// Sampler: chooses one sequence's next token from a row of logits.
//
// The chain, in llama-server's default order:
//
//   logit_bias, ignore_eos -> repeat/frequency/presence penalties -> DRY
//   -> top_k -> typical_p -> top_p -> min_p -> XTC -> temperature -> draw
//
// temperature 0 (below 1e-5) takes the best token after the penalties (lowest id on a tie).
// Mirostat (v1, v2) replaces everything from top_k to the draw, temperature
// first. Unlike llama-server, which then drops them in silence, penalties and
// DRY stay in force under mirostat.
//
// Equal parameters, seed, history and logits give equal tokens on every machine
// and whatever else the engine does meanwhile.
//
// Cost for 49,000 logits: greedy one pass; top_k a pass and a short list;
// without truncation two passes. Only typical_p without top_k sorts everything.
//
// Threads: one. Ownership: owns its history; the scratch space is the caller's
// and may be shared by all samplers of a thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "domain/generate.h"
#include "engine/dry.h"
#include "engine/logits_scan.h"
#include "engine/sampling_math.h"

namespace hearth::engine {

// What all samplers of a model or request share.
struct SamplerContext {
    std::uint32_t window = 0;                              // what -1 means for repeat_last_n and dry_penalty_last_n
    std::span<Token const> end_tokens = {};                // forbidden by ignore_eos; outlives the sampler
    std::shared_ptr<DryBreakers const> dry_breakers = {};  // null: none
};

struct SamplerScratch {
    std::vector<float> logits;
    std::vector<float> weights;
    std::vector<Candidate> candidates;
};

class Sampler {
public:
    // REQUIRES: params passed domain::validate
    Sampler(domain::SamplingParams params, SamplerContext context, std::uint64_t seed);

    // `token` became part of the sequence: prompt tokens first, then each sampled one.
    void accept(Token token);

    // Fails with `internal` when the logits have no distribution: NaN,
    // +infinity, or nothing left above -infinity.
    [[nodiscard]] Result<Token> sample(std::span<float const> logits, SamplerScratch& scratch);

private:
    // Counts of the last tokens; off when no penalty is.
    struct Penalties {
        std::size_t window = 0;
        std::vector<Token> last;  // ring
        std::size_t oldest = 0;
        std::unordered_map<Token, int> counts;
    };

    [[nodiscard]] bool adjusts() const;
    [[nodiscard]] std::span<float const> adjust(std::span<float const> logits, SamplerScratch& scratch);
    void apply_penalties(std::span<float> logits) const;
    [[nodiscard]] Token sample_all(std::span<float const> logits, Peak peak, SamplerScratch& scratch);
    [[nodiscard]] Token sample_truncated(std::span<float const> logits, Peak peak, SamplerScratch& scratch);
    void truncate_by_top_p(std::span<float const> logits, Peak peak, SamplerScratch& scratch) const;
    [[nodiscard]] Token sample_mirostat(std::span<float const> logits, Peak peak, SamplerScratch& scratch);
    [[nodiscard]] double mirostat_v1_count(std::span<Candidate const> best, std::size_t vocabulary) const;

    domain::SamplingParams params_;
    SamplerContext context_;
    Random random_;
    Penalties penalties_;
    Dry dry_;
    double mirostat_mu_;
};

}  // namespace hearth::engine
