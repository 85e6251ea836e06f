#include "traffic/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/assert.h"

namespace hearth::traffic {

double percentile(std::vector<double> const& sorted, double fraction) {
    HEARTH_ASSERT(!sorted.empty() && fraction >= 0 && fraction <= 1, "percentile needs values and a fraction of 0..1");
    auto const rank = fraction * static_cast<double>(sorted.size() - 1);
    auto const below = static_cast<std::size_t>(rank);
    auto const above = std::min(below + 1, sorted.size() - 1);
    auto const share = rank - static_cast<double>(below);
    return sorted[below] + (sorted[above] - sorted[below]) * share;
}

Summary summarise(std::vector<double> values) {
    Summary s;
    if (values.empty()) return s;
    std::sort(values.begin(), values.end());
    auto const n = static_cast<double>(values.size());
    s.count = values.size();
    s.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    auto const squares = std::accumulate(values.begin(), values.end(), 0.0,
                                         [&](double sum, double v) { return sum + (v - s.mean) * (v - s.mean); });
    s.stddev = std::sqrt(squares / n);
    s.min = values.front();
    s.median = percentile(values, 0.5);
    s.p90 = percentile(values, 0.90);
    s.p95 = percentile(values, 0.95);
    s.p99 = percentile(values, 0.99);
    s.max = values.back();
    return s;
}

std::vector<double> quantiles(std::vector<double> values, std::size_t points) {
    HEARTH_ASSERT(points >= 2, "a distribution needs its two ends");
    std::vector<double> result;
    if (values.empty()) return result;
    std::sort(values.begin(), values.end());
    result.reserve(points);
    for (std::size_t i = 0; i < points; ++i) {
        result.push_back(percentile(values, static_cast<double>(i) / static_cast<double>(points - 1)));
    }
    return result;
}

}  // namespace hearth::traffic
