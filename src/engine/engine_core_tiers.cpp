// Prefixes that come back from host memory and disk.
//
// A request whose prompt the tiers know better than the cache does fetches it
// while it waits; others pass. When it is admitted the states are appended to its
// sequence as if it had computed them, and the rest is computed. A model that needs
// checkpoints gets the cells and a state in which they end.
//
// The other way: tiers.h.
#include <algorithm>
#include <utility>

#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

// Requests that hold fetched states; each may hold kvstore::kFetchBytesMax.
constexpr std::size_t kFetchesMax = 2;

// What goes on is noted after many tokens, though not all the time, or after a while.
constexpr Duration kProgressGap = std::chrono::seconds(1);
constexpr Duration kProgressPause = std::chrono::seconds(5);
constexpr std::uint32_t kProgressTokensMin = 16;

}  // namespace

// Nothing if it cannot be told what its cells depend on: then they are not stored.
std::optional<kvstore::Space> EngineCore::stored_space(PreparedRequest const& spec) const {
    if (spec.adapters == 0) return kvstore::space_of(spec.tenant, spec.cache_salt);
    auto const& key = backend_.properties().adapters[spec.adapters - 1];
    if (key.empty()) return std::nullopt;
    return kvstore::space_of(spec.tenant, spec.cache_salt, key);
}

// It gets more from the tiers than from the cache, but not yet. Starts that.
bool EngineCore::must_fetch(Request& request) {
    if (!tiers_ || request.fetch_late || !shares(request.spec)) return false;
    if (request.fetch) {
        if (request.fetch->done()) return false;
        if (now_ - request.fetch_began < std::chrono::milliseconds(kFetchMsMax)) return true;
        request.fetch.reset();
        request.fetch_late = true;
        tiers_->failed();
        return false;
    }
    if (request.wants_fetch && fetches() >= kFetchesMax) return true;
    auto const text = reusable(request);
    auto const cached = find_prefix(request, request.key, text).tokens;
    auto const space = stored_space(request.spec);
    auto const end = space ? tiers_->find(*space, text, cached) : 0;
    request.wants_fetch = end > 0;
    if (end == 0) return false;
    if (fetches() >= kFetchesMax) return true;
    request.fetch = tiers_->store().fetch(*space, text.first(end), cached,
                                          checkpoints_ ? kvstore::Want::cells_and_state : kvstore::Want::cells);
    request.fetch_began = now_;
    return !request.fetch->done();
}

bool EngineCore::waits_for_fetch(Request const& request) const {
    if (request.fetch) return !request.fetch->done();
    return request.wants_fetch && !request.fetch_late && fetches() >= kFetchesMax;
}

std::size_t EngineCore::fetches() const {
    return static_cast<std::size_t>(
        std::count_if(waiting_.begin(), waiting_.end(), [](auto const& request) { return request && request->fetch; }));
}

// What cannot be taken is computed.
void EngineCore::take_fetched(Request& request) {
    auto const fetch = std::exchange(request.fetch, nullptr);
    if (!fetch) return;
    if (checkpoints_) {
        take_fetched_state(request, fetch->pieces());
        return;
    }
    auto& choice = request.choices[0];
    for (auto const& piece : fetch->pieces()) {
        if (piece.end <= choice.positions) continue;
        if (!backend_.append_part(choice.sequence, *piece.blob, static_cast<llama::Position>(piece.end))) {
            tiers_->failed();
            return;
        }
        took(request, piece);
    }
}

// All or nothing: without the state at their end the cells are of no use. They are
// put together in the spare sequence, which then takes the place of the request's.
void EngineCore::take_fetched_state(Request& request, std::span<kvstore::Piece const> pieces) {
    auto& choice = request.choices[0];
    if (pieces.empty() || !pieces.back().is_state || pieces.back().end <= choice.positions) return;
    if (!rebuild(choice, pieces)) {
        tiers_->failed();
        empty_sequence(spare_);
        return;
    }
    ledger_.tree().rename(choice.node, choice.sequence, spare_);
    std::swap(choice.sequence, spare_);
    empty_sequence(spare_);
    for (auto const& piece : pieces) {
        if (piece.end > choice.positions) took(request, piece);
    }
    // Others may go on from here too, also when this one has gone on.
    keep_checkpoint(choice.node, *pieces.back().blob);
}

Status EngineCore::rebuild(Choice const& choice, std::span<kvstore::Piece const> pieces) {
    if (choice.positions > 0)
        HEARTH_CHECK(backend_.copy_sequence(choice.sequence, spare_, static_cast<llama::Position>(choice.positions)));
    for (auto const& piece : pieces.first(pieces.size() - 1)) {
        if (piece.end <= choice.positions) continue;
        HEARTH_CHECK(backend_.append_part(spare_, *piece.blob, static_cast<llama::Position>(piece.end)));
    }
    return backend_.resume(spare_, *pieces.back().blob);
}

// The sequence has the piece's cells now.
void EngineCore::took(Request& request, kvstore::Piece const& piece) {
    auto& choice = request.choices[0];
    std::uint32_t const count = piece.end - choice.positions;
    ledger_.unreserve(count);
    extend(choice, std::span(request.spec.prompt).subspan(request.prompt_done, count));
    choice.positions += count;
    choice.noted = choice.positions;
    request.prompt_done += count;
    request.cached += count;
    tiers_->restored(piece, count);
}

// What is computed goes to disk also while it grows, lest a kill loses all of it.
void EngineCore::note_progress() {
    if (!tiers_ || !tiers_->takes_notes()) return;
    auto const tokens = tiers_->progress_tokens();
    for (auto const& request : active_) {
        if (request->phase != Request::Phase::generating || !shares(request->spec)) continue;
        for (auto& choice : request->choices) {
            auto const grown = choice.positions - choice.noted;
            auto const passed = now_ - std::max(choice.noted_at, request->first_token);
            bool const first = choice.noted_at == Instant{};  // the prompt, if it is long
            bool const due = (grown >= tokens && (first || passed >= kProgressGap)) ||
                             (grown >= kProgressTokensMin && passed >= kProgressPause);
            if (choice.state != Choice::State::live || !due) continue;
            choice.noted = choice.positions;
            choice.noted_at = now_;
            std::vector<std::byte> state;
            if (checkpoints_) {
                auto taken = backend_.checkpoint(choice.sequence);
                if (!taken) continue;
                state = *std::move(taken);
            }
            tiers_->note_progress(ledger_.tree(), choice.node, choice.key, std::move(state));
        }
    }
}

void EngineCore::save_rest(Duration at_most) {
    if (!tiers_) return;
    Instant const end = clock_.now() + at_most;
    for (Instant now = clock_.now(); now < end && tiers_->wait_for_work(end - now); now = clock_.now())
        tiers_->save_some(ledger_.tree(), Tiers::Pace::idle);
    tiers_->store().finish();
}

void EngineCore::report_tiers(domain::EngineStats& stats) const {
    if (tiers_) tiers_->report(stats);
}

void EngineCore::settle_tiers() {
    if (tiers_) tiers_->store().settle();
}

}  // namespace hearth::engine
