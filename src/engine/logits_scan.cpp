// Blocks of kLanes independent accumulators: element-wise selects on them map
// onto SIMD without reassociating anything, so the results do not depend on the
// width of the machine's registers.
#include "engine/logits_scan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/assert.h"
#include "engine/sampling_math.h"

namespace hearth::engine {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kPeakBlock = 1024;   // find_peak() looks for the position inside one of these
constexpr std::size_t kFilterBlock = 64;   // select_*() skip a block at a time
constexpr std::size_t kSumBlock = 256;     // summed in float lanes, then carried on in double
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct BlockPeak {
    float max;
    bool broken;  // holds NaN or +infinity
};

BlockPeak block_peak(std::span<float const> block) {
    std::array<float, kLanes> best;
    std::array<std::uint32_t, kLanes> broken{};
    best.fill(-kInfinity);
    std::size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
            float const x = block[i + lane];
            best[lane] = x > best[lane] ? x : best[lane];
            broken[lane] |= x < kInfinity ? 0U : 1U;  // false for NaN too
        }
    }
    for (; i < block.size(); ++i) {
        best[0] = block[i] > best[0] ? block[i] : best[0];
        broken[0] |= block[i] < kInfinity ? 0U : 1U;
    }
    BlockPeak peak{-kInfinity, false};
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
        peak.max = std::max(peak.max, best[lane]);
        peak.broken = peak.broken || broken[lane] != 0;
    }
    return peak;
}

bool any_above(float const* block, float threshold) {
    std::array<std::uint32_t, kLanes> above{};
    for (std::size_t i = 0; i < kFilterBlock; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) above[lane] |= block[i + lane] > threshold ? 1U : 0U;
    }
    std::uint32_t any = 0;
    for (std::uint32_t const lane : above) any |= lane;
    return any != 0;
}

double block_sum(std::span<float const> block) {
    std::array<float, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += block[i + lane];
    }
    for (; i < block.size(); ++i) lanes[0] += block[i];
    double sum = 0;
    for (float const lane : lanes) sum += static_cast<double>(lane);
    return sum;
}

// As find_quantile(), one weight after another.
std::size_t walk(std::span<float const> weights, double target) {
    std::size_t last_positive = 0;
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (!(weights[i] > 0)) continue;
        last_positive = i;
        sum += static_cast<double>(weights[i]);
        if (sum > target) break;
    }
    return last_positive;
}

// Calls `visit` with every (index, logit) above threshold(), which may rise meanwhile.
template <typename Threshold, typename Visit>
void visit_above(std::span<float const> logits, Threshold threshold, Visit visit) {
    std::size_t i = 0;
    for (; i + kFilterBlock <= logits.size(); i += kFilterBlock) {
        if (!any_above(logits.data() + i, threshold())) continue;
        for (std::size_t j = i; j < i + kFilterBlock; ++j) {
            if (logits[j] > threshold()) visit(j, logits[j]);
        }
    }
    for (; i < logits.size(); ++i) {
        if (logits[i] > threshold()) visit(i, logits[i]);
    }
}

}  // namespace

std::optional<Peak> find_peak(std::span<float const> logits) {
    float best = -kInfinity;
    std::size_t best_block = 0;
    bool broken = false;
    for (std::size_t i = 0; i < logits.size(); i += kPeakBlock) {
        BlockPeak const peak = block_peak(logits.subspan(i, std::min(kPeakBlock, logits.size() - i)));
        broken = broken || peak.broken;
        if (peak.max > best) {
            best = peak.max;
            best_block = i;
        }
    }
    if (broken || best == -kInfinity) return std::nullopt;
    std::size_t at = best_block;
    while (logits[at] != best) ++at;
    return Peak{static_cast<Token>(at), best};
}

void select_top(std::span<float const> logits, std::size_t k, std::vector<Candidate>& out) {
    out.clear();
    k = std::min(k, logits.size());
    if (k == 0) return;
    // Once `room` candidates are collected all but the best k are dropped and
    // the k-th becomes the bar that later ones must pass. An equal later one has
    // a higher id and loses, hence the strict comparison.
    std::size_t const room = std::max<std::size_t>(4 * k, 512);
    float bar = -kInfinity;
    auto const kth = static_cast<std::ptrdiff_t>(k) - 1;
    visit_above(
        logits, [&] { return bar; },
        [&](std::size_t i, float logit) {
            out.push_back({logit, 0, static_cast<Token>(i)});
            if (out.size() < room) return;
            std::nth_element(out.begin(), out.begin() + kth, out.end(), comes_first);
            out.resize(k);
            bar = out[k - 1].logit;
        });
    if (out.size() > k) {
        std::nth_element(out.begin(), out.begin() + kth, out.end(), comes_first);
        out.resize(k);
    }
    std::sort(out.begin(), out.end(), comes_first);
}

void select_above(std::span<float const> logits, float at_least, std::vector<Candidate>& out) {
    out.clear();
    float const below = std::nextafter(at_least, -kInfinity);
    visit_above(
        logits, [&] { return below; },
        [&](std::size_t i, float logit) { out.push_back({logit, 0, static_cast<Token>(i)}); });
}

double exponentials(std::span<float const> logits, float peak, float inverse_temperature, std::span<float> weights) {
    HEARTH_ASSERT(weights.size() == logits.size(), "one weight per logit");
    double sum = 0;
    for (std::size_t begin = 0; begin < logits.size(); begin += kSumBlock) {
        std::size_t const end = std::min(begin + kSumBlock, logits.size());
        for (std::size_t i = begin; i < end; ++i)
            weights[i] = exp_nonpositive((logits[i] - peak) * inverse_temperature);
        sum += block_sum(weights.subspan(begin, end - begin));
    }
    return sum;
}

std::size_t find_quantile(std::span<float const> weights, double target) {
    double before = 0;  // weight in front of `block`
    std::span<float const> block;
    double sum = 0;
    for (std::size_t begin = 0; begin < weights.size() && sum <= target; begin += kSumBlock) {
        auto const next = weights.subspan(begin, std::min(kSumBlock, weights.size() - begin));
        double const weight = block_sum(next);
        if (weight > 0) {
            block = next;
            before = sum;
        }
        sum += weight;
    }
    HEARTH_ASSERT(!block.empty(), "a weight is positive");
    return static_cast<std::size_t>(block.data() - weights.data()) + walk(block, target - before);
}

}  // namespace hearth::engine
