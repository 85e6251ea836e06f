// CostModel: how long a step will take, learnt from the steps before.
//
//   ms = base + per_decode * decodes + per_prompt * prompt tokens + per_attended * attended
//
// A decode is a row of a sequence that goes on by one token, a prompt token a row
// of a prompt; attended counts the positions looked back at, in thousands of one
// row's: reading them costs more than computing with them, so rows of one sequence
// that read them together are cheaper. The four weights follow the machine and its load: least squares over
// the last steps, older ones counting less, by relative error, held near what was
// believed before where the steps say nothing (a machine that only decodes learns
// nothing about prompts and unlearns nothing).
//
// Deterministic; a step of no time (a clock that stands still) teaches nothing.
//
// Threads: one.
#pragma once

#include <array>
#include <cstdint>

namespace hearth::sched {

struct StepShape {
    std::uint32_t decodes = 0;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t guesses = 0;  // of the decodes
    std::uint64_t attended = 0;

    // Attention reads the positions once for so many rows of a sequence (the CPU
    // kernel's tile, about), which costs as much as computing with so many rows.
    static constexpr std::uint64_t kRowsPerRead = 16;
    static constexpr std::uint64_t kRowsToRead = 8;

    // Adds `tokens` of a prompt of which `done` are computed already.
    void add_prompt(std::uint32_t tokens, std::uint32_t done) {
        prompt_tokens += tokens;
        attended += attended_by(tokens, done);
    }
    void add_decode(std::uint32_t position) {
        ++decodes;
        attended += position + 1;
    }
    // One more row of a sequence that is in the step already.
    void add_guess(std::uint32_t position) {
        ++decodes;
        ++guesses;
        attended += (position + 1) / (kRowsToRead + 1);
    }
    [[nodiscard]] static std::uint64_t attended_by(std::uint64_t tokens, std::uint64_t done) {
        std::uint64_t const reads = (tokens + kRowsPerRead - 1) / kRowsPerRead;
        return (tokens + reads * kRowsToRead) * (done + tokens / 2) / (kRowsToRead + 1);
    }
};

class CostModel {
public:
    struct Weights {  // milliseconds
        double base = 1;
        double per_decode = 1;
        double per_prompt = 0.5;
        double per_attended = 0.001;  // of a thousand positions
    };

    // REQUIRES: no weight is negative, not all are 0
    explicit CostModel(Weights initial);

    [[nodiscard]] double predict_ms(StepShape const& shape) const;

    // A step of this shape took `ms`.
    void observe(StepShape const& shape, double ms);

    // How many of `tokens` prompt tokens, the first of them at position `done`, can
    // join `shape` so that the step takes no more than `target_ms`.
    [[nodiscard]] std::uint32_t tokens_within(double target_ms, StepShape const& shape, std::uint32_t tokens,
                                              std::uint32_t done) const;

    // What computing a prompt will take in all, beside nothing else.
    [[nodiscard]] double prompt_ms(std::uint32_t tokens, std::uint32_t done) const;

    [[nodiscard]] Weights weights() const;

    // About nine of ten steps take no longer than so many times what was predicted; at least 1.
    [[nodiscard]] double margin() const;

    // Prompt tokens were among what it learnt from; before that it guesses.
    [[nodiscard]] bool knows_prompts() const { return prompt_tokens_seen_ >= kPromptTokensToKnow; }

    // Steps with guesses were among what it learnt from of late. Others do not tell what a row costs
    // apart from its step, and where they say that it costs all, no guess would ever be made that shows otherwise.
    [[nodiscard]] bool knows_guesses() const { return guess_steps_ >= kGuessStepsToKnow; }

private:
    static constexpr std::size_t kSize = 4;
    static constexpr std::uint64_t kPromptTokensToKnow = 64;
    static constexpr std::uint32_t kGuessStepsToKnow = 8;
    static constexpr std::uint32_t kStepsToForget = 512;  // with decodes, and without guesses
    static constexpr double kErrorFirst = 0.05;
    using Vector = std::array<double, kSize>;

    [[nodiscard]] double slowness() const;
    void solve();

    Vector weights_;
    Vector belief_;  // weights that follow slowly
    double error_ = kErrorFirst;  // of predictions, relative, on average
    std::uint64_t prompt_tokens_seen_ = 0;
    std::uint32_t guess_steps_ = 0;   // up to kGuessStepsToKnow
    std::uint32_t since_guesses_ = 0;  // steps with decodes
    std::uint64_t steps_seen_ = 0;
    std::array<Vector, kSize> squares_{};  // decayed sums of x * x^T
    Vector products_{};                    // and of x * y
};

}  // namespace hearth::sched
