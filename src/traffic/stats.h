// Summary: what a report says about one set of measurements.
//
// Percentiles interpolate linearly between ranks, as NumPy does, so that the
// figures can be laid beside those of other benchmark programs.
//
// Plain values; no threads.
#pragma once

#include <cstddef>
#include <vector>

namespace hearth::traffic {

struct Summary {
    std::size_t count = 0;  // 0: nothing was measured and every other field is 0
    double mean = 0;
    double stddev = 0;  // of the population
    double min = 0;
    double median = 0;
    double p90 = 0;
    double p95 = 0;
    double p99 = 0;
    double max = 0;
};

[[nodiscard]] Summary summarise(std::vector<double> values);

// `fraction` of 0..1 of a sorted, non-empty vector.
// REQUIRES: !sorted.empty(), 0 <= fraction <= 1
[[nodiscard]] double percentile(std::vector<double> const& sorted, double fraction);

// The values at `points` equally spaced fractions from 0 to 1, for a plotted
// distribution; empty when there are no values. REQUIRES: points >= 2
[[nodiscard]] std::vector<double> quantiles(std::vector<double> values, std::size_t points);

}  // namespace hearth::traffic
