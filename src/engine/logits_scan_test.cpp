#include "engine/logits_scan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace hearth::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> normal_row(std::size_t size, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> row(size);
    for (auto& logit : row) logit = normal(random);
    return row;
}

std::vector<Token> ids(std::vector<Candidate> const& candidates) {
    std::vector<Token> result;
    for (auto const& candidate : candidates) result.push_back(candidate.id);
    return result;
}

std::vector<Token> sorted_ids(std::span<float const> row, std::size_t count) {
    std::vector<Token> all;
    for (std::size_t i = 0; i < row.size(); ++i) {
        if (row[i] > -kInfinity) all.push_back(static_cast<Token>(i));
    }
    std::sort(all.begin(), all.end(), [&](Token a, Token b) {
        float const x = row[static_cast<std::size_t>(a)];
        float const y = row[static_cast<std::size_t>(b)];
        return x != y ? x > y : a < b;
    });
    all.resize(std::min(count, all.size()));
    return all;
}

TEST(logits_scan, find_peak_finds_the_first_of_the_largest_at_every_place_and_length) {
    for (std::size_t size : {1U, 15U, 16U, 17U, 1023U, 1024U, 1025U, 3000U}) {
        for (std::size_t at = 0; at < size; at += 1 + size / 37) {
            std::vector<float> row(size, -5.0F);
            row[at] = 2;
            if (at + 1 < size) row.back() = 2;
            auto const peak = find_peak(row);
            ASSERT_TRUE(peak.has_value());
            EXPECT_EQ(peak->id, static_cast<Token>(at)) << size;
            EXPECT_EQ(peak->logit, 2.0F);
        }
    }
}

TEST(logits_scan, find_peak_refuses_rows_without_a_distribution) {
    EXPECT_FALSE(find_peak({}).has_value());
    EXPECT_FALSE(find_peak(std::vector<float>(40, -kInfinity)).has_value());
    for (std::size_t at = 0; at < 40; ++at) {
        std::vector<float> row(40, 1.0F);
        row[at] = kNan;
        EXPECT_FALSE(find_peak(row).has_value()) << at;
        row[at] = kInfinity;
        EXPECT_FALSE(find_peak(row).has_value()) << at;
        row.assign(40, -kInfinity);
        row[at] = -1e30F;
        EXPECT_EQ(find_peak(row)->id, static_cast<Token>(at));
    }
}

TEST(logits_scan, select_top_equals_a_full_sort) {
    for (unsigned seed = 0; seed < 20; ++seed) {
        auto row = normal_row(1 + seed * 271, seed);
        for (auto& logit : row) logit = std::round(logit * 4) / 4;  // many ties
        for (std::size_t i = seed; i < row.size(); i += 7) row[i] = -kInfinity;
        for (std::size_t const k : {1U, 2U, 40U, 600U, 100000U}) {
            std::vector<Candidate> out;
            select_top(row, k, out);
            EXPECT_EQ(ids(out), sorted_ids(row, k)) << "seed " << seed << " k " << k;
        }
    }
}

TEST(logits_scan, select_top_copes_with_ascending_and_descending_rows) {
    std::vector<float> row(50000);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i);
    std::vector<Candidate> out;
    select_top(row, 3, out);
    EXPECT_EQ(ids(out), (std::vector<Token>{49999, 49998, 49997}));
    std::reverse(row.begin(), row.end());
    select_top(row, 3, out);
    EXPECT_EQ(ids(out), (std::vector<Token>{0, 1, 2}));
    select_top(row, 0, out);
    EXPECT_TRUE(out.empty());
}

TEST(logits_scan, select_above_keeps_the_bound_itself_and_never_minus_infinity) {
    std::vector<float> const row{1, -kInfinity, 2, 1.5F, 0};
    std::vector<Candidate> out;
    select_above(row, 1, out);
    EXPECT_EQ(ids(out), (std::vector<Token>{0, 2, 3}));
    select_above(row, -kInfinity, out);
    EXPECT_EQ(ids(out), (std::vector<Token>{0, 2, 3, 4}));
}

TEST(logits_scan, exponentials_sum_like_double_arithmetic) {
    auto const row = normal_row(49152, 3);
    auto const peak = find_peak(row);
    std::vector<float> weights(row.size());
    double const sum = exponentials(row, peak->logit, 0.7F, weights);
    double exact = 0;
    for (float const logit : row) exact += std::exp(static_cast<double>((logit - peak->logit) * 0.7F));
    EXPECT_NEAR(sum / exact, 1, 1e-6);
    EXPECT_EQ(weights[static_cast<std::size_t>(peak->id)], 1.0F);
}

TEST(logits_scan, find_quantile_walks_like_a_plain_running_sum) {
    std::vector<float> weights(1000, 0.0F);
    for (std::size_t i = 3; i < weights.size(); i += 5) weights[i] = 1;  // 200 ones
    for (int n = 0; n < 200; ++n) EXPECT_EQ(find_quantile(weights, n + 0.5), static_cast<std::size_t>(3 + 5 * n)) << n;
    EXPECT_EQ(find_quantile(weights, 0), 3U);
    EXPECT_EQ(find_quantile(weights, 200), 998U) << "past the end: the last positive";
    EXPECT_EQ(find_quantile(weights, 1e9), 998U);
}

}  // namespace
}  // namespace hearth::engine
