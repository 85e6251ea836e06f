// DRY ("don't repeat yourself"): penalises the token that would extend a
// repetition of what the context already holds, the more the longer it is.
//
// The context's suffix is compared with every earlier place by the Z-algorithm
// in time linear in the window. Sequence breakers end a repetition: what lies
// before the last breaker does not count. Semantics as in llama.cpp (after
// pi6am's original for KoboldCpp), except that control tokens have no text here,
// so they are never breakers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "domain/generate.h"
#include "engine/logits_scan.h"

namespace hearth::engine {

// Breaker strings as tokens: a head token and the tails that must follow it for
// the whole to spell the breaker. An empty tail: the head alone contains it.
// Immutable once made, shared by the choices of a request.
using DryBreakers = std::unordered_map<Token, std::vector<std::vector<Token>>>;

// `pieces` is the text of every token id; `tokenize` cuts what sticks out of the head.
// Linear in the vocabulary's text: call it off the engine thread.
[[nodiscard]] DryBreakers make_dry_breakers(std::span<std::string const> breakers, std::span<std::string const> pieces,
                                            std::function<std::vector<Token>(std::string_view)> const& tokenize);

// One sequence's DRY state. One thread.
class Dry {
public:
    // `window`: tokens to look back, dry_penalty_last_n with -1 resolved.
    Dry(domain::SamplingParams const& params, std::uint32_t window, std::shared_ptr<DryBreakers const> breakers);

    [[nodiscard]] bool enabled() const { return multiplier_ != 0 && base_ >= 1 && window_ > 0; }

    void accept(Token token);

    // Subtracts the penalties. REQUIRES: enabled()
    void apply(std::span<float> logits);

private:
    [[nodiscard]] Token back(std::size_t i) const { return history_[history_.size() - 1 - i]; }  // 0: the last token
    [[nodiscard]] std::size_t repetition_limit(std::size_t length) const;
    void find_repeats(std::size_t length);
    [[nodiscard]] bool is_breaker(Token token) const;

    double multiplier_;
    double base_;
    std::size_t allowed_length_;
    std::size_t window_;
    std::shared_ptr<DryBreakers const> breakers_;
    std::vector<Token> history_;              // at most 2 * window_
    std::vector<std::size_t> repeats_;        // scratch of apply(): per place, how much of the suffix ends there
    std::unordered_map<Token, std::size_t> longest_;  // scratch: per next token, the longest repetition it would extend
};

}  // namespace hearth::engine
