// Prefixes that come back from host memory and disk.
//
// A request whose prompt the tiers know better than the cache does fetches it
// while it waits; others pass. When it is admitted the states are appended to its
// sequence as if it had computed them, and the rest is computed.
#include <algorithm>
#include <utility>

#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

// Requests that hold fetched states; each may hold kvstore::kFetchBytesMax.
constexpr std::size_t kFetchesMax = 2;

}  // namespace

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
    auto const cached = ledger_.tree().find(request.space, text).tokens;
    auto const space = kvstore::space_of(request.spec.tenant, request.spec.cache_salt);
    auto const end = tiers_->find(space, text, cached);
    request.wants_fetch = end > 0;
    if (end == 0) return false;
    if (fetches() >= kFetchesMax) return true;
    request.fetch = tiers_->store().fetch(space, text.first(end), cached);
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
    auto& choice = request.choices[0];
    for (auto const& piece : fetch->pieces()) {
        if (piece.end <= choice.positions) continue;
        std::uint32_t const count = piece.end - choice.positions;
        if (!backend_.append_part(choice.sequence, *piece.blob, static_cast<llama::Position>(piece.end))) {
            tiers_->failed();
            return;
        }
        ledger_.unreserve(count);
        extend(choice, std::span(request.spec.prompt).subspan(request.prompt_done, count));
        choice.positions += count;
        request.prompt_done += count;
        request.cached += count;
        tiers_->restored(piece, count);
    }
}

void EngineCore::save_rest(Duration at_most) {
    if (!tiers_) return;
    Instant const end = clock_.now() + at_most;
    while (tiers_->has_work() && clock_.now() < end) tiers_->save_some(ledger_.tree(), Tiers::Pace::idle);
}

void EngineCore::report_tiers(domain::EngineStats& stats) const {
    if (tiers_) tiers_->report(stats);
}

void EngineCore::settle_tiers() {
    if (tiers_) tiers_->store().settle();
}

}  // namespace hearth::engine
