#include "engine/dry.h"

#include <algorithm>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace hearth::engine {
namespace {

struct Case {
    float multiplier;
    float base;
    std::int32_t allowed_length;
    std::uint32_t window;
};

Dry make(Case const& c, DryBreakers breakers = {}) {
    domain::SamplingParams params;
    params.dry_multiplier = c.multiplier;
    params.dry_base = c.base;
    params.dry_allowed_length = c.allowed_length;
    return Dry(params, c.window, std::make_shared<DryBreakers const>(std::move(breakers)));
}

// Probabilities after DRY over `vocabulary` equally likely tokens.
std::vector<double> apply(Dry dry, std::size_t vocabulary, std::vector<Token> const& history) {
    for (Token const token : history) dry.accept(token);
    std::vector<float> logits(vocabulary, 0.0F);
    dry.apply(logits);
    double sum = 0;
    std::vector<double> p;
    for (float const logit : logits) sum += p.emplace_back(std::exp(static_cast<double>(logit)));
    for (double& value : p) value /= sum;
    return p;
}

void expect(std::vector<double> const& got, std::vector<double> const& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5) << i;
}

// llama.cpp's own vectors.
TEST(dry, agrees_with_the_published_vectors) {
    expect(apply(make({1, 1.1F, 2, 4}), 4, {0, 1}), {0.25, 0.25, 0.25, 0.25});
    expect(apply(make({1, 1.1F, 2, 5}), 4, {0, 1, 2, 0, 1}), {0.296923, 0.296923, 0.109232, 0.296923});
    expect(apply(make({1, 1.1F, 2, 6}, {{3, {{}}}}), 5, {0, 1, 3, 4, 0, 1}), {0.2, 0.2, 0.2, 0.2, 0.2});
    expect(apply(make({2, 1.1F, 2, 5}), 5, {0, 1, 2, 0, 1}), {0.241818, 0.241818, 0.032727, 0.241818, 0.241818});
    expect(apply(make({1, 1.1F, 4, 7}), 5, {0, 1, 2, 3, 4, 0, 1}), {0.2, 0.2, 0.2, 0.2, 0.2});
}

TEST(dry, grows_with_the_length_of_the_repetition) {
    auto const penalty_of_last = [](std::vector<Token> const& history) {
        Dry dry = make({1, 2, 1, 100});
        for (Token const token : history) dry.accept(token);
        std::vector<float> logits(10, 0.0F);
        dry.apply(logits);
        return -logits[9];
    };
    EXPECT_EQ(penalty_of_last({1, 9, 1}), 1.0F);                    // repeats 1 token: 2^0
    EXPECT_EQ(penalty_of_last({2, 1, 9, 2, 1}), 2.0F);              // 2 tokens: 2^1
    EXPECT_EQ(penalty_of_last({4, 3, 2, 1, 9, 4, 3, 2, 1}), 8.0F);  // 4 tokens: 2^3
}

TEST(dry, a_breaker_of_several_tokens_limits_the_repetition) {
    std::vector<Token> const history{1, 2, 3, 7, 1, 2, 3};
    DryBreakers const breakers{{2, {{3}}}};  // "2 3" is a breaker: after it nothing has repeated yet
    auto const p = apply(make({1, 2, 1, 100}, breakers), 8, history);
    EXPECT_NEAR(p[7], 0.125, 1e-6);
    auto const without = apply(make({1, 2, 1, 100}), 8, history);
    EXPECT_LT(without[7], 0.01);
}

TEST(dry, never_penalises_a_breaker_itself) {
    DryBreakers const breakers{{5, {{}}}};
    auto const p = apply(make({1, 2, 1, 100}, breakers), 8, {1, 5, 1});
    EXPECT_NEAR(p[5], 0.125, 1e-6);
}

TEST(dry, looks_back_no_further_than_its_window) {
    std::vector<Token> history{1, 2, 9};
    history.insert(history.end(), 20, 3);
    history.insert(history.end(), {1, 2});
    EXPECT_LT(apply(make({1, 2, 1, 100}), 10, history)[9], 0.09);
    EXPECT_NEAR(apply(make({1, 2, 1, 10}), 10, history)[9], 0.1, 0.02);
}

TEST(dry, survives_extreme_parameters_without_overflow) {
    std::vector<Token> const history(5000, 1);
    auto dry = make({100, 100, 0, 4096});
    for (Token const token : history) dry.accept(token);
    std::vector<float> logits(4, 0.0F);
    dry.apply(logits);
    EXPECT_TRUE(std::isfinite(logits[1]));
    EXPECT_LT(logits[1], -1e30F);
    EXPECT_EQ(logits[0], 0.0F);
}

TEST(dry, finds_breakers_inside_tokens_and_across_their_ends) {
    std::vector<std::string> const pieces{"a\n", "end", "x", "xy", "y\n\n"};
    auto const bytes = [](std::string_view text) {
        std::vector<Token> tokens;
        for (char const c : text) tokens.push_back(static_cast<Token>(c));
        return tokens;
    };
    std::vector<std::string> const breakers{"\n", "d\n", "yes", ""};
    auto const made = make_dry_breakers(breakers, pieces, bytes);
    EXPECT_EQ(made.at(0), (std::vector<std::vector<Token>>{{}}));
    EXPECT_EQ(made.at(1), (std::vector<std::vector<Token>>{{'\n'}}));
    EXPECT_FALSE(made.contains(2));
    EXPECT_EQ(made.at(3), (std::vector<std::vector<Token>>{{'e', 's'}}));
    EXPECT_EQ(made.at(4), (std::vector<std::vector<Token>>{{}}));
}

// The definition, quadratic: for each earlier place, how long the match with the end is.
std::vector<double> naive(std::vector<Token> history, std::size_t vocabulary, Case const& c,
                          std::vector<Token> const& breakers) {
    if (history.size() > c.window) history.erase(history.begin(), history.end() - c.window);
    std::size_t const n = history.size();
    auto const is_breaker = [&](Token t) { return std::find(breakers.begin(), breakers.end(), t) != breakers.end(); };
    std::size_t limit = 0;
    while (limit < n && !is_breaker(history[n - 1 - limit])) ++limit;
    std::vector<double> logits(vocabulary, 0);
    auto const allowed = static_cast<std::size_t>(c.allowed_length);
    if (n <= allowed || limit < allowed) return logits;
    for (std::size_t next = 1; next < n; ++next) {  // history[next] followed a match that ends at next - 1
        std::size_t length = 0;
        while (length < next && length < limit && history[next - 1 - length] == history[n - 1 - length]) ++length;
        auto const token = static_cast<std::size_t>(history[next]);
        if (length < allowed || is_breaker(history[next])) continue;
        double const penalty = static_cast<double>(c.multiplier) *
                               std::pow(static_cast<double>(c.base), static_cast<double>(length - allowed));
        logits[token] = std::min(logits[token], -penalty);
    }
    return logits;
}

TEST(dry, equals_the_naive_definition_on_random_histories) {
    std::mt19937 random(11);
    for (int round = 0; round < 2000; ++round) {
        std::vector<Token> history(random() % 60);
        for (auto& token : history) token = static_cast<Token>(random() % 4);
        Case const c{0.5F, 1.5F, static_cast<std::int32_t>(random() % 4),
                     static_cast<std::uint32_t>(1 + random() % 50)};
        std::vector<Token> const single = random() % 2 == 0 ? std::vector<Token>{} : std::vector<Token>{3};
        DryBreakers breakers;
        for (Token const token : single) breakers[token].push_back({});
        Dry dry = make(c, breakers);
        for (Token const token : history) dry.accept(token);
        std::vector<float> logits(4, 0.0F);
        dry.apply(logits);
        auto const wanted = naive(history, 4, c, single);
        for (std::size_t i = 0; i < 4; ++i)
            ASSERT_NEAR(logits[i], wanted[i], 1e-3 * (1 - wanted[i])) << "round " << round << " token " << i;
    }
}

}  // namespace
}  // namespace hearth::engine
