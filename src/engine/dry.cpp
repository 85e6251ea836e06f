#include "engine/dry.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "engine/sampling_math.h"

namespace hearth::engine {
namespace {

constexpr std::size_t kBreakerBytesMax = 40;   // as llama.cpp: longer breakers are cut
constexpr std::size_t kTailTokensMax = 20;
constexpr double kPenaltyMax = std::numeric_limits<float>::max();

// Where `breaker` begins in `piece` such that it runs past the piece's end.
template <typename Visit>
void visit_overhangs(std::string_view piece, std::string_view breaker, Visit visit) {
    for (std::size_t at = piece.find(breaker[0]); at != std::string_view::npos; at = piece.find(breaker[0], at + 1)) {
        std::string_view const tail = piece.substr(at);
        if (breaker.starts_with(tail)) visit(breaker.substr(tail.size()));
    }
}

}  // namespace

DryBreakers make_dry_breakers(std::span<std::string const> breakers, std::span<std::string const> pieces,
                              std::function<std::vector<Token>(std::string_view)> const& tokenize) {
    DryBreakers made;
    for (auto const& whole : breakers) {
        auto const breaker = std::string_view(whole).substr(0, kBreakerBytesMax);
        if (breaker.empty()) continue;
        std::vector<std::optional<std::vector<Token>>> tails_by_offset(breaker.size());  // many tokens share few tails
        auto const tail_tokens = [&](std::string_view rest) {
            auto& known = tails_by_offset[breaker.size() - rest.size()];
            if (!known) {
                known = tokenize(rest);
                if (known->size() > kTailTokensMax) known->resize(kTailTokensMax);
            }
            return *known;
        };
        for (std::size_t id = 0; id < pieces.size(); ++id) {
            auto const add = [&](std::vector<Token> tail) {
                auto& tails = made[static_cast<Token>(id)];
                if (std::find(tails.begin(), tails.end(), tail) == tails.end()) tails.push_back(std::move(tail));
            };
            if (pieces[id].find(breaker) != std::string::npos) {
                add({});
                continue;
            }
            visit_overhangs(pieces[id], breaker, [&](std::string_view rest) { add(tail_tokens(rest)); });
        }
    }
    return made;
}

Dry::Dry(domain::SamplingParams const& params, std::uint32_t window, std::shared_ptr<DryBreakers const> breakers)
    : multiplier_(static_cast<double>(params.dry_multiplier)),
      base_(static_cast<double>(params.dry_base)),
      allowed_length_(static_cast<std::size_t>(std::max(params.dry_allowed_length, 0))),
      window_(window),
      breakers_(std::move(breakers)) {}

void Dry::accept(Token token) {
    if (!enabled()) return;
    if (history_.size() >= 2 * window_)
        history_.erase(history_.begin(), history_.end() - static_cast<std::ptrdiff_t>(window_));
    history_.push_back(token);
}

// Tokens between the last breaker and the end: a repetition counts no further back.
std::size_t Dry::repetition_limit(std::size_t length) const {
    if (!breakers_) return length;
    for (std::size_t i = 0; i < length; ++i) {
        auto const found = breakers_->find(back(i));
        if (found == breakers_->end()) continue;
        bool matched = false;
        std::size_t longest = 0;
        for (auto const& tail : found->second) {
            if (tail.size() > i || (matched && tail.size() <= longest)) continue;
            bool fits = true;
            for (std::size_t offset = 0; fits && offset < tail.size(); ++offset)
                fits = tail[offset] == back(i - offset - 1);
            if (!fits) continue;
            matched = true;
            longest = tail.size();
        }
        if (matched) return i - longest;
    }
    return length;
}

// repeats_[k]: how many tokens before and including the one `k` from the end
// equal the context's last tokens (the Z-function of the reversed window).
void Dry::find_repeats(std::size_t length) {
    repeats_.assign(length, 0);
    std::size_t left = 0;
    std::size_t right = 0;  // [left, right) is the rightmost match found so far
    for (std::size_t k = 1; k < length; ++k) {
        std::size_t n = k < right ? std::min(right - k, repeats_[k - left]) : 0;
        while (k + n < length && back(n) == back(k + n)) ++n;
        repeats_[k] = n;
        if (k + n > right) {
            left = k;
            right = k + n;
        }
    }
}

bool Dry::is_breaker(Token token) const {
    if (!breakers_) return false;
    auto const found = breakers_->find(token);
    return found != breakers_->end() &&
           std::any_of(found->second.begin(), found->second.end(), [](auto const& tail) { return tail.empty(); });
}

void Dry::apply(std::span<float> logits) {
    std::size_t const length = std::min(history_.size(), window_);
    if (length <= allowed_length_) return;
    std::size_t const limit = repetition_limit(length);
    if (limit < allowed_length_) return;
    find_repeats(length);
    longest_.clear();
    for (std::size_t k = 1; k < length; ++k) {
        std::size_t const repeat = std::min(repeats_[k], limit);
        if (repeat < allowed_length_) continue;
        auto& longest = longest_[back(k - 1)];  // the token that followed there, and would extend the repetition here
        longest = std::max(longest, repeat);
    }
    for (auto const& [token, repeat] : longest_) {
        auto const id = static_cast<std::size_t>(token);
        if (id >= logits.size() || is_breaker(token)) continue;
        double const penalty = multiplier_ * power_of(base_, static_cast<std::int64_t>(repeat - allowed_length_));
        logits[id] -= static_cast<float>(std::min(penalty, kPenaltyMax));
    }
}

}  // namespace hearth::engine
