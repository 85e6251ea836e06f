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
    while (!waiting_.empty()) {
        auto const& next = *waiting_.front();
        if (!make_room(next.prompt_size(), next.spec.choices)) return;
        auto request = std::move(waiting_.front());
        waiting_.pop_front();
        admit(std::move(request));
    }
}

void EngineCore::admit(std::unique_ptr<Request> request) {
    auto const& spec = request->spec;
    request->phase = Request::Phase::prompt;
    request->age = next_age_++;
    request->admitted = clock_.now();
    request->open = spec.choices;
    request->choices.reserve(spec.choices);
    std::uint32_t const window = std::min(backend_.properties().info.context_request, backend_.properties().kv_cells);
    for (std::uint32_t i = 0; i < spec.choices; ++i) {
        Sampler sampler(spec.sampling, {.window = window, .end_tokens = end_tokens_, .dry_breakers = spec.dry_breakers},
                        spec.seed + i);
        for (Token const token : spec.prompt) sampler.accept(token);
        auto& choice = request->choices.emplace_back(i, std::move(sampler), spec.stops);
        choice.sequence = ledger_.take_id();
    }
    request->choices[0].state = Choice::State::live;
    ledger_.reserve(request->prompt_size());
    push_event(*request, domain::Started{request->prompt_size(), 0});
    active_.push_back(std::move(request));
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
    choice.own_cells = choice.positions;
    ledger_.use(choice.own_cells);
    if (!prompt) return;
    ledger_.reserve(request.prompt_size() - request.prompt_done);
    for (auto& other : request.choices) {
        if (other.state == Choice::State::pending) other.sequence = ledger_.take_id();
    }
}

// True when `cells` and `ids` are free, with headroom for those already running;
// swaps out paused sequences when that gets there.
bool EngineCore::make_room(std::uint32_t cells, std::uint32_t ids) {
    std::uint32_t const running = runnable_live();
    if (backend_full_ && running > 0) return false;
    cells += running * kHeadroomTokens;
    std::uint64_t cells_in_reach = ledger_.free();
    std::uint64_t ids_in_reach = ledger_.free_ids();
    for (auto const& request : active_) {
        if (!request->paused()) continue;
        cells_in_reach += request->shared_cells;
        for (auto const& choice : request->choices) {
            cells_in_reach += choice.own_cells;
            ids_in_reach += choice.state == Choice::State::live ? 1 : 0;
        }
    }
    if (cells > cells_in_reach || ids > ids_in_reach) return false;
    while (cells > ledger_.free() || ids > ledger_.free_ids()) {
        auto const paused = pick_paused();
        HEARTH_ASSERT(paused.has_value(), "the room in reach is held by paused sequences");
        swap_out(*paused);
    }
    return true;
}

// Every sequence about to decode needs a cell.
void EngineCore::make_room_for_decodes() {
    for (;;) {
        list_runnable();
        if (std::min(runnable_.size(), decodes_max()) <= ledger_.free()) return;
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

void EngineCore::swap_out(Sequence victim) {
    auto& [request, choice] = victim;
    if (choice->positions > 0) {
        auto blob = backend_.save(choice->sequence);
        if (!blob) {
            fail(*request, std::move(blob).error());
            return;
        }
        choice->blob = std::move(blob).value();
    }
    detach(*request, *choice);
    give_pending_ids(*request);
    choice->state = Choice::State::swapped;
    ++preemptions_total_;
}

// Takes a live sequence out of the cache and the books.
void EngineCore::detach(Request& request, Choice& choice) {
    Status const removed = backend_.remove(choice.sequence, 0);
    HEARTH_ASSERT(removed.has_value(), "emptying a sequence always works");
    ledger_.release(std::exchange(choice.own_cells, 0));
    if (std::exchange(choice.shares_prompt, false) && --request.sharers == 0) {
        ledger_.release(std::exchange(request.shared_cells, 0));
    }
    if (request.phase == Request::Phase::prompt) ledger_.unreserve(request.prompt_size() - request.prompt_done);
    ledger_.give_id(std::exchange(choice.sequence, kNoSequence));
}

// The choice ends, wherever it is.
void EngineCore::release(Request& request, Choice& choice) {
    if (choice.state == Choice::State::live) {
        detach(request, choice);
        backend_full_ = false;
    }
    if (choice.sequence != kNoSequence) ledger_.give_id(std::exchange(choice.sequence, kNoSequence));
    choice.blob = {};
    choice.state = Choice::State::done;
}

void EngineCore::give_pending_ids(Request& request) {
    for (auto& choice : request.choices) {
        bool const holds = choice.state == Choice::State::pending && choice.sequence != kNoSequence;
        if (holds) ledger_.give_id(std::exchange(choice.sequence, kNoSequence));
    }
}

void EngineCore::check_integrity() const {
    std::uint32_t used = 0;
    std::uint32_t reserved = 0;
    std::vector<bool> taken(backend_.properties().sequences_max, false);
    for (auto const& request : active_) {
        std::uint32_t sharers = 0;
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
            std::uint32_t const shared = choice.shares_prompt ? request->shared_cells : 0;
            HEARTH_ASSERT(choice.own_cells + shared == (live ? choice.positions : 0),
                          "a live sequence owns a cell per position");
            used += choice.own_cells;
            sharers += choice.shares_prompt ? 1 : 0;
            open += choice.state != Choice::State::done ? 1 : 0;
            if (live && request->phase == Request::Phase::prompt)
                reserved += request->prompt_size() - request->prompt_done;
        }
        HEARTH_ASSERT(sharers == request->sharers && open == request->open, "a request knows its choices");
        used += request->shared_cells;
    }
    auto const ids = static_cast<std::uint32_t>(std::count(taken.begin(), taken.end(), true));
    HEARTH_ASSERT(used == ledger_.used() && reserved == ledger_.reserved(), "the ledger counts what the sequences own");
    HEARTH_ASSERT(ids + ledger_.free_ids() == taken.size(), "the ledger counts the ids");
    HEARTH_ASSERT(by_id_.size() == active_.size() + waiting_.size(), "every request inside is found by its id");
}

}  // namespace hearth::engine
