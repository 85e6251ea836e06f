// Prefixes of models that cannot go back: where their state is put aside, and
// what becomes of sequences that cannot be cut.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

// Checkpoints closer together than this save too little to cut a prompt's chunk for.
constexpr std::uint32_t kBorderGap = 64;

// Where a chunk ends anyway, a checkpoint costs only its bytes.
constexpr std::uint32_t kChunkGap = 256;

}  // namespace

// Without a cache nothing is copied, though other choices of the request begin alike; and what is
// computed in steps of fixed shapes begins at its start.
sched::PrefixTree::Match EngineCore::find_prefix(Request const& request, sched::PrefixTree::Key const& key,
                                                 std::span<Token const> text) const {
    auto const& tree = ledger_.tree();
    if (!caches_ || request.spec.pinned) return {.key = key};
    return checkpoints_ ? tree.find_state(key, text) : tree.find(key, text);
}

// Where others will probably part from this prompt: behind each message, and
// where somebody already did.
void EngineCore::set_borders(Request& request, std::uint32_t parted) {
    request.borders.clear();
    if (!checkpoints_ || !shares(request.spec)) return;
    auto const& prompt = request.spec.prompt;
    std::uint32_t last = request.cached;
    for (std::uint32_t at = request.cached + 1; at < prompt.size(); ++at) {
        bool const message_ends =
            std::find(end_tokens_.begin(), end_tokens_.end(), prompt[at - 1]) != end_tokens_.end();
        if ((at != parted && !message_ends) || at - last < kBorderGap) continue;
        request.borders.push_back(at);
        last = at;
    }
    std::reverse(request.borders.begin(), request.borders.end());  // the next one is the last
    request.checkpointed = request.cached;
}

// No further than the next border.
std::uint32_t EngineCore::chunk_within_borders(Request const& request, std::uint32_t chunk) {
    return request.borders.empty() ? chunk : std::min(chunk, request.borders.back() - request.prompt_done);
}

// The prompt has grown: puts its state aside where that is of use.
void EngineCore::checkpoint_prompt(Request& request) {
    if (!checkpoints_ || !shares(request.spec)) return;
    std::uint32_t const done = request.prompt_done;
    bool const at_border = !request.borders.empty() && request.borders.back() == done;
    if (at_border) request.borders.pop_back();
    if (!at_border && done != request.prompt_size() && done - request.checkpointed < kChunkGap) return;
    auto checkpoint = backend_.checkpoint(request.choices[0].sequence);
    if (!checkpoint) return;  // one place less to go on from
    if (keep_checkpoint(request.choices[0].node, *std::move(checkpoint))) request.checkpointed = done;
}

// False when there is no room for it.
bool EngineCore::keep_checkpoint(sched::PrefixTree::NodeId node, std::vector<std::byte> checkpoint) {
    auto& tree = ledger_.tree();
    while (tree.checkpoint_bytes() + checkpoint.size() > options_.checkpoint_bytes_max && evict()) {}
    if (tree.checkpoint_bytes() + checkpoint.size() > options_.checkpoint_bytes_max) return false;
    tree.set_checkpoint(node, std::move(checkpoint));
    return true;
}

// Before rows that may be wrong. False when the state cannot be put aside.
bool EngineCore::remember(Choice& choice) {
    auto checkpoint = backend_.checkpoint(choice.sequence);
    if (!checkpoint) return false;
    choice.before = *std::move(checkpoint);
    return true;
}

// All rows computed after remember() are what the choice says, so the state is right.
void EngineCore::keep_all(Choice& choice, std::span<llama::BatchEntry const> rows) {
    std::vector<Token> tokens;
    for (auto const& row : rows) tokens.push_back(row.token);
    choice.ahead = 0;
    choice.before.clear();
    extend(choice, tokens);
    choice.positions += static_cast<std::uint32_t>(tokens.size());
}

// Those in `right` are, others were wrong: the state goes back, and what was right is computed once more,
// like a text after a shift. That is a step, which draft() counts among the costs of a guess.
void EngineCore::keep_some(Request& request, Choice& choice, std::span<llama::BatchEntry const> right) {
    if (choice.state != Choice::State::live) return;  // detach() went back
    drop_guesses(choice);
    choice.refill = ledger_.tree().text(choice.node);
    for (auto const& row : right) choice.refill.push_back(row.token);
    choice.redoes = true;
    ledger_.reserve(request.missing(choice));
}

// To where remember() was called: a copy up to there takes the sequence's place.
void EngineCore::go_back(Choice& choice) {
    auto const end = static_cast<llama::Position>(choice.positions);
    auto const copied = backend_.copy_sequence(choice.sequence, spare_, end, choice.before);
    HEARTH_ASSERT(copied.has_value(), "a state that was put aside a step ago fits");
    choice.before.clear();
    ledger_.tree().rename(choice.node, choice.sequence, spare_);
    std::swap(choice.sequence, spare_);
    empty_sequence(spare_);
}

// A sequence that cannot be cut is copied up to where it has to end. Without a
// state to go on from there, nobody can stand on that place: it goes too.
void EngineCore::cut_by_copy(sched::PrefixTree::Eviction const& evicted) {
    auto& tree = ledger_.tree();
    auto const checkpoint = tree.checkpoint(evicted.parent);
    if (!checkpoint.empty()) {
        auto const end = static_cast<llama::Position>(evicted.keep);
        if (backend_.copy_sequence(evicted.holder, spare_, end, checkpoint)) {
            spare_ = tree.exchange(evicted.parent, spare_);
            empty_sequence(spare_);
            return;
        }
    }
    if (auto const next = tree.evict(evicted.parent)) {
        apply(*next);
    } else {
        empty_sequence(evicted.holder);
        lost_ = evicted.parent;  // pinned by a request that is about to stand on it: try_admit() looks
    }
}

void EngineCore::empty_sequence(llama::SequenceId sequence) {
    Status const removed = backend_.remove(sequence, 0);
    HEARTH_ASSERT(removed.has_value(), "emptying a sequence always works");
}

}  // namespace hearth::engine
