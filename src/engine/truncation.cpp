#include "engine/truncation.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "base/assert.h"

namespace hearth::engine {
namespace {

float best_logit(std::vector<Candidate> const& candidates) {
    HEARTH_ASSERT(!candidates.empty(), "no step drops the last candidate");
    float best = candidates.front().logit;
    for (auto const& candidate : candidates) best = std::max(best, candidate.logit);
    return best;
}

// p = e^((logit - best) / temperature), not normalised; returns the sum.
double weigh(std::vector<Candidate>& candidates, float best, float inverse_temperature) {
    double sum = 0;
    for (auto& candidate : candidates) {
        candidate.p = exp_nonpositive((candidate.logit - best) * inverse_temperature);
        sum += static_cast<double>(candidate.p);
    }
    return sum;
}

}  // namespace

void softmax(std::vector<Candidate>& candidates) {
    double const sum = weigh(candidates, best_logit(candidates), 1);
    for (auto& candidate : candidates) candidate.p = static_cast<float>(static_cast<double>(candidate.p) / sum);
}

void keep_top_p(std::vector<Candidate>& candidates, float top_p) {
    if (top_p >= 1) return;
    softmax(candidates);
    double sum = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        sum += static_cast<double>(candidates[i].p);
        if (sum >= static_cast<double>(top_p)) {
            candidates.resize(i + 1);
            return;
        }
    }
}

void keep_min_p(std::vector<Candidate>& candidates, float min_p) {
    if (min_p <= 0) return;
    float const bar = best_logit(candidates) + static_cast<float>(log_of(static_cast<double>(std::min(min_p, 1.0F))));
    std::erase_if(candidates, [&](Candidate const& candidate) { return candidate.logit < bar; });
}

void keep_typical(std::vector<Candidate>& candidates, float typical_p) {
    if (typical_p >= 1) return;
    float const best = best_logit(candidates);
    double const sum = weigh(candidates, best, 1);
    double const log_sum = log_of(sum);
    auto const surprise = [&](Candidate const& candidate) {
        return log_sum - static_cast<double>(candidate.logit - best);
    };
    double entropy = 0;
    for (auto& candidate : candidates) {
        candidate.p = static_cast<float>(static_cast<double>(candidate.p) / sum);
        entropy += static_cast<double>(candidate.p) * surprise(candidate);
    }
    auto const more_typical = [&](Candidate const& a, Candidate const& b) {
        double const distance_a = std::abs(surprise(a) - entropy);
        double const distance_b = std::abs(surprise(b) - entropy);
        if (distance_a != distance_b) return distance_a < distance_b;
        return comes_first(a, b);
    };
    std::sort(candidates.begin(), candidates.end(), more_typical);
    double kept = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        kept += static_cast<double>(candidates[i].p);
        if (kept > static_cast<double>(typical_p)) {
            candidates.resize(i + 1);
            return;
        }
    }
}

void drop_top_choices(std::vector<Candidate>& candidates, float threshold) {
    softmax(candidates);
    auto const is_top = [&](Candidate const& candidate) { return candidate.p >= threshold; };
    Candidate const* least = nullptr;
    for (auto const& candidate : candidates) {
        if (!is_top(candidate)) continue;
        if (least == nullptr || candidate.logit < least->logit ||
            (candidate.logit == least->logit && candidate.id > least->id))
            least = &candidate;
    }
    if (least == nullptr) return;
    Token const stays = least->id;
    std::erase_if(candidates, [&](Candidate const& candidate) { return is_top(candidate) && candidate.id != stays; });
}

std::size_t draw(std::vector<Candidate>& candidates, float temperature, Random& random) {
    double const sum = weigh(candidates, best_logit(candidates), 1 / temperature);
    double const target = random.uniform() * sum;
    double running = 0;
    std::size_t last_positive = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        if (!(candidates[i].p > 0)) continue;
        last_positive = i;
        running += static_cast<double>(candidates[i].p);
        if (running > target) break;
    }
    return last_positive;
}

}  // namespace hearth::engine
