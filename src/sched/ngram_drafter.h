// NgramDrafter: guesses what a sequence says next from what it said before.
//
// Texts repeat themselves: an answer quotes its prompt, code repeats names, JSON
// its keys. The drafter looks for the last few tokens earlier in the text (prompt
// lookup decoding, Saxena 2023) and proposes what followed there; of several
// places it takes the one that agrees longest with the end of the text, of equals
// the latest. `hints` are texts of others that began alike, as the prefix tree
// knows them.
//
// A guess is only ever a guess: each token is verified by the model, so what is
// said is the same with and without.
//
// Threads: one. Limits: kTokensMax tokens are looked at, later ones are appended
// but not found again. Cost: O(1) per token; memory: 12 bytes a token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hearth::sched {

using Token = std::int32_t;

class NgramDrafter {
public:
    static constexpr std::uint32_t kMatchMin = 3;  // tokens that must agree: two agree by chance too often
    static constexpr std::uint32_t kTokensMax = 1U << 20;

    struct Draft {
        std::span<Token const> tokens;  // valid until the next call
        std::uint32_t match = 0;        // tokens that agreed
    };

    // What others said after the same text: searched, but not part of the text.
    // REQUIRES: nothing was appended yet
    void hint(std::span<Token const> text);

    void append(std::span<Token const> tokens);

    // Up to `most` tokens that may come next; none if the text's end is new.
    [[nodiscard]] Draft draft(std::uint32_t most);

    [[nodiscard]] bool empty() const { return text_.empty(); }

    // What was appended; valid until the next call of append().
    [[nodiscard]] std::span<Token const> text() const { return std::span(text_).subspan(begin_); }

private:
    static constexpr std::uint32_t kNowhere = ~0U;
    static constexpr std::uint32_t kTries = 8;      // places looked at
    static constexpr std::uint32_t kMatchMax = 64;  // longer agreement is not told apart

    void index(std::uint32_t end);
    void grow();
    [[nodiscard]] std::size_t bucket(std::uint32_t end) const;
    [[nodiscard]] std::uint32_t agreement(std::uint32_t end) const;

    std::vector<Token> text_;            // hints, then the text
    std::vector<std::uint32_t> before_;  // by place: the place before it in the same bucket
    std::vector<std::uint32_t> latest_;  // by bucket: the latest place; a power of two of them
    std::vector<Token> drafted_;
    std::uint32_t begin_ = 0;  // of the text proper
};

// How often guesses come true, by how long the places agreed; learnt as they do.
class Acceptance {
public:
    // That one more token of a draft is right, given that those before it are.
    [[nodiscard]] double probability(std::uint32_t match) const;

    // Of a draft of `drafted` tokens the first `accepted` were right. REQUIRES: accepted <= drafted
    void observe(std::uint32_t match, std::uint32_t drafted, std::uint32_t accepted);

private:
    struct Rate {
        double right;
        double tried;
    };
    // Beliefs before anything was seen; two tokens' worth of them.
    Rate rates_[4] = {{0.8, 2}, {1.0, 2}, {1.4, 2}, {1.7, 2}};
};

}  // namespace hearth::sched
