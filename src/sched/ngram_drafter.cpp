#include "sched/ngram_drafter.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace hearth::sched {
namespace {

constexpr double kTriedMax = 64;  // tokens a rate remembers

std::size_t rate_of(std::uint32_t match) {
    if (match < 5) return 0;
    if (match < 8) return 1;
    return match < 16 ? 2 : 3;
}

}  // namespace

void NgramDrafter::hint(std::span<Token const> text) {
    HEARTH_ASSERT(begin_ == text_.size(), "hints come before the text");
    append(text);
    begin_ = static_cast<std::uint32_t>(text_.size());
}

void NgramDrafter::append(std::span<Token const> tokens) {
    for (Token const token : tokens) {
        if (text_.size() >= kTokensMax) return;
        text_.push_back(token);
        index(static_cast<std::uint32_t>(text_.size()));
    }
}

// The place whose last kMatchMin tokens end before `end` can be found from now on.
void NgramDrafter::index(std::uint32_t end) {
    before_.push_back(kNowhere);
    if (end < kMatchMin) return;
    if (text_.size() > latest_.size()) grow();
    auto& latest = latest_[bucket(end)];
    before_[end - 1] = latest;
    latest = end;
}

void NgramDrafter::grow() {
    latest_.assign(std::bit_ceil(2 * text_.size()), kNowhere);
    for (std::uint32_t end = kMatchMin; end < text_.size(); ++end) {
        auto& latest = latest_[bucket(end)];
        before_[end - 1] = latest;
        latest = end;
    }
}

std::size_t NgramDrafter::bucket(std::uint32_t end) const {
    std::uint64_t hash = 0;
    for (std::uint32_t i = end - kMatchMin; i < end; ++i)
        hash = (hash ^ static_cast<std::uint32_t>(text_[i])) * 0x9E3779B97F4A7C15U;
    return (hash >> 32) & (latest_.size() - 1);
}

// Tokens before `end` that equal those before the end of the text.
std::uint32_t NgramDrafter::agreement(std::uint32_t end) const {
    auto const size = static_cast<std::uint32_t>(text_.size());
    std::uint32_t const most = std::min({kMatchMax, end, size});
    std::uint32_t count = 0;
    while (count < most && text_[end - 1 - count] == text_[size - 1 - count]) ++count;
    return count;
}

NgramDrafter::Draft NgramDrafter::draft(std::uint32_t most) {
    drafted_.clear();
    auto const size = static_cast<std::uint32_t>(text_.size());
    if (most == 0 || size < begin_ + kMatchMin || size >= kTokensMax) return {};
    std::uint32_t best = kNowhere;
    std::uint32_t longest = kMatchMin - 1;
    std::uint32_t place = before_[size - 1];
    for (std::uint32_t tries = 0; place != kNowhere && tries < kTries; ++tries, place = before_[place - 1]) {
        auto const agrees = agreement(place);
        if (agrees <= longest) continue;
        longest = agrees;
        best = place;
    }
    if (best == kNowhere) return {};
    // Past the end of the text it goes on with itself: so a text that repeats does.
    for (std::uint32_t i = 0; i < most; ++i) {
        std::uint32_t const at = best + i;
        drafted_.push_back(at < size ? text_[at] : drafted_[at - size]);
    }
    return {drafted_, longest};
}

double Acceptance::probability(std::uint32_t match) const {
    auto const& rate = rates_[rate_of(match)];
    return rate.right / rate.tried;
}

void Acceptance::observe(std::uint32_t match, std::uint32_t drafted, std::uint32_t accepted) {
    HEARTH_ASSERT(accepted <= drafted, "no more tokens are right than there are");
    auto& rate = rates_[rate_of(match)];
    rate.right += accepted;
    rate.tried += accepted + (accepted < drafted ? 1 : 0);  // behind the first wrong one nothing was tried
    if (rate.tried <= kTriedMax) return;
    double const forget = kTriedMax / rate.tried;
    rate.right *= forget;
    rate.tried *= forget;
}

}  // namespace hearth::sched
