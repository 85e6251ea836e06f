// What the engine thread knows of a request: plain state, moved along by
// EngineCore and touched by nobody else.
//
//   Request   waiting -> prompt -> generating -> ended
//   Choice    pending -> live <-> swapped -> done
//
// While the prompt is computed choice 0 is live and stands for all: it computes,
// the others only hold their sequence ids. When the prompt is complete they are
// copied from it and share its cells.
//
// When the context of a choice is full and the request lets it shift, the choice
// leaves its cells and comes back like a swapped one, with what is left of its
// text as a prompt of its own: its refill. So does, without leaving them, one whose
// state cannot be cut behind what was guessed right.
//
// A live choice pins the node of the prefix tree at which its sequence ends.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/utf8.h"
#include "engine/draft_model.h"
#include "engine/prepare.h"
#include "engine/sampler.h"
#include "engine/stop_matcher.h"
#include "kvstore/store.h"
#include "sched/draft_policy.h"
#include "sched/ngram_drafter.h"
#include "sched/prefix_tree.h"

namespace hearth::engine {

inline constexpr llama::SequenceId kNoSequence = -1;

// A live choice's part of a second model that guesses for it.
struct ModelDraft {
    DraftModel::Slot slot = DraftModel::kNone;
    std::optional<sched::DraftChance> chance;  // once it was asked for
    std::vector<Token> guesses;                // for the step being planned
    std::uint32_t not_before = 0;              // tokens of the choice: until then it is not looked at
    std::uint32_t idle = 0;                    // steps in which no guess paid
    double debt_ms = 0;                        // catching up took, less what guesses gained since
};

struct Choice {
    enum class State : std::uint8_t { pending, live, swapped, done };

    Choice(std::uint32_t choice_index, Sampler choice_sampler, std::shared_ptr<StopSet const> stop_set)
        : index(choice_index), sampler(std::move(choice_sampler)), stops(std::move(stop_set)) {}

    std::uint32_t index;
    State state = State::pending;
    llama::SequenceId sequence = kNoSequence;
    Sampler sampler;
    StopMatcher stops;
    Utf8Carry carry;
    Token next = 0;                // sampled, not in the cache yet
    sched::PrefixTree::NodeId node = sched::PrefixTree::kNone;  // of a live one
    sched::PrefixTree::Key key;    // of what it computes: the request's, but for one that came back in part
    std::uint32_t positions = 0;   // in the cache or in the blob
    std::uint32_t ahead = 0;       // guesses in the cache behind those; none between steps
    std::uint32_t tokens = 0;      // sampled
    std::vector<Token> said;       // the same, if the request returns its context: the last of them
    std::uint32_t noted = 0;       // positions the tiers know of,
    Instant noted_at{};            // since then
    std::unique_ptr<sched::NgramDrafter> drafter;  // from the first token on, if it may speculate
    sched::Acceptance acceptance;
    ModelDraft draft;              // what a second model guesses
    std::vector<std::byte> blob;   // of a swapped one: its state,
    std::vector<Token> text;       // and the tokens of its positions
    std::vector<Token> refill;     // after a shift: what has to be in the cache before it goes on; else empty
    bool redoes = false;           // that is what a wrong guess spoilt, no shift
    std::vector<std::byte> before; // with checkpoints: the state before the guesses of the step being planned or run
};

struct Request {
    enum class Phase : std::uint8_t { waiting, prompt, generating, ended };

    explicit Request(PreparedRequest prepared) : spec(std::move(prepared)) {}

    PreparedRequest spec;
    Phase phase = Phase::waiting;
    std::uint64_t age = 0;            // order of admission: higher is younger
    std::uint64_t credit = 0;
    std::uint64_t planned = 0;        // of that, what the step being planned may emit
    bool parked = false;              // preempted: it keeps its cells and takes part in no step
    domain::Priority lent = domain::Priority::batch;  // the best class that waits for what it computes
    Instant due;                      // arrival and what its prompt costs: the earlier, the sooner it is served
    sched::PrefixTree::Key key;       // whose prefixes it may stand on
    std::shared_ptr<kvstore::Fetch> fetch;  // of a waiting one: what the tiers have of its prompt
    Instant fetch_began;
    bool wants_fetch = false;               // they have something, but others fetch already
    bool fetch_late = false;                // the disk took too long: it is computed
    std::uint32_t cached = 0;         // tokens of the prompt that were in the cache
    std::uint32_t prompt_done = 0;    // tokens computed, those included
    std::vector<std::uint32_t> borders;  // of models with checkpoints: prompt positions for one, the next one last
    std::uint32_t checkpointed = 0;   // position of the last one
    std::uint32_t drafted = 0;        // tokens guessed ahead, all choices
    std::uint32_t accepted = 0;       // of those, what came true
    std::uint32_t shifts = 0;         // contexts that were full and made room, all choices
    std::uint32_t shifted = 0;        // tokens dropped for it
    std::uint32_t open = 0;           // choices not done
    std::vector<Choice> choices;      // empty while waiting
    Instant admitted;
    Instant first_token;
    Instant last_token;

    [[nodiscard]] std::uint32_t prompt_size() const { return static_cast<std::uint32_t>(spec.prompt.size()); }
    [[nodiscard]] bool started() const { return phase != Phase::waiting; }
    // Its reader is behind: it may not emit, though it could.
    [[nodiscard]] bool paused() const { return phase == Phase::generating && credit == 0; }
    // In no step: others may have its cells.
    [[nodiscard]] bool idle() const { return parked || paused(); }

    // What is computed before the choice may speak, or speak on.
    [[nodiscard]] std::vector<Token> const& text_of(Choice const& choice) const {
        return phase == Phase::prompt ? spec.prompt : choice.refill;
    }
    // Of that, what is not in the cache. REQUIRES: the choice is live, or was just now
    [[nodiscard]] std::uint32_t missing(Choice const& choice) const {
        auto const size = static_cast<std::uint32_t>(text_of(choice).size());
        return size - std::min(size, choice.positions);
    }
    // A live choice of it has text to compute, and nothing keeps it from that.
    [[nodiscard]] bool computes_text() const {
        return !idle() && std::any_of(choices.begin(), choices.end(), [this](Choice const& choice) {
            return choice.state == Choice::State::live && missing(choice) > 0;
        });
    }
};

}  // namespace hearth::engine
