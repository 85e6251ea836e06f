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

// Prompt tokens worth waiting for when another request is about to compute them.
constexpr std::size_t kPromiseMin = 32;

// Tenants and salts remembered; beyond, those without a prefix in the tree are forgotten.
constexpr std::size_t kSpacesMax = 4096;

}  // namespace

// Brings back swapped sequences that could run, oldest first. False when one
// has to stay out: then nothing new may enter either.
bool EngineCore::restore_swapped() {
    for (std::size_t i = 0; i < active_.size(); ++i) {
        auto& request = *active_[i];
        if (request.paused()) continue;
        for (auto& choice : request.choices) {
            if (choice.state != Choice::State::swapped) continue;
            bool const prompt = request.phase == Request::Phase::prompt;
            std::uint32_t const cells = prompt ? request.prompt_size() : choice.positions + 1;
            if (!make_room(cells, prompt ? request.spec.choices : 1)) return false;
            restore(request, choice);
            if (request.phase == Request::Phase::ended) break;
        }
    }
    return true;
}

void EngineCore::admit_waiting() {
    for (auto at = waiting_.begin(); at != waiting_.end();) {
        if (is_promised(**at)) {
            ++at;  // those behind may pass: what it waits for is being computed
            continue;
        }
        if (!try_admit(*at)) return;
        at = waiting_.erase(at);
    }
}

// Somebody computes more of this prompt at this moment than there is to find.
bool EngineCore::is_promised(Request const& request) const {
    if (!caches_) return false;
    auto const prompt = reusable(request);
    return std::any_of(active_.begin(), active_.end(), [&](auto const& other) {
        if (other->phase != Request::Phase::prompt || other->space != request.space) return false;
        auto const& text = other->spec.prompt;
        std::size_t const done = other->prompt_done;
        std::size_t const end = std::min(prompt.size(), text.size());
        if (end < done + kPromiseMin) return false;
        return std::equal(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(done + kPromiseMin),
                          text.begin());
    });
}

// A request that shares with nobody has a space of its own.
sched::PrefixTree::Space EngineCore::space_of(PreparedRequest const& spec) {
    if (!shares(spec)) return ++next_space_;
    if (spaces_.size() >= kSpacesMax)
        std::erase_if(spaces_, [this](auto const& entry) { return !ledger_.tree().knows(entry.second); });
    auto const [found, fresh] = spaces_.try_emplace({spec.tenant, spec.cache_salt}, 0);
    if (fresh) found->second = ++next_space_;
    return found->second;
}

// The last token is always computed: its logits are wanted.
std::span<Token const> EngineCore::reusable(Request const& request) const {
    return std::span(request.spec.prompt).first(request.spec.prompt.size() - 1);
}

// Takes `waiting` if there is room for what of its prompt is not in the cache.
bool EngineCore::try_admit(std::unique_ptr<Request>& waiting) {
    auto& tree = ledger_.tree();
    auto const& spec = waiting->spec;
    auto const node = tree.pin(tree.find(waiting->space, reusable(*waiting)));
    if (!make_room(waiting->prompt_size() - tree.depth(node), spec.choices)) {
        tree.unpin(node);
        return false;
    }
    tree.hit(node);
    admit(std::move(waiting), node);
    return true;
}

void EngineCore::admit(std::unique_ptr<Request> admitted, sched::PrefixTree::NodeId node) {
    Request& request = *admitted;
    auto const& spec = request.spec;
    request.phase = Request::Phase::prompt;
    request.age = next_age_++;
    request.admitted = clock_.now();
    request.open = spec.choices;
    request.choices.reserve(spec.choices);
    std::uint32_t const window = std::min(backend_.properties().info.context_request, backend_.properties().kv_cells);
    for (std::uint32_t i = 0; i < spec.choices; ++i) {
        Sampler sampler(spec.sampling, {.window = window, .end_tokens = end_tokens_, .dry_breakers = spec.dry_breakers},
                        spec.seed + i);
        for (Token const token : spec.prompt) sampler.accept(token);
        request.choices.emplace_back(i, std::move(sampler), spec.stops);
    }
    active_.push_back(std::move(admitted));
    auto& first = request.choices[0];
    first.state = Choice::State::live;
    first.node = node;
    first.positions = request.prompt_done = request.cached = ledger_.tree().depth(node);
    first.sequence = ledger_.tree().take(node);
    Status copied = ok();
    if (first.sequence == kNoSequence) {
        first.sequence = ledger_.take_id();
        if (request.cached > 0) {
            copied = backend_.copy_sequence(ledger_.tree().donor(node), first.sequence,
                                            static_cast<llama::Position>(request.cached));
        }
    }
    for (std::size_t i = 1; i < request.choices.size(); ++i) request.choices[i].sequence = ledger_.take_id();
    ledger_.reserve(request.prompt_size() - request.prompt_done);
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
    choice.node = ledger_.tree().pin({.space = request.space});
    if (!choice.text.empty()) extend(choice, std::exchange(choice.text, {}));
    if (!prompt) return;
    ledger_.reserve(request.prompt_size() - request.prompt_done);
    for (auto& other : request.choices) {
        if (other.state == Choice::State::pending) other.sequence = ledger_.take_id();
    }
}

// True when `cells` and `ids` are free, with headroom for those already running;
// forgets what nobody uses, then swaps out paused sequences, when that gets there.
bool EngineCore::make_room(std::uint32_t cells, std::uint32_t ids) {
    std::uint32_t const running = runnable_live();
    if (backend_full_ && running > 0) return false;
    cells += running * kHeadroomTokens;
    std::uint64_t cells_in_reach = ledger_.free() + ledger_.tree().reclaimable();
    std::uint64_t ids_in_reach = free_running_ids();
    for (auto const& request : active_) {
        if (!request->paused()) continue;
        for (auto const& choice : request->choices) {
            if (choice.state != Choice::State::live) continue;
            cells_in_reach += choice.positions;
            ++ids_in_reach;
        }
    }
    if (cells > cells_in_reach || ids > ids_in_reach) return false;
    for (;;) {
        bool const ids_lack = ids > ledger_.free_ids();
        if (cells > ledger_.free() || ids_lack) {
            if (evict()) continue;
        } else if (ids <= free_running_ids()) {
            return true;
        }
        auto const paused = pick_paused();
        if (!paused) return false;  // what they pinned, others pin too
        swap_out(*paused);
    }
}

std::uint32_t EngineCore::free_running_ids() const {
    auto const most = backend_.properties().info.sequences_max;
    return most - std::min(most, ledger_.running_ids());
}

// Forgets the prefix worth least. False when all are in use.
bool EngineCore::evict() {
    auto const evicted = ledger_.tree().evict();
    if (evicted) apply(*evicted);
    return evicted.has_value();
}

void EngineCore::apply(sched::PrefixTree::Eviction const& evicted) {
    backend_full_ = false;
    if (evicted.keep == 0) {
        free_sequence(evicted.holder);
    } else if (Choice const* const heir = pinned_at(evicted.parent)) {
        free_sequence(ledger_.tree().hand_over(evicted.parent, heir->sequence));
    } else if (backend_.properties().can_truncate) {
        auto const cut = backend_.remove(evicted.holder, static_cast<llama::Position>(evicted.keep));
        HEARTH_ASSERT(cut.has_value(), "a sequence of attention alone can be cut");
    }  // else nobody uses the rest either, and it is evicted next
}

void EngineCore::forget() {
    while (evict()) {}
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
    Status const removed = backend_.remove(sequence, 0);
    HEARTH_ASSERT(removed.has_value(), "emptying a sequence always works");
    ledger_.give_id(sequence);
}

// `tokens` are in the cache now, behind what the choice had.
void EngineCore::extend(Choice& choice, std::span<Token const> tokens) {
    auto const appended = ledger_.tree().append(choice.node, tokens, choice.sequence);
    choice.node = appended.node;
    if (appended.freed != sched::kNoHolder) free_sequence(appended.freed);
}

// Every sequence about to decode needs a cell.
void EngineCore::make_room_for_decodes() {
    for (;;) {
        list_runnable();
        if (std::min(runnable_.size(), decodes_max()) <= ledger_.free()) return;
        if (evict()) continue;
        auto const victim = pick_victim();
        HEARTH_ASSERT(victim.has_value(), "a sequence alone has room up to its limit");
        swap_out(*victim);
    }
}

// Sequences in the cache that the next step could advance.
std::uint32_t EngineCore::runnable_live() const {
    std::uint32_t count = 0;
    for (auto const& request : active_) {
        if (request->paused()) continue;
        for (auto const& choice : request->choices) count += choice.state == Choice::State::live ? 1 : 0;
    }
    return count;
}

std::optional<EngineCore::Sequence> EngineCore::pick_paused() const {
    for (auto request = active_.rbegin(); request != active_.rend(); ++request) {
        if (!(*request)->paused()) continue;
        auto& choices = (*request)->choices;
        for (auto choice = choices.rbegin(); choice != choices.rend(); ++choice) {
            if (choice->state == Choice::State::live) return Sequence{request->get(), &*choice};
        }
    }
    return std::nullopt;
}

// Nothing when only one is left: it needs nobody else's room.
std::optional<EngineCore::Sequence> EngineCore::pick_youngest() const {
    std::optional<Sequence> youngest;
    for (auto request = active_.rbegin(); request != active_.rend(); ++request) {
        auto& choices = (*request)->choices;
        for (auto choice = choices.rbegin(); choice != choices.rend(); ++choice) {
            if (choice->state != Choice::State::live) continue;
            if (youngest) return youngest;
            youngest = Sequence{request->get(), &*choice};
        }
    }
    return std::nullopt;
}

std::optional<EngineCore::Sequence> EngineCore::pick_victim() const {
    auto const paused = pick_paused();
    return paused ? paused : pick_youngest();
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
    if (request.phase == Request::Phase::prompt) ledger_.unreserve(request.prompt_size() - request.prompt_done);
    auto const sequence = std::exchange(choice.sequence, kNoSequence);
    choice.state = Choice::State::done;  // nobody's heir
    auto node = std::exchange(choice.node, sched::PrefixTree::kNone);
    if (!ledger_.tree().leave(node, sequence)) {
        free_sequence(sequence);
    } else if (!shares(request.spec)) {
        forget(node);
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
            if (live && request->phase == Request::Phase::prompt)
                reserved += request->prompt_size() - request->prompt_done;
        }
        HEARTH_ASSERT(open == request->open, "a request knows its choices");
    }
    auto const ids = static_cast<std::uint32_t>(std::count(taken.begin(), taken.end(), true));
    HEARTH_ASSERT(reserved == ledger_.reserved(), "prompts reserve what they lack");
    HEARTH_ASSERT(ids == ledger_.running_ids(), "the ledger counts the ids");
    HEARTH_ASSERT(by_id_.size() == active_.size() + waiting_.size(), "every request inside is found by its id");
}

}  // namespace hearth::engine
