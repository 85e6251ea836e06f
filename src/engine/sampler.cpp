#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/truncation.h"

namespace hearth::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kGreedyBelow = 1e-5F;  // dividing by less overflows; the best token has all the mass anyway
constexpr std::size_t kMirostatCandidates = 100;  // as llama-server: the estimate of s uses so many

constexpr std::size_t kTopPBatch = 128;  // most distributions need no more
constexpr double kRoundingSlack = 1e-3;  // in logits: float sums may be that much off

std::uint32_t resolve_window(std::int32_t last_n, std::uint32_t window) {
    return last_n < 0 ? window : std::min(static_cast<std::uint32_t>(last_n), window);
}

bool has_penalties(domain::SamplingParams const& params) {
    return params.repeat_last_n != 0 &&
           (params.repeat_penalty != 1 || params.frequency_penalty != 0 || params.presence_penalty != 0);
}

bool has_xtc(domain::SamplingParams const& params) {
    return params.xtc_probability > 0 && params.xtc_threshold <= 0.5F;
}

bool truncates(domain::SamplingParams const& params, std::size_t vocabulary) {
    bool const by_count = params.top_k > 0 && static_cast<std::size_t>(params.top_k) < vocabulary;
    return by_count || params.typical_p < 1 || params.top_p < 1 || params.min_p > 0 || has_xtc(params);
}

Error no_distribution() {
    return Error(Code::internal,
                 "the model's output is broken: its logits hold NaN or infinity, or every token is forbidden");
}

}  // namespace

Sampler::Sampler(domain::SamplingParams params, SamplerContext context, std::uint64_t seed)
    : params_(std::move(params)),
      context_(std::move(context)),
      random_(seed),
      dry_(params_, resolve_window(params_.dry_penalty_last_n, context_.window), context_.dry_breakers),
      mirostat_mu_(2 * static_cast<double>(params_.mirostat_tau)) {
    if (has_penalties(params_)) penalties_.window = resolve_window(params_.repeat_last_n, context_.window);
}

void Sampler::accept(Token token) {
    dry_.accept(token);
    if (penalties_.window == 0) return;
    ++penalties_.counts[token];
    if (penalties_.last.size() < penalties_.window) {
        penalties_.last.push_back(token);
        return;
    }
    Token const dropped = std::exchange(penalties_.last[penalties_.oldest], token);
    penalties_.oldest = (penalties_.oldest + 1) % penalties_.window;
    auto const count = penalties_.counts.find(dropped);
    if (--count->second == 0) penalties_.counts.erase(count);
}

Result<Token> Sampler::sample(std::span<float const> logits, SamplerScratch& scratch) {
    if (adjusts()) logits = adjust(logits, scratch);
    auto const peak = find_peak(logits);
    if (!peak) return no_distribution();
    if (params_.temperature < kGreedyBelow) return peak->id;
    if (params_.mirostat != domain::Mirostat::off) return sample_mirostat(logits, *peak, scratch);
    if (!truncates(params_, logits.size())) return sample_all(logits, *peak, scratch);
    return sample_truncated(logits, *peak, scratch);
}

bool Sampler::adjusts() const {
    bool const forbids_end = params_.ignore_eos && !context_.end_tokens.empty();
    return forbids_end || !params_.logit_bias.empty() || !penalties_.counts.empty() || dry_.enabled();
}

std::span<float const> Sampler::adjust(std::span<float const> logits, SamplerScratch& scratch) {
    scratch.logits.assign(logits.begin(), logits.end());
    std::span<float> const adjusted = scratch.logits;
    for (auto const& bias : params_.logit_bias) {
        auto const id = static_cast<std::size_t>(bias.token);
        if (bias.token >= 0 && id < adjusted.size()) adjusted[id] += bias.bias;
    }
    if (params_.ignore_eos) {
        for (Token const end : context_.end_tokens) {
            if (end >= 0 && static_cast<std::size_t>(end) < adjusted.size())
                adjusted[static_cast<std::size_t>(end)] = -kInfinity;
        }
    }
    apply_penalties(adjusted);
    if (dry_.enabled()) dry_.apply(adjusted);
    return adjusted;
}

// The paper only divides by the repeat penalty, which would make tokens with
// negative logits likelier: those are multiplied instead.
void Sampler::apply_penalties(std::span<float> logits) const {
    for (auto const& [token, count] : penalties_.counts) {
        if (token < 0 || static_cast<std::size_t>(token) >= logits.size()) continue;
        float& logit = logits[static_cast<std::size_t>(token)];
        logit = logit <= 0 ? logit * params_.repeat_penalty : logit / params_.repeat_penalty;
        logit -= static_cast<float>(count) * params_.frequency_penalty + params_.presence_penalty;
    }
}

Token Sampler::sample_all(std::span<float const> logits, Peak peak, SamplerScratch& scratch) {
    scratch.weights.resize(logits.size());
    double const sum = exponentials(logits, peak.logit, 1 / params_.temperature, scratch.weights);
    return static_cast<Token>(find_quantile(scratch.weights, random_.uniform() * sum));
}

Token Sampler::sample_truncated(std::span<float const> logits, Peak peak, SamplerScratch& scratch) {
    auto& candidates = scratch.candidates;
    bool const by_count = params_.top_k > 0 && static_cast<std::size_t>(params_.top_k) < logits.size();
    if (by_count) {
        select_top(logits, static_cast<std::size_t>(params_.top_k), candidates);
    } else if (params_.typical_p < 1) {
        select_above(logits, -kInfinity, candidates);
    } else if (params_.top_p < 1) {
        truncate_by_top_p(logits, peak, scratch);
    } else if (params_.min_p > 0) {
        select_above(logits, peak.logit + static_cast<float>(log_of(static_cast<double>(params_.min_p))), candidates);
    } else {
        select_above(logits, -kInfinity, candidates);
    }
    if (params_.typical_p < 1) {
        keep_typical(candidates, params_.typical_p);
        std::sort(candidates.begin(), candidates.end(), comes_first);
    }
    // Alone, top_p has been applied by truncate_by_top_p(); a second pass over
    // the kept would normalise again and cut too much.
    if (by_count || params_.typical_p < 1) keep_top_p(candidates, params_.top_p);
    keep_min_p(candidates, params_.min_p);
    if (has_xtc(params_) && candidates.size() >= 2 &&
        random_.uniform() <= static_cast<double>(params_.xtc_probability)) {
        drop_top_choices(candidates, params_.xtc_threshold);
    }
    return candidates[draw(candidates, params_.temperature, random_)].id;
}

// top_p over the whole vocabulary. All tokens lighter than the average share of
// what top_p leaves out cannot together outweigh that: they go first, unsorted.
// Of the rest only as many are sorted as turn out to be needed.
void Sampler::truncate_by_top_p(std::span<float const> logits, Peak peak, SamplerScratch& scratch) const {
    scratch.weights.resize(logits.size());
    double const sum = exponentials(logits, peak.logit, 1, scratch.weights);
    double const top_p = static_cast<double>(params_.top_p);
    double const average = (1 - top_p) * sum / static_cast<double>(logits.size());
    auto& candidates = scratch.candidates;
    select_above(logits, peak.logit + static_cast<float>(log_of(average) - kRoundingSlack), candidates);
    double reached = 0;
    std::size_t sorted = 0;
    for (std::size_t count = kTopPBatch; sorted < candidates.size(); count *= 4) {
        auto const first = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
        auto const last = candidates.begin() + static_cast<std::ptrdiff_t>(std::min(count, candidates.size()));
        if (last != candidates.end()) std::nth_element(first, last, candidates.end(), comes_first);
        std::sort(first, last, comes_first);
        for (; sorted < std::min(count, candidates.size()); ++sorted) {
            reached += static_cast<double>(scratch.weights[static_cast<std::size_t>(candidates[sorted].id)]);
            if (reached < top_p * sum) continue;
            candidates.resize(sorted + 1);
            return;
        }
    }
}

// Basu et al., "Mirostat" (2021): keeps the surprise of what is said near tau.
Token Sampler::sample_mirostat(std::span<float const> logits, Peak peak, SamplerScratch& scratch) {
    auto& candidates = scratch.candidates;
    float const inverse_temperature = 1 / params_.temperature;
    if (params_.mirostat == domain::Mirostat::v1) {
        select_top(logits, kMirostatCandidates, candidates);
        double const count = mirostat_v1_count(candidates, logits.size());
        auto const keep =
            count < static_cast<double>(logits.size()) ? static_cast<std::size_t>(std::max(count, 1.0)) : logits.size();
        if (keep > candidates.size()) select_top(logits, keep, candidates);
        candidates.resize(std::min(keep, candidates.size()));
    } else {
        scratch.weights.resize(logits.size());
        double const sum = exponentials(logits, peak.logit, inverse_temperature, scratch.weights);
        // -log2 p <= mu, as a bound on the logit; the best token stays whatever its surprise.
        double const bound = (log_of(sum) - mirostat_mu_ * log_of(2)) * static_cast<double>(params_.temperature);
        select_above(logits, peak.logit + static_cast<float>(std::min(bound, 0.0)), candidates);
        if (bound > 0) candidates.resize(1);
    }
    std::size_t const drawn = draw(candidates, params_.temperature, random_);
    double sum = 0;
    for (auto const& candidate : candidates) sum += static_cast<double>(candidate.p);
    double const surprise = (log_of(sum) - log_of(static_cast<double>(candidates[drawn].p))) / log_of(2);
    mirostat_mu_ -= static_cast<double>(params_.mirostat_eta) * (surprise - static_cast<double>(params_.mirostat_tau));
    return candidates[drawn].id;
}

// How many of the best to keep: Zipf's exponent s is estimated from the best
// tokens, then solved for the expected surprise mu (the paper's algorithm 1).
double Sampler::mirostat_v1_count(std::span<Candidate const> best, std::size_t vocabulary) const {
    double sum_tb = 0;
    double sum_tt = 0;
    for (std::size_t i = 0; i + 1 < best.size() && i + 1 < kMirostatCandidates; ++i) {
        double const t = log_of(static_cast<double>(i + 2) / static_cast<double>(i + 1));
        double const b =
            static_cast<double>(best[i].logit - best[i + 1].logit) / static_cast<double>(params_.temperature);
        sum_tb += t * b;
        sum_tt += t * t;
    }
    if (sum_tt <= 0) return 1;
    double const s = sum_tb / sum_tt;
    if (s <= 0) return static_cast<double>(vocabulary);  // all equally likely: nothing to cut
    double const epsilon = s - 1;
    double const numerator = exp_of(mirostat_mu_ * log_of(2)) * epsilon;
    double const denominator = 1 - exp_of(-epsilon * log_of(static_cast<double>(vocabulary)));
    // At s = 1 both vanish; their ratio tends to 2^mu / log(vocabulary).
    double const ratio = std::abs(epsilon) < 1e-9
                             ? exp_of(mirostat_mu_ * log_of(2)) / log_of(static_cast<double>(vocabulary))
                             : numerator / denominator;
    if (!(ratio < 1e300)) return static_cast<double>(vocabulary);  // mu grew without bound on certain text
    return exp_of(log_of(ratio) / s);
}

}  // namespace hearth::engine
