// DraftModel: a second, smaller model that guesses what sequences of the first
// say next.
//
// It has cells and sequence ids of its own. A slot is one of its sequences; a
// running choice holds one, and what the slot has computed is kept when the
// choice ends, for a text that begins alike: the next turn of a chat, or another
// request with the same prompt, which copies it. Nobody's slots are emptied, the
// longest unused first, when cells or slots lack; when that is not enough, there
// are no guesses, and nothing fails.
//
// Guesses stay in a slot's cache until the next call for it shows which of them
// came true; the others are removed then.
//
// Threads:   one, the engine's.
// Ownership: refers to a backend, which outlives it.
// Limits:    the backend's cells, ids and batch; a text longer than its context gets no guesses.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "llama/backend.h"
#include "sched/cost_model.h"

namespace hearth::engine {

using domain::Token;

class DraftModel {
public:
    using Slot = std::int32_t;
    static constexpr Slot kNone = -1;

    struct Wish {
        Slot slot = kNone;
        std::span<Token const> text;  // all that was said, the token whose successor is wanted last
        std::uint32_t depth = 0;      // tokens wanted
        std::vector<Token> guesses{};  // what it guesses: no more than `depth`
    };

    // Fails with `unsupported`, saying what differs, when `draft` cannot guess for
    // `target`: their vocabularies differ, or one of them cannot take tokens back.
    [[nodiscard]] static Status check(llama::Backend const& target, llama::Backend const& draft);

    // REQUIRES: check() passed; `backend` and `clock` outlive this
    DraftModel(llama::Backend& backend, std::uint32_t target_vocabulary, Clock const& clock);

    // The tokens fit its context and its vocabulary, with `depth` guesses behind.
    [[nodiscard]] bool can_hold(std::span<Token const> text, std::uint32_t depth) const;

    // A slot for `text`, with as much of it as any slot has. kNone: all are held.
    [[nodiscard]] Slot take(std::span<Token const> text);
    void give_back(Slot slot);

    // Tokens to be computed before the first guess, 1 at least; of a text without a slot, about.
    [[nodiscard]] std::uint32_t behind(Slot slot, std::span<Token const> text) const;

    // Computes up to `most` of what lacks, but not the last token. False when it could not.
    [[nodiscard]] bool catch_up(Slot slot, std::span<Token const> text, std::uint32_t most);

    // Fills in the guesses, all wishes together in as many passes as the deepest wants.
    void guess(std::span<Wish> wishes);

    // Empties the slots nobody holds.
    void forget();

    // Milliseconds computed since the last call.
    [[nodiscard]] double take_spent_ms() { return std::exchange(spent_ms_, 0.0); }
    [[nodiscard]] sched::CostModel const& cost() const { return cost_; }
    [[nodiscard]] llama::Backend const& backend() const { return backend_; }
    [[nodiscard]] std::uint32_t held() const;    // slots
    [[nodiscard]] std::uint64_t tokens() const;  // in the cache, shared ones counted once per slot
    [[nodiscard]] bool is_measured() const { return measured_; }
    [[nodiscard]] bool is_broken() const { return failures_ >= kFailuresMax; }

private:
    // Computing that fails so often in a row is not tried again.
    static constexpr std::uint32_t kFailuresMax = 8;

    struct Sequence {
        std::vector<Token> tokens;  // in the cache
        bool held = false;
        std::uint64_t used = 0;     // when, in calls
    };
    struct Part {  // of a pass: one wish's entries
        std::size_t wish;
        std::size_t end;  // behind its last entry, whose logits are wanted
    };

    [[nodiscard]] Sequence& at(Slot slot) { return sequences_[static_cast<std::size_t>(slot)]; }
    [[nodiscard]] Sequence const& at(Slot slot) const { return sequences_[static_cast<std::size_t>(slot)]; }
    [[nodiscard]] std::size_t agreement(Slot slot, std::span<Token const> text) const;
    [[nodiscard]] std::size_t cut(Slot slot, std::span<Token const> text);
    void empty(Slot slot);
    [[nodiscard]] Slot oldest_free(Slot except) const;
    [[nodiscard]] bool empty_oldest();
    [[nodiscard]] bool compute(sched::StepShape const& shape);
    void plan_pass(std::span<Wish> wishes, std::uint32_t pass);
    void take_guesses(std::span<Wish> wishes);

    llama::Backend& backend_;
    Clock const& clock_;
    std::size_t vocabulary_;  // tokens both models have
    bool lacks_tokens_;       // the target has more
    sched::CostModel cost_;
    std::vector<Sequence> sequences_;
    std::uint64_t calls_ = 0;
    double spent_ms_ = 0;
    bool measured_ = false;
    std::uint32_t failures_ = 0;  // in a row
    // Of the pass being planned; members to keep their memory.
    std::vector<llama::BatchEntry> batch_;
    std::vector<Part> parts_;
    std::vector<bool> going_;  // by wish: it wants another pass
};

// What a step costs before any was measured: by the model's size and threads alone.
[[nodiscard]] sched::CostModel::Weights first_guess(domain::ModelInfo const& info);

}  // namespace hearth::engine
