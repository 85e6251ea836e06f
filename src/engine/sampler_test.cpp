#include "engine/sampler.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>

#include <gtest/gtest.h>

namespace hearth::engine {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kDraws = 40000;

using domain::SamplingParams;

SamplingParams params(std::function<void(SamplingParams&)> const& set = {}) {
    SamplingParams p;
    if (set) set(p);
    return p;
}

std::vector<float> logits_of(std::vector<double> const& probabilities) {
    std::vector<float> logits;
    for (double const p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
    return logits;
}

std::vector<float> random_row(std::size_t size, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> row(size);
    for (auto& logit : row) logit = normal(random);
    return row;
}

// Share of each token among many draws from the same logits.
std::vector<double> shares(SamplingParams const& p, std::vector<float> const& logits,
                           std::vector<Token> const& history = {}, int draws = kDraws) {
    Sampler sampler(p, {.window = 4096}, 17);
    for (Token const token : history) sampler.accept(token);
    SamplerScratch scratch;
    std::vector<double> share(logits.size(), 0);
    for (int i = 0; i < draws; ++i)
        share[static_cast<std::size_t>(sampler.sample(logits, scratch).value())] += 1.0 / draws;
    return share;
}

void expect(std::vector<double> const& got, std::vector<double> const& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        EXPECT_NEAR(got[i], wanted[i], 0.008) << i;
        if (wanted[i] == 0) EXPECT_EQ(got[i], 0) << i;
    }
}

Token one(SamplingParams const& p, std::vector<float> const& logits, std::vector<Token> const& history = {},
          SamplerContext context = {.window = 4096}) {
    Sampler sampler(p, std::move(context), 1);
    for (Token const token : history) sampler.accept(token);
    SamplerScratch scratch;
    return sampler.sample(logits, scratch).value();
}

auto const kGreedy = [](SamplingParams& p) { p.temperature = 0; };
std::vector<float> const kFour = logits_of({0.1, 0.2, 0.3, 0.4});

TEST(sampler, greedy_takes_the_best_and_of_equals_the_lowest_id) {
    EXPECT_EQ(one(params(kGreedy), {1, 5, 3}), 1);
    EXPECT_EQ(one(params(kGreedy), {1, 5, 5, 5}), 1);
    EXPECT_EQ(one(params(kGreedy), {-kInfinity, -4}), 1);
    EXPECT_EQ(one(params(kGreedy), {7}), 0);
}

TEST(sampler, without_options_it_draws_from_the_models_distribution) {
    expect(shares({}, kFour), {0.1, 0.2, 0.3, 0.4});
}

TEST(sampler, temperature_sharpens_and_flattens) {
    double const sum = 0.01 + 0.04 + 0.09 + 0.16;
    expect(shares(params([](auto& p) { p.temperature = 0.5F; }), kFour),
           {0.01 / sum, 0.04 / sum, 0.09 / sum, 0.16 / sum});
    expect(shares(params([](auto& p) { p.temperature = 100; }), kFour), {0.2477, 0.2494, 0.2509, 0.2520});
    EXPECT_EQ(one(params([](auto& p) { p.temperature = 1e-38F; }), kFour), 3);
}

TEST(sampler, each_truncation_alone_matches_the_published_vectors) {
    expect(shares(params([](auto& p) { p.top_k = 1; }), kFour), {0, 0, 0, 1});
    expect(shares(params([](auto& p) { p.top_k = 3; }), kFour), {0, 0.22222, 0.33333, 0.44444});
    expect(shares(params([](auto& p) { p.top_k = 1000; }), kFour), {0.1, 0.2, 0.3, 0.4});
    expect(shares(params([](auto& p) { p.top_p = 0; }), kFour), {0, 0, 0, 1});
    expect(shares(params([](auto& p) { p.top_p = 0.65F; }), kFour), {0, 0, 0.428571, 0.571429});
    expect(shares(params([](auto& p) { p.min_p = 0.26F; }), kFour), {0, 0.2 / 0.9, 0.3 / 0.9, 0.4 / 0.9});
    expect(shares(params([](auto& p) { p.min_p = 1; }), kFour), {0, 0, 0, 1});
    expect(shares(params([](auto& p) { p.typical_p = 0.5F; }), logits_of({0.4, 0.2, 0.2, 0.2})),
           {0, 1 / 3.0, 1 / 3.0, 1 / 3.0});
    auto const xtc = params([](auto& p) {
        p.xtc_probability = 1;
        p.xtc_threshold = 0.19F;
    });
    expect(shares(xtc, kFour), {0.1 / 0.3, 0.2 / 0.3, 0, 0});
}

TEST(sampler, top_p_after_top_k_counts_among_the_k) {
    // Of 0.3 and 0.4 alone, 0.4 has 0.571: top_p 0.5 keeps just it.
    expect(shares(params([](auto& p) {
                      p.top_k = 2;
                      p.top_p = 0.5F;
                  }),
                  kFour),
           {0, 0, 0, 1});
    expect(shares(params([](auto& p) { p.top_p = 0.5F; }), kFour), {0, 0, 0.428571, 0.571429});
}

TEST(sampler, xtc_acts_with_its_probability) {
    auto const half = params([](auto& p) {
        p.xtc_probability = 0.5F;
        p.xtc_threshold = 0.35F;
    });
    expect(shares(half, logits_of({0.4, 0.4, 0.2})),
           {0.5 * 0.4, 0.5 * 0.4 + 0.5 * 0.4 / 0.6, 0.5 * 0.2 + 0.5 * 0.2 / 0.6});
    auto const off = params([](auto& p) {
        p.xtc_probability = 1;
        p.xtc_threshold = 0.51F;
    });
    expect(shares(off, kFour), {0.1, 0.2, 0.3, 0.4});
}

TEST(sampler, top_p_over_a_large_vocabulary_equals_its_definition) {
    auto const row = random_row(3000, 2);
    std::vector<std::size_t> order(row.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return row[a] > row[b]; });
    double sum = 0;
    for (float const logit : row) sum += std::exp(static_cast<double>(logit));
    for (double const top_p : {0.3, 0.9, 0.999}) {
        std::vector<bool> allowed(row.size(), false);
        double reached = 0;
        std::size_t count = 0;
        while (reached < top_p * sum) {
            reached += std::exp(static_cast<double>(row[order[count]]));
            allowed[order[count++]] = true;
        }
        auto const share = shares(params([&](auto& p) { p.top_p = static_cast<float>(top_p); }), row, {}, 800);
        double tail = 0;
        for (std::size_t i = 0; i < row.size(); ++i) {
            if (!allowed[i]) EXPECT_EQ(share[i], 0) << top_p;
            if (i != order[0]) tail += share[i];
        }
        EXPECT_NEAR(tail, 1 - std::exp(static_cast<double>(row[order[0]])) / reached, 0.04);
    }
}

TEST(sampler, logit_bias_adds_and_minus_infinity_forbids) {
    auto const biased = params(
        [](auto& p) { p.logit_bias = {{0, static_cast<float>(std::log(4.0))}, {3, -kInfinity}, {99, 5}, {-1, 5}}; });
    expect(shares(biased, kFour), {0.4 / 0.9, 0.2 / 0.9, 0.3 / 0.9, 0});
    auto greedy = biased;
    greedy.temperature = 0;
    EXPECT_EQ(one(greedy, kFour), 0);
}

TEST(sampler, ignore_eos_forbids_every_end_token) {
    std::vector<Token> const ends{3, 1};
    EXPECT_EQ(one(params([](auto& p) {
                      p.temperature = 0;
                      p.ignore_eos = true;
                  }),
                  kFour, {}, {.end_tokens = ends}),
              2);
    EXPECT_EQ(one(params(kGreedy), kFour, {}, {.end_tokens = ends}), 3);
}

TEST(sampler, penalties_match_the_published_vectors) {
    auto const five = logits_of({0.2, 0.2, 0.2, 0.2, 0.2});
    auto const repeat = params([](auto& p) { p.repeat_penalty = 50; });
    expect(shares(repeat, five, {0}), {0, 0.25, 0.25, 0.25, 0.25});
    expect(shares(repeat, five, {0, 1, 2, 0, 0}), {0, 0, 0, 0.5, 0.5});
    auto const counts = params([](auto& p) {
        p.frequency_penalty = 0.5F;
        p.presence_penalty = 1;
    });
    double const once = std::exp(-1.5);
    double const thrice = std::exp(-2.5);
    double const sum = 3 + once + thrice;
    expect(shares(counts, five, {0, 1, 0, 0}), {thrice / sum, once / sum, 1 / sum, 1 / sum, 1 / sum});
}

TEST(sampler, repeat_penalty_pushes_positive_and_negative_logits_down) {
    auto const repeat = params([](auto& p) {
        p.temperature = 0;
        p.repeat_penalty = 2;
    });
    EXPECT_EQ(one(repeat, {3, 2}, {0}), 1);
    EXPECT_EQ(one(repeat, {-1, -1.5F}, {0}), 1);
}

TEST(sampler, penalties_forget_what_left_their_window) {
    auto const windowed = [](std::int32_t last_n) {
        return params([=](auto& p) {
            p.temperature = 0;
            p.presence_penalty = 2;
            p.repeat_last_n = last_n;
        });
    };
    std::vector<Token> const history{0, 1, 1};
    EXPECT_EQ(one(windowed(2), {1, 0}, history), 0);
    EXPECT_EQ(one(windowed(3), {1, 0, -5}, history), 0) << "both are penalised alike";
    EXPECT_EQ(one(windowed(3), {1, 0, 0}, history), 2);
    EXPECT_EQ(one(windowed(-1), {1, 0, 0}, history), 2);
    EXPECT_EQ(one(windowed(0), {1, 0, 0}, history), 0);
}

TEST(sampler, penalty_counts_equal_a_recount_of_the_window) {
    std::mt19937 random(1);
    auto const p = params([](auto& q) {
        q.temperature = 0;
        q.frequency_penalty = 1;
        q.repeat_last_n = 7;
    });
    Sampler sampler(p, {.window = 4096}, 1);
    SamplerScratch scratch;
    std::vector<Token> history;
    for (int i = 0; i < 500; ++i) {
        history.push_back(static_cast<Token>(random() % 5));
        sampler.accept(history.back());
        std::vector<float> wanted{0.01F, 0.02F, 0.03F, 0.04F, 0.05F};
        auto const row = wanted;
        for (std::size_t j = history.size() > 7 ? history.size() - 7 : 0; j < history.size(); ++j)
            wanted[static_cast<std::size_t>(history[j])] -= 1;
        auto const best = static_cast<Token>(std::max_element(wanted.begin(), wanted.end()) - wanted.begin());
        ASSERT_EQ(sampler.sample(row, scratch).value(), best);
    }
}

TEST(sampler, dry_turns_greedy_away_from_a_loop) {
    auto const p = params([](auto& q) {
        q.temperature = 0;
        q.dry_multiplier = 1;
        q.dry_allowed_length = 2;
    });
    std::vector<Token> const history{0, 1, 2, 0, 1};
    EXPECT_EQ(one(p, {0, 0, 0.5F, 0}, history), 0);
    EXPECT_EQ(one(params(kGreedy), {0, 0, 0.5F, 0}, history), 2);
}

TEST(sampler, equal_seeds_give_equal_tokens_and_different_seeds_do_not) {
    auto const row = random_row(300, 4);
    SamplerScratch scratch;
    auto const draw_many = [&](std::uint64_t seed) {
        Sampler sampler({}, {.window = 10}, seed);
        std::vector<Token> tokens;
        for (int i = 0; i < 50; ++i) tokens.push_back(sampler.sample(row, scratch).value());
        return tokens;
    };
    EXPECT_EQ(draw_many(7), draw_many(7));
    EXPECT_NE(draw_many(7), draw_many(8));
}

// What a seed means is a promise: these tokens must not change between releases or machines.
TEST(sampler, a_seed_names_the_same_tokens_for_ever) {
    std::vector<float> row(1000);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>((i * 7919) % 1000) * 0.01F;
    auto const tokens = [&](SamplingParams const& p) {
        Sampler sampler(p, {.window = 10}, 123);
        SamplerScratch scratch;
        std::vector<Token> result;
        for (int i = 0; i < 6; ++i) result.push_back(sampler.sample(row, scratch).value());
        return result;
    };
    EXPECT_EQ(tokens({}), (std::vector<Token>{210, 964, 471, 136, 334, 994}));
    EXPECT_EQ(tokens(params([](auto& p) {
                  p.top_k = 40;
                  p.top_p = 0.95F;
                  p.min_p = 0.05F;
                  p.temperature = 0.8F;
              })),
              (std::vector<Token>{247, 877, 136, 284, 531, 198}));
    EXPECT_EQ(tokens(params([](auto& p) { p.mirostat = domain::Mirostat::v2; })),
              (std::vector<Token>{210, 964, 471, 136, 334, 989}));
}

TEST(sampler, broken_logits_are_an_error_in_every_mode) {
    std::vector<SamplingParams> const modes{params(),
                                            params(kGreedy),
                                            params([](auto& p) { p.top_k = 2; }),
                                            params([](auto& p) { p.top_p = 0.5F; }),
                                            params([](auto& p) { p.typical_p = 0.5F; }),
                                            params([](auto& p) { p.mirostat = domain::Mirostat::v1; }),
                                            params([](auto& p) { p.mirostat = domain::Mirostat::v2; }),
                                            params([](auto& p) { p.presence_penalty = 1; })};
    float const nan = std::numeric_limits<float>::quiet_NaN();
    std::vector<std::vector<float>> const rows{{}, {nan, 1}, {1, kInfinity}, {-kInfinity, -kInfinity}, {nan}};
    for (auto const& mode : modes) {
        for (auto const& row : rows) {
            Sampler sampler(mode, {.window = 10}, 1);
            sampler.accept(0);
            SamplerScratch scratch;
            auto const result = sampler.sample(row, scratch);
            ASSERT_FALSE(result.has_value());
            EXPECT_EQ(result.error().code, Code::internal);
        }
    }
}

TEST(sampler, every_mode_copes_with_a_single_possible_token) {
    std::vector<float> const row{-kInfinity, -kInfinity, -3, -kInfinity};
    auto const all = params([](auto& p) {
        p.top_k = 40;
        p.top_p = 0.5F;
        p.min_p = 0.5F;
        p.typical_p = 0.5F;
        p.xtc_probability = 1;
    });
    for (auto mode :
         {params(), params(kGreedy), all, params([](auto& p) { p.top_p = 0; }),
          params([](auto& p) { p.typical_p = 0; }), params([](auto& p) { p.mirostat = domain::Mirostat::v1; }),
          params([](auto& p) { p.mirostat = domain::Mirostat::v2; })}) {
        Sampler sampler(mode, {.window = 10}, 1);
        SamplerScratch scratch;
        for (int i = 0; i < 20; ++i) ASSERT_EQ(sampler.sample(row, scratch).value(), 2);
    }
}

// Mean surprise of what is drawn, in bits, measured against the full distribution.
double mean_surprise(domain::Mirostat version, float tau) {
    std::vector<float> row(2000);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = -1.1F * std::log(static_cast<float>(i + 1));  // Zipf
    double sum = 0;
    for (float const logit : row) sum += std::exp(static_cast<double>(logit));
    Sampler sampler(params([&](auto& p) {
                        p.mirostat = version;
                        p.mirostat_tau = tau;
                    }),
                    {.window = 10}, 3);
    SamplerScratch scratch;
    double surprise = 0;
    constexpr int kCount = 2000;
    for (int i = 0; i < kCount; ++i) {
        auto const token = static_cast<std::size_t>(sampler.sample(row, scratch).value());
        if (i >= kCount / 2) surprise -= std::log2(std::exp(static_cast<double>(row[token])) / sum) / (kCount / 2.0);
    }
    return surprise;
}

TEST(sampler, mirostat_holds_the_surprise_near_its_target) {
    for (auto const version : {domain::Mirostat::v1, domain::Mirostat::v2}) {
        double const low = mean_surprise(version, 2);
        double const high = mean_surprise(version, 4);
        EXPECT_LT(low, high);
        EXPECT_NEAR(low, 3.3, 1.2) << static_cast<int>(version);
        EXPECT_NEAR(high, 4.9, 1.2) << static_cast<int>(version);
    }
}

TEST(sampler, mirostat_at_temperature_zero_is_greedy) {
    for (auto const version : {domain::Mirostat::v1, domain::Mirostat::v2}) {
        EXPECT_EQ(one(params([&](auto& p) {
                          p.mirostat = version;
                          p.temperature = 0;
                      }),
                      kFour),
                  3);
    }
}

// A guard against an accidental sort of the vocabulary, with room for a loaded
// machine; the figures of a quiet one are in the README.
TEST(sampler, costs_far_less_than_a_sort_of_the_vocabulary) {
    auto const row = random_row(49152, 9);
    SamplerScratch scratch;
    auto const microseconds = [&](SamplingParams const& p) {
        Sampler sampler(p, {.window = 4096}, 1);
        double best = 1e9;
        for (int i = 0; i < 50; ++i) {
            auto const begin = std::chrono::steady_clock::now();
            EXPECT_TRUE(sampler.sample(row, scratch).has_value());
            best = std::min(
                best, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
        }
        return best;
    };
    auto sorted = row;
    auto const begin = std::chrono::steady_clock::now();
    std::sort(sorted.begin(), sorted.end());
    double const sort = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
    double const greedy = microseconds(params(kGreedy));
    double const top_k = microseconds(params([](auto& p) {
        p.top_k = 40;
        p.top_p = 0.95F;
        p.min_p = 0.05F;
    }));
    double const all = microseconds(params());
    double const top_p = microseconds(params([](auto& p) { p.top_p = 0.9F; }));
    double const penalties = microseconds(params([](auto& p) {
        p.temperature = 0;
        p.repeat_penalty = 1.1F;
    }));
    RecordProperty("greedy_us", std::to_string(greedy));
    std::printf("greedy %.1f us, top_k 40 %.1f, all %.1f, top_p %.1f, greedy with penalties %.1f, sort %.1f\n", greedy,
                top_k, all, top_p, penalties, sort);
    EXPECT_LT(greedy, sort / 4);
    EXPECT_LT(top_k, sort / 4);
}

}  // namespace
}  // namespace hearth::engine
