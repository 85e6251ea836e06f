// Who holds cells and sequence ids: admission, swapping, and the books.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

// Free cells kept per running sequence when another enters, so that it is not
// thrown out again by the next few tokens.
constexpr std::uint32_t kHeadroomTokens = 16;

// Free for who comes next: at most so many, and at most that part of all.
constexpr std::uint32_t kAheadIds = 4;
constexpr std::uint32_t kAheadIdsPart = 16;
constexpr std::uint32_t kAheadCells = 256;
constexpr std::uint32_t kAheadCellsPart = 32;
constexpr double kAheadMs = 3;  // none is begun later, of those between two steps

// Tenants and salts remembered; beyond, those without a prefix in the tree are forgotten.
constexpr std::size_t kSpacesMax = 4096;

}  // namespace

// Brings back what it can of a parked or swapped request. False when something has to stay out.
bool EngineCore::try_resume(Request& request) {
    auto const own = level(request);
    if (request.parked) {
        if (!make_slots(slots_of(request), own)) return false;
        request.parked = false;
    }
    for (auto& choice : request.choices) {
        if (choice.state != Choice::State::swapped) continue;
        if (choice.positions == 0 && !choice.refill.empty()) {
            if (!try_refill(request, choice)) return false;
            if (request.phase == Request::Phase::ended) break;
            continue;
        }
        bool const prompt = request.phase == Request::Phase::prompt;
        auto const refill = static_cast<std::uint32_t>(choice.refill.size());
        std::uint32_t const cells = prompt ? request.prompt_size() : std::max(choice.positions, refill) + 1;
        if (!make_room({cells, prompt ? request.spec.choices : 1, own})) return false;
        restore(request, choice);
        if (request.phase == Request::Phase::ended) break;
    }
    return true;
}

// A request that shares with nobody has a space of its own. One with a salt shares
// with nobody beyond it: not even what is public. Nor does one with adapters, which
// compute other cells for the same tokens.
sched::PrefixTree::Key EngineCore::key_of(PreparedRequest const& spec) {
    auto const owner = owner_of(spec.tenant);
    if (!shares(spec)) return {++next_space_, owner};
    if (spaces_.size() >= kSpacesMax)
        std::erase_if(spaces_, [this](auto const& entry) { return !ledger_.tree().knows(entry.second); });
    auto const [found, fresh] = spaces_.try_emplace({spec.tenant, spec.cache_salt, spec.adapters}, 0);
    if (fresh) {
        found->second = ++next_space_;
        if (auto const stored = stored_space(spec); tiers_ && stored)
            tiers_->know(found->second, *stored, ledger_.tree());
    }
    return {found->second, owner, spec.cache_salt.empty() ? spec.public_tokens : 0};
}

sched::PrefixTree::Owner EngineCore::owner_of(std::string const& tenant) {
    if (owners_.size() >= kSpacesMax + options_.tenant_weights.size()) {
        std::erase_if(owners_, [this](auto const& entry) {
            return entry.second > options_.tenant_weights.size() && !ledger_.tree().knows_owner(entry.second);
        });
    }
    auto const [found, fresh] = owners_.try_emplace(tenant, 0);
    if (fresh) found->second = ++next_owner_;
    return found->second;
}

// The last token is always computed: its logits are wanted.
std::span<Token const> EngineCore::reusable(Request const& request) const {
    return std::span(request.spec.prompt).first(request.spec.prompt.size() - 1);
}

// Takes it if there is room for what of its prompt is not in the cache.
bool EngineCore::try_admit(Request& request) {
    auto& tree = ledger_.tree();
    auto const parted = checkpoints_ ? tree.find(request.key, reusable(request)).tokens : 0;
    std::uint32_t const output = request.spec.choices * expected_output(request.spec.tokens_max);
    auto const node = find_place(request, request.key, reusable(request),
                                 {request.prompt_size(), request.spec.choices, level(request), output});
    if (!node) return false;
    tree.hit(*node);
    auto const at =
        std::find_if(waiting_.begin(), waiting_.end(), [&](auto const& one) { return one.get() == &request; });
    admit(std::move(*at), *node);
    set_borders(request, parted);
    return true;
}

// Pins what of `text` is in the cache, and makes room for the rest of what is wanted.
std::optional<sched::PrefixTree::NodeId> EngineCore::find_place(Request const& request,
                                                                sched::PrefixTree::Key const& key,
                                                                std::span<Token const> text, Room wanted) {
    auto& tree = ledger_.tree();
    auto const node = tree.pin(find_prefix(request, key, text));
    wanted.cells -= tree.depth(node);
    bool const room = make_room(wanted);
    auto const lost = std::exchange(lost_, sched::PrefixTree::kNone);
    // Making room may have taken away the very sequence that ended there.
    bool const stands = !checkpoints_ || tree.depth(node) == 0 || tree.has_state(node);
    if (room && stands && lost == sched::PrefixTree::kNone) return node;
    tree.unpin(node);
    if (lost != sched::PrefixTree::kNone) forget(lost);
    return std::nullopt;
}

// The choice goes on from what find_place() pinned.
Status EngineCore::take_place(Choice& choice, sched::PrefixTree::NodeId node) {
    auto& tree = ledger_.tree();
    choice.state = Choice::State::live;
    choice.node = node;
    choice.positions = choice.noted = tree.depth(node);
    choice.sequence = tree.take(node);
    if (choice.sequence != kNoSequence) return ok();
    choice.sequence = ledger_.take_id();
    if (choice.positions == 0) return ok();
    return backend_.copy_sequence(tree.donor(node), choice.sequence, static_cast<llama::Position>(choice.positions),
                                  tree.checkpoint(node));
}

// Tokens a choice will probably emit: what choices did of late, and no more than it may.
std::uint32_t EngineCore::expected_output(std::uint32_t tokens_max) const {
    if (!options_.reserve_output) return 0;
    return std::min(tokens_max, static_cast<std::uint32_t>(output_mean_));
}

void EngineCore::admit(std::unique_ptr<Request> admitted, sched::PrefixTree::NodeId node) {
    Request& request = *admitted;
    auto const& spec = request.spec;
    request.phase = Request::Phase::prompt;
    request.age = next_age_++;
    request.admitted = clock_.now();
    request.open = spec.choices;
    request.choices.reserve(spec.choices);
    for (std::uint32_t i = 0; i < spec.choices; ++i) {
        Sampler sampler(spec.sampling,
                        {.window = spec.context, .end_tokens = end_tokens_, .dry_breakers = spec.dry_breakers},
                        spec.seed + i);
        for (Token const token : spec.prompt) sampler.accept(token);
        request.choices.emplace_back(i, std::move(sampler), spec.stops);
    }
    active_.push_back(std::move(admitted));
    auto& first = request.choices[0];
    first.key = request.key;
    Status const copied = take_place(first, node);
    request.prompt_done = request.cached = first.positions;
    for (std::size_t i = 1; i < request.choices.size(); ++i) request.choices[i].sequence = ledger_.take_id();
    ledger_.reserve(request.prompt_size() - request.prompt_done);
    if (copied) take_fetched(request);
    history_.admitted(request.prompt_size(), request.cached);
    push_event(request, domain::Started{request.prompt_size(), request.cached});
    if (!copied) fail(request, copied.error());
}

// REQUIRES: make_room() said so
void EngineCore::restore(Request& request, Choice& choice) {
    bool const prompt = request.phase == Request::Phase::prompt;
    choice.sequence = ledger_.take_id();
    Status const restored = choice.positions == 0 ? ok() : backend_.restore(choice.sequence, choice.blob);
    if (!restored) {
        ledger_.give_id(std::exchange(choice.sequence, kNoSequence));
        if (restored.error().code == Code::overloaded && runnable_live() > 0) {
            backend_full_ = true;
        } else {
            fail(request, restored.error());
        }
        return;
    }
    choice.state = Choice::State::live;
    choice.blob = {};
    // What did not come back whole others cannot stand on.
    // Its key stays: after a shift less of its text is public than of the request's.
    if (!backend_.properties().restores_whole) choice.key = {++next_space_, request.key.owner};
    choice.node = ledger_.tree().pin({.key = choice.key});
    if (!choice.text.empty()) extend(choice, std::exchange(choice.text, {}));
    ledger_.reserve(request.missing(choice));
    if (!prompt) return;
    for (auto& other : request.choices) {
        if (other.state == Choice::State::pending) other.sequence = ledger_.take_id();
    }
}

// True when there is room for `wanted` beside what those already running will
// need; forgets what nobody uses, then swaps out idle sequences and those of a
// worse level, when that gets there.
bool EngineCore::make_room(Room const& wanted) {
    std::uint32_t const running = runnable_live();
    if (backend_full_ && running > 0) return false;
    // What is expected is no promise: whoever is alone may try.
    std::uint64_t const cells = wanted.cells + (running == 0 ? 0 : wanted.output + expected_growth());
    std::uint64_t cells_in_reach = ledger_.free() + ledger_.tree().reclaimable();
    std::uint64_t ids_in_reach = ledger_.free_ids() + ledger_.tree().kept();
    for (auto const& request : active_) {
        if (!is_prey(*request, wanted.level)) continue;
        for (auto const& choice : request->choices) {
            // What it is promised, too: cells for the rest of its text, ids for its other choices.
            if (choice.state == Choice::State::live) cells_in_reach += choice.positions + request->missing(choice);
            ids_in_reach += choice.sequence != kNoSequence ? 1 : 0;
        }
    }
    if (cells > cells_in_reach || wanted.ids > ids_in_reach) return false;
    if (!make_slots(wanted.ids, wanted.level)) return false;
    while (cells > ledger_.free() || wanted.ids > ledger_.free_ids()) {
        if (evict()) continue;
        auto const victim = pick_victim(wanted.level);
        if (!victim) return false;  // what they pinned, others pin too
        swap_out(*victim);
    }
    return true;
}

// Tokens that those running will probably still emit.
std::uint64_t EngineCore::expected_growth() const {
    std::uint64_t tokens = 0;
    for (auto const& request : active_) {
        if (request->idle()) continue;
        auto const expected = expected_output(request->spec.tokens_max);
        for (auto const& choice : request->choices) {
            if (choice.state != Choice::State::live && choice.state != Choice::State::pending) continue;
            auto const most = request->spec.tokens_max - choice.tokens;
            auto const left = expected > choice.tokens ? expected - choice.tokens : 0;
            tokens += std::min(most, std::max(left, kHeadroomTokens));
        }
    }
    return tokens;
}

// Forgets the prefix worth least. False when all are in use.
bool EngineCore::evict() {
    if (tiers_) tiers_->save_victim(ledger_.tree());
    auto const evicted = ledger_.tree().evict();
    if (evicted) apply(*evicted);
    return evicted.has_value();
}

// Where prefixes are saved before they are forgotten, that takes as long as computing a short
// prompt. So some room is kept for who comes next, and is made while nobody waits for it.
bool EngineCore::lacks_room_ahead() const {
    if (!tiers_ || no_room_ahead_) return false;
    auto const& tree = ledger_.tree();
    auto const& properties = backend_.properties();
    bool const ids = ledger_.free_ids() < std::min(kAheadIds, properties.sequences_max / kAheadIdsPart);
    bool const cells = ledger_.free() < std::min(kAheadCells, properties.kv_cells / kAheadCellsPart);
    return (ids && tree.kept() > 0) || (cells && tree.reclaimable() > 0);
}

void EngineCore::make_room_ahead() {
    Instant const begin = clock_.now();
    while (lacks_room_ahead() && to_ms(clock_.now() - begin) < kAheadMs) no_room_ahead_ = !evict();
}

void EngineCore::apply(sched::PrefixTree::Eviction const& evicted) {
    history_.evicted();
    backend_full_ = false;
    if (evicted.keep == 0) {
        free_sequence(evicted.holder);
    } else if (Choice const* const heir = pinned_at(evicted.parent)) {
        free_sequence(ledger_.tree().hand_over(evicted.parent, heir->sequence));
    } else if (backend_.properties().can_truncate) {
        auto const cut = backend_.remove(evicted.holder, static_cast<llama::Position>(evicted.keep));
        HEARTH_ASSERT(cut.has_value(), "a sequence of attention alone can be cut");
    } else {
        cut_by_copy(evicted);
    }
}

void EngineCore::forget() {
    while (evict()) {}
    if (drafting_) drafting_->model.forget();
}

Choice const* EngineCore::pinned_at(sched::PrefixTree::NodeId node) const {
    for (auto const& request : active_) {
        for (auto const& choice : request->choices) {
            if (choice.state == Choice::State::live && choice.node == node) return &choice;
        }
    }
    return nullptr;
}

void EngineCore::free_sequence(llama::SequenceId sequence) {
    empty_sequence(sequence);
    ledger_.give_id(sequence);
}

// `tokens` are in the cache now, behind what the choice had.
void EngineCore::extend(Choice& choice, std::span<Token const> tokens) {
    auto const appended = ledger_.tree().append(choice.node, tokens, choice.sequence, choice.key);
    choice.node = appended.node;
    if (appended.freed != sched::kNoHolder) free_sequence(appended.freed);
}

// Every sequence about to decode needs a cell.
void EngineCore::make_room_for_decodes() {
    for (;;) {
        list_runnable();
        list_pinned();
        if (std::min(runnable_.size(), decodes_max()) + (pinned_.empty() ? 0 : 1) <= ledger_.free()) return;
        if (evict()) continue;
        auto const victim = pick_any_victim();
        HEARTH_ASSERT(victim.has_value(), "a sequence alone has room up to its limit");
        swap_out(*victim);
    }
}

// Sequences in the cache that the next step could advance.
std::uint32_t EngineCore::runnable_live() const {
    std::uint32_t count = 0;
    for (auto const& request : active_) {
        if (request->idle()) continue;
        for (auto const& choice : request->choices) count += choice.state == Choice::State::live ? 1 : 0;
    }
    return count;
}

// What one of this level may push out.
bool EngineCore::is_prey(Request const& request, std::uint32_t level) const {
    return request.idle() || this->level(request) > level;
}

// The last live sequence of the one that is prey, worst and youngest; of the idle ones first.
std::optional<EngineCore::Sequence> EngineCore::pick_victim(std::uint32_t level) const {
    std::optional<Sequence> victim;
    auto const worse = [this](Request const& a, Request const& b) {
        if (a.idle() != b.idle()) return a.idle();
        return this->level(a) >= this->level(b);
    };
    for (auto const& request : active_) {
        if (!is_prey(*request, level)) continue;
        auto const choice = std::find_if(request->choices.rbegin(), request->choices.rend(),
                                         [](Choice const& one) { return one.state == Choice::State::live; });
        if (choice == request->choices.rend()) continue;
        if (!victim || worse(*request, *victim->request)) victim = Sequence{request.get(), &*choice};
    }
    return victim;
}

// When those that run are too many: idle ones first, then the worst and youngest,
// but never the last one, which needs nobody else's room.
std::optional<EngineCore::Sequence> EngineCore::pick_any_victim() const {
    std::uint32_t live = 0;
    std::optional<Sequence> victim;
    for (auto const& request : active_) {
        for (auto& choice : request->choices) {
            if (choice.state != Choice::State::live) continue;
            ++live;
            bool const worse =
                !victim || (request->idle() != victim->request->idle() ? request->idle()
                                                                       : level(*request) >= level(*victim->request));
            if (worse) victim = Sequence{request.get(), &choice};
        }
    }
    if (victim && live < 2 && !victim->request->idle()) return std::nullopt;
    return victim;
}

// Its cells stay until evict() takes them: nothing is gained before.
void EngineCore::swap_out(Sequence victim) {
    auto& [request, choice] = victim;
    if (choice->positions > 0) {
        auto blob = backend_.save(choice->sequence);
        if (!blob) {
            fail(*request, std::move(blob).error());
            return;
        }
        choice->blob = std::move(blob).value();
        choice->text = ledger_.tree().text(choice->node);
    }
    detach(*request, *choice);
    give_pending_ids(*request);
    choice->state = Choice::State::swapped;
    ++preemptions_total_;
}

// A live sequence is no longer the request's: the tree's, or nobody's.
void EngineCore::detach(Request& request, Choice& choice) {
    ledger_.unreserve(request.missing(choice));
    drop_guesses(choice);
    drop_draft(choice);
    auto const sequence = std::exchange(choice.sequence, kNoSequence);
    choice.state = Choice::State::done;  // nobody's heir
    auto node = std::exchange(choice.node, sched::PrefixTree::kNone);
    bool const computed = ledger_.tree().depth(node) > 0;
    bool const kept = ledger_.tree().leave(node, sequence);
    if (!kept) free_sequence(sequence);
    if (!shares(request.spec)) {
        // Maybe kept for a choice that left earlier, while this one pinned it.
        if (computed) forget(node);
    } else if (kept && tiers_) {
        tiers_->note_end(ledger_.tree(), node, choice.key);
    }
}

// Drops what nobody else may stand on: `node`, and what nobody needs above.
void EngineCore::forget(sched::PrefixTree::NodeId node) {
    while (auto const evicted = ledger_.tree().evict(node)) {
        apply(*evicted);
        if (evicted->keep == 0) return;
        node = evicted->parent;
    }
}

// The choice ends, wherever it is.
void EngineCore::release(Request& request, Choice& choice) {
    if (choice.state == Choice::State::live) {
        detach(request, choice);
        backend_full_ = false;
    }
    if (choice.sequence != kNoSequence) ledger_.give_id(std::exchange(choice.sequence, kNoSequence));
    choice.blob = {};
    choice.text = {};
    choice.refill = {};
    choice.state = Choice::State::done;
}

void EngineCore::give_pending_ids(Request& request) {
    for (auto& choice : request.choices) {
        bool const holds = choice.state == Choice::State::pending && choice.sequence != kNoSequence;
        if (holds) ledger_.give_id(std::exchange(choice.sequence, kNoSequence));
    }
}

void EngineCore::check_integrity() const {
    auto const& tree = ledger_.tree();
    tree.check_integrity();
    std::uint32_t reserved = 0;
    std::vector<bool> taken(backend_.properties().sequences_max, false);
    std::uint32_t slots = 0;
    for (auto const& request : active_) {
        std::uint32_t open = 0;
        for (auto const& choice : request->choices) {
            bool const live = choice.state == Choice::State::live;
            bool const holds_id =
                live || (choice.state == Choice::State::pending && request->choices[0].state == Choice::State::live);
            HEARTH_ASSERT(holds_id == (choice.sequence != kNoSequence),
                          "ids belong to live sequences and those about to be");
            if (holds_id) {
                HEARTH_ASSERT(!taken[static_cast<std::size_t>(choice.sequence)], "an id has one owner");
                taken[static_cast<std::size_t>(choice.sequence)] = true;
            }
            HEARTH_ASSERT(!live || tree.depth(choice.node) == choice.positions, "a live sequence ends at its node");
            open += choice.state != Choice::State::done ? 1 : 0;
            HEARTH_ASSERT(live || choice.draft.slot == DraftModel::kNone, "what does not run is not guessed for");
            slots += choice.draft.slot != DraftModel::kNone ? 1 : 0;
            if (live) reserved += request->missing(choice);
        }
        HEARTH_ASSERT(open == request->open, "a request knows its choices");
    }
    auto const ids = static_cast<std::uint32_t>(std::count(taken.begin(), taken.end(), true));
    HEARTH_ASSERT(!drafting_ || slots == drafting_->model.held(), "a draft's slot has one owner");
    HEARTH_ASSERT(reserved == ledger_.reserved(), "prompts reserve what they lack");
    HEARTH_ASSERT(ids + (spare_ != kNoSequence ? 1 : 0) == ledger_.running_ids(), "the ledger counts the ids");
    HEARTH_ASSERT(by_id_.size() == active_.size() + waiting_.size(), "every request inside is found by its id");
}

}  // namespace hearth::engine
