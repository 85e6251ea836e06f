// Shares: who gives when room is wanted in something that several fill, each with
// a weight. Everybody who has something may keep a part of all there is, by weight
// among those who have something. So who has little keeps it, and who is alone may
// have all.
//
// The rule, of those that keep the books: what was of no use for longest goes, if
// gives() is true of its owner, or if is_over() of it. Else who has the highest
// rank() among those that can give anything gives what was of no use for longest.
//
// Threads: one at a time. Limits: amounts times weights below 2^53 are exact.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace hearth {

// What one of them has.
struct Share {
    static constexpr std::uint64_t kWeightOne = 1000;  // whole numbers: sums do not drift
    std::uint64_t weight = kWeightOne;
    std::uint64_t amount = 0;

    // REQUIRES: weight > 0
    [[nodiscard]] static std::uint64_t whole_weight(double weight) {
        return static_cast<std::uint64_t>(std::max(1LL, std::llround(weight * static_cast<double>(kWeightOne))));
    }
    // What it has for its weight.
    [[nodiscard]] double rank() const { return static_cast<double>(amount) / static_cast<double>(weight); }
};

// What they all have together.
class Shares {
public:
    static constexpr std::uint64_t kTurns = 16;

    // All changes of `share` go through one Shares.
    void add(Share& share, std::uint64_t more) {
        if (more == 0) return;
        if (share.amount == 0) weights_ += share.weight;
        share.amount += more;
        amount_ += more;
    }
    // REQUIRES: the share has that much
    void remove(Share& share, std::uint64_t less) {
        if (less == 0) return;
        share.amount -= less;
        amount_ -= less;
        if (share.amount == 0) weights_ -= share.weight;
    }

    // It has its part of all, or more.
    [[nodiscard]] bool gives(Share const& share) const {
        return static_cast<double>(share.amount) * static_cast<double>(weights_) >=
               static_cast<double>(share.weight) * static_cast<double>(amount_);
    }
    // The part of all that is its, if it has anything or as soon as it has.
    [[nodiscard]] double part(Share const& share) const {
        auto const weights = weights_ + (share.amount > 0 ? 0 : share.weight);
        return static_cast<double>(share.weight) / static_cast<double>(weights);
    }
    // A share is no store for ever: so much was added since it was of use, where `held` is kept.
    [[nodiscard]] static bool is_over(std::uint64_t added_since, std::uint64_t held) {
        return added_since >= kTurns * held;
    }

    [[nodiscard]] std::uint64_t amount() const { return amount_; }
    [[nodiscard]] std::uint64_t weights() const { return weights_; }  // of those who have something

private:
    std::uint64_t amount_ = 0;
    std::uint64_t weights_ = 0;
};

}  // namespace hearth
