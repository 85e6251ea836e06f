#include "sched/cost_model.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace hearth::sched {
namespace {

// A machine whose steps cost exactly what these weights say, give or take noise.
struct Machine {
    CostModel::Weights truth;
    double noise = 0;
    std::mt19937 random{1};

    double ms(StepShape const& shape) {
        double const exact = truth.base + truth.per_decode * shape.decodes + truth.per_prompt * shape.prompt_tokens +
                             truth.per_attended * static_cast<double>(shape.attended) / 1000;
        return exact * (1 + noise * (std::uniform_real_distribution<>(-1, 1)(random)));
    }
};

StepShape mixed(std::mt19937& random) {
    StepShape shape;
    for (auto i = random() % 16; i > 0; --i) shape.add_decode(random() % 4000);
    shape.add_prompt(static_cast<std::uint32_t>(random() % 256), static_cast<std::uint32_t>(random() % 6000));
    return shape;
}

TEST(cost_model, learns_a_machine_from_its_steps) {
    Machine machine{{.base = 3, .per_decode = 0.4, .per_prompt = 0.22, .per_attended = 0.012}, 0.05};
    CostModel model({});
    std::mt19937 random(7);
    for (int i = 0; i < 300; ++i) {
        auto const shape = mixed(random);
        model.observe(shape, machine.ms(shape));
    }
    machine.noise = 0;
    for (int i = 0; i < 100; ++i) {
        auto const shape = mixed(random);
        EXPECT_NEAR(model.predict_ms(shape), machine.ms(shape), 0.1 * machine.ms(shape) + 0.5);
    }
}

TEST(cost_model, knows_how_far_off_it_is) {
    for (double const noise : {0.0, 0.1, 0.2}) {
        Machine machine{{.base = 3, .per_decode = 0.4, .per_prompt = 0.22, .per_attended = 0.012}, noise};
        CostModel model({});
        std::mt19937 random(7);
        int late = 0;
        for (int i = 0; i < 1500; ++i) {
            auto const shape = mixed(random);
            double const ms = machine.ms(shape);
            if (i >= 500 && ms > model.margin() * model.predict_ms(shape)) ++late;
            model.observe(shape, ms);
        }
        EXPECT_LE(late, 170) << noise;
        EXPECT_NEAR(model.margin(), 1 + 0.8 * noise, 0.03 + 0.25 * noise);
    }
}

TEST(cost_model, follows_a_machine_that_becomes_slower) {
    Machine machine{{.base = 3, .per_decode = 0.4, .per_prompt = 0.22, .per_attended = 0.012}};
    CostModel model({});
    std::mt19937 random(7);
    for (int slow = 0; slow < 2; ++slow) {
        if (slow == 1) machine.truth = {9, 1.2, 0.66, 0.036};
        for (int i = 0; i < 200; ++i) {
            auto const shape = mixed(random);
            model.observe(shape, machine.ms(shape));
        }
    }
    auto const shape = mixed(random);
    EXPECT_NEAR(model.predict_ms(shape), machine.ms(shape), 0.1 * machine.ms(shape));
}

TEST(cost_model, decoding_alone_unlearns_nothing_about_prompts) {
    Machine machine{{.base = 3, .per_decode = 0.4, .per_prompt = 0.22, .per_attended = 0.012}};
    CostModel model({});
    std::mt19937 random(7);
    for (int i = 0; i < 200; ++i) {
        auto const shape = mixed(random);
        model.observe(shape, machine.ms(shape));
    }
    for (std::uint32_t i = 0; i < 5000; ++i) {
        StepShape shape;
        for (int j = 0; j < 4; ++j) shape.add_decode(1000 + i);
        model.observe(shape, machine.ms(shape));
    }
    StepShape prompt;
    prompt.add_prompt(256, 1000);
    EXPECT_NEAR(model.predict_ms(prompt), machine.ms(prompt), 0.35 * machine.ms(prompt));
}

TEST(cost_model, like_steps_with_noise_do_not_make_prompts_free) {
    Machine machine{{.base = 20, .per_decode = 1, .per_prompt = 1, .per_attended = 0.3}};
    CostModel model({});
    std::mt19937 random(7);
    for (int i = 0; i < 100; ++i) {
        auto const shape = mixed(random);
        model.observe(shape, machine.ms(shape));
    }
    machine.noise = 0.3;
    for (std::uint32_t i = 0; i < 1000; ++i) {  // a long prompt, a few tokens at a time, beside three streams
        StepShape shape;
        for (std::uint32_t j = 0; j < 3; ++j) shape.add_decode(300 + i);
        shape.add_prompt(static_cast<std::uint32_t>(8 + random() % 8), 1000 + i);
        model.observe(shape, machine.ms(shape));
    }
    machine.noise = 0;
    StepShape prompt;
    prompt.add_decode(300);
    prompt.add_prompt(256, 3000);
    EXPECT_NEAR(model.predict_ms(prompt), machine.ms(prompt), 0.6 * machine.ms(prompt));
}

TEST(cost_model, one_stall_does_not_turn_its_mind) {
    Machine machine{{.base = 3, .per_decode = 0.4, .per_prompt = 0.22, .per_attended = 0.012}};
    CostModel model({});
    std::mt19937 random(7);
    for (int i = 0; i < 200; ++i) {
        auto const shape = mixed(random);
        model.observe(shape, machine.ms(shape));
    }
    auto const shape = mixed(random);
    model.observe(shape, 5000);
    EXPECT_LT(model.predict_ms(shape), 1.5 * machine.ms(shape));
}

TEST(cost_model, does_not_move_while_the_clock_stands_still) {
    CostModel model({});
    StepShape const shape{4, 100, 5000};
    double const before = model.predict_ms(shape);
    model.observe(shape, 0);
    model.observe(shape, -1);
    model.observe(shape, std::nan(""));
    EXPECT_EQ(model.predict_ms(shape), before);
}

TEST(cost_model, never_predicts_that_more_work_takes_less_time) {
    CostModel model({});
    std::mt19937 random(3);
    for (int i = 0; i < 2000; ++i) {
        model.observe(mixed(random), std::exp(std::uniform_real_distribution<>(-3, 7)(random)));
        auto const w = model.weights();
        for (double const weight : {w.base, w.per_decode, w.per_prompt, w.per_attended}) {
            EXPECT_GE(weight, 0);
            EXPECT_TRUE(std::isfinite(weight));
        }
    }
}

TEST(cost_model, says_how_many_tokens_fit_a_step) {
    CostModel const model({.base = 2, .per_decode = 1, .per_prompt = 0.2, .per_attended = 0.01});
    std::mt19937 random(5);
    for (int i = 0; i < 1000; ++i) {
        StepShape shape;
        for (auto n = random() % 20; n > 0; --n) shape.add_decode(random() % 1000);
        auto const done = static_cast<std::uint32_t>(random() % 8000);
        double const target = 5 + static_cast<double>(random() % 100);
        auto const fit = model.tokens_within(target, shape, 400, done);
        auto with = shape;
        with.add_prompt(fit, done);
        if (fit > 0) EXPECT_LE(model.predict_ms(with), target + 1e-9);
        with = shape;
        with.add_prompt(fit + 1, done);
        if (fit < 400) EXPECT_GT(model.predict_ms(with), target - 1e-9);
    }
}

TEST(cost_model, knows_guesses_from_steps_that_had_some_of_late) {
    CostModel model({});
    StepShape plain, guessed;
    plain.add_decode(10);
    guessed.add_decode(10);
    guessed.add_guess(11);
    for (int i = 0; i < 8; ++i) {
        EXPECT_FALSE(model.knows_guesses()) << i;
        model.observe(plain, 5);
        model.observe(guessed, 6);
    }
    EXPECT_TRUE(model.knows_guesses());
    for (int i = 0; i < 511; ++i) model.observe(plain, 5);
    EXPECT_TRUE(model.knows_guesses());
    model.observe(plain, 5);
    EXPECT_FALSE(model.knows_guesses());
}

}  // namespace
}  // namespace hearth::sched
