// The vectors of llama.cpp's own sampler tests, which are small enough to check
// by hand, and properties over random lists.
#include "engine/truncation.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <gtest/gtest.h>

namespace hearth::engine {
namespace {

// Candidates with these probabilities, best first.
std::vector<Candidate> with(std::vector<float> const& probabilities) {
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < probabilities.size(); ++i)
        candidates.push_back({std::log(probabilities[i]), 0, static_cast<Token>(i)});
    std::sort(candidates.begin(), candidates.end(),
              [](auto const& a, auto const& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; });
    return candidates;
}

void expect(std::vector<Candidate> candidates, std::vector<float> const& probabilities) {
    softmax(candidates);
    ASSERT_EQ(candidates.size(), probabilities.size());
    for (std::size_t i = 0; i < candidates.size(); ++i) EXPECT_NEAR(candidates[i].p, probabilities[i], 1e-5) << i;
}

std::vector<float> const kFour{0.1F, 0.2F, 0.3F, 0.4F};

TEST(truncation, top_p_keeps_the_smallest_set_that_reaches_it) {
    auto const kept = [](float p) {
        auto candidates = with(kFour);
        keep_top_p(candidates, p);
        return candidates;
    };
    expect(kept(0), {1.0F});
    expect(kept(0.7F), {0.571429F, 0.428571F});
    expect(kept(0.8F), {0.44444F, 0.33333F, 0.22222F});
    expect(kept(1), {0.4F, 0.3F, 0.2F, 0.1F});
}

TEST(truncation, min_p_keeps_what_is_likely_enough_beside_the_best) {
    auto const kept = [](float p) {
        auto candidates = with(kFour);
        keep_min_p(candidates, p);
        return candidates;
    };
    expect(kept(0), {0.4F, 0.3F, 0.2F, 0.1F});
    expect(kept(0.24F), {0.4F, 0.3F, 0.2F, 0.1F});
    expect(kept(0.26F), {0.4F / 0.9F, 0.3F / 0.9F, 0.2F / 0.9F});
    expect(kept(0.49F), {0.4F / 0.9F, 0.3F / 0.9F, 0.2F / 0.9F});
    expect(kept(0.51F), {0.4F / 0.7F, 0.3F / 0.7F});
    expect(kept(0.74F), {0.4F / 0.7F, 0.3F / 0.7F});
    expect(kept(0.76F), {1.0F});
    expect(kept(1), {1.0F});
}

TEST(truncation, typical_keeps_what_is_closest_to_the_entropy) {
    auto one = with({0.97F, 0.01F, 0.01F, 0.01F});
    keep_typical(one, 0.5F);
    expect(one, {1.0F});
    auto three = with({0.4F, 0.2F, 0.2F, 0.2F});
    keep_typical(three, 0.5F);
    expect(three, {1 / 3.0F, 1 / 3.0F, 1 / 3.0F});
    auto all = with(kFour);
    keep_typical(all, 1);
    EXPECT_EQ(all.size(), 4U);
}

TEST(truncation, xtc_drops_the_top_choices_but_the_least_likely_of_them) {
    auto const kept = [](float threshold) {
        auto candidates = with({0.4F, 0.3F, 0.2F, 0.1F});
        drop_top_choices(candidates, threshold);
        return candidates;
    };
    expect(kept(0.09F), {1.0F});
    expect(kept(0.19F), {0.2F / 0.3F, 0.1F / 0.3F});
    expect(kept(0.29F), {0.3F / 0.6F, 0.2F / 0.6F, 0.1F / 0.6F});
    expect(kept(0.39F), {0.4F, 0.3F, 0.2F, 0.1F});
    expect(kept(0.5F), {0.4F, 0.3F, 0.2F, 0.1F});
}

TEST(truncation, xtc_keeps_exactly_one_of_equal_top_choices) {
    auto candidates = with({0.25F, 0.25F, 0.25F, 0.25F});
    drop_top_choices(candidates, 0.2F);
    ASSERT_EQ(candidates.size(), 1U);
    EXPECT_EQ(candidates[0].id, 3);
}

TEST(truncation, no_step_drops_the_last_candidate) {
    for (auto const& probabilities : {std::vector<float>{1.0F}, std::vector<float>{0.5F, 0.5F}}) {
        auto candidates = with(probabilities);
        keep_typical(candidates, 0);
        keep_top_p(candidates, 0);
        keep_min_p(candidates, 1);
        drop_top_choices(candidates, 0);
        EXPECT_GE(candidates.size(), 1U);
    }
}

TEST(truncation, draw_follows_the_distribution_at_its_temperature) {
    Random random(5);
    for (float const temperature : {0.5F, 1.0F, 2.0F}) {
        std::map<Token, int> counts;
        constexpr int kDraws = 50000;
        for (int i = 0; i < kDraws; ++i) {
            auto candidates = with(kFour);
            ++counts[candidates[draw(candidates, temperature, random)].id];
        }
        double sum = 0;
        for (float const p : kFour) sum += std::pow(static_cast<double>(p), 1.0 / static_cast<double>(temperature));
        for (std::size_t i = 0; i < kFour.size(); ++i) {
            double const expected =
                std::pow(static_cast<double>(kFour[i]), 1.0 / static_cast<double>(temperature)) / sum;
            EXPECT_NEAR(counts[static_cast<Token>(i)] / static_cast<double>(kDraws), expected, 0.007) << temperature;
        }
    }
}

}  // namespace
}  // namespace hearth::engine
