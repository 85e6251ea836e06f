// Contexts that are full and make room, so that their output goes on.
//
// Positions of cells could be moved, but what the rows behind them computed then
// would still hold traces of what was dropped, and nobody else could share it. So
// the tokens that stay are put back as if they were a prompt: the head is in the
// tree, the rest is computed within the target time of steps. Sampler, stop
// strings and text go on as if nothing had happened; what was sampled last is
// computed behind the rest.
#include <algorithm>

#include "base/assert.h"
#include "engine/engine_core.h"

namespace hearth::engine {

// It comes back by rank, like a swapped one: try_resume().
void EngineCore::shift(Request& request, Choice& choice) {
    HEARTH_ASSERT(request.spec.shift.has_value(), "the outputs of others end before their context is full");
    auto const [keep, wanted] = *request.spec.shift;
    auto text = ledger_.tree().text(choice.node);
    auto const behind = static_cast<std::uint32_t>(text.size()) - keep;
    std::uint32_t const discard = wanted != 0 ? wanted : behind / 2;
    HEARTH_ASSERT(discard > 0 && discard < behind, "prepare() leaves something to drop, and something to stay");
    detach(request, choice);
    auto const begin = text.begin() + keep;
    text.erase(begin, begin + discard);
    choice.refill = std::move(text);
    choice.key = request.key;
    choice.key.shared = std::min(choice.key.shared, keep);  // what follows is not what was public
    choice.positions = choice.noted = 0;
    choice.state = Choice::State::swapped;
    ++request.shifts;
    request.shifted += discard;
    ++shifts_total_;
    shifted_tokens_total_ += discard;
}

// False when there is no room yet.
bool EngineCore::try_refill(Request& request, Choice& choice) {
    auto const size = static_cast<std::uint32_t>(choice.refill.size());
    auto const node = find_place(request, choice.key, choice.refill, {size + 1, 1, level(request)});
    if (!node) return false;
    Status const copied = take_place(choice, *node);
    ledger_.reserve(request.missing(choice));
    if (!copied) {
        fail(request, copied.error());
    } else if (request.missing(choice) == 0) {
        choice.refill.clear();
    }
    return true;
}

void EngineCore::refill_advanced(Choice& choice, std::uint32_t tokens) {
    ledger_.unreserve(tokens);
    extend(choice, std::span(choice.refill).subspan(choice.positions, tokens));
    choice.positions += tokens;
    if (!choice.redoes) prompt_tokens_total_ += tokens;
    if (choice.positions != choice.refill.size()) return;
    choice.refill.clear();
    choice.redoes = false;
}

}  // namespace hearth::engine
