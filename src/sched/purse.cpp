#include "sched/purse.h"

#include <algorithm>

#include "base/assert.h"

namespace hearth::sched {
namespace {

constexpr double kShare = 0.01;  // of the time that goes by, what it earns

}  // namespace

Purse::Purse(double first, double most) : first_(first), most_(most) {
    HEARTH_ASSERT(first > 0 && first <= most, "a purse begins with something, and holds it");
}

void Purse::earn(double ms, double token_ms) {
    bool const fresh = most_ms_ == 0;
    first_ms_ = first_ * token_ms;
    most_ms_ = most_ * token_ms;
    book(fresh ? first_ms_ : kShare * ms);
}

void Purse::book(double ms) {
    ms_ = std::min(ms_ + ms, most_ms_);
    if (ms_ <= 0) empty_ = true;
    if (ms_ >= first_ms_ / 2) empty_ = false;
}

}  // namespace hearth::sched
