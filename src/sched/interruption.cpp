#include "sched/interruption.h"

#include <algorithm>

namespace hearth::sched {

void Interruption::begin(Instant now, double predicted_ms, std::uint32_t level) {
    if (began_) purse_ms_ = std::min(kPurseMaxMs, purse_ms_ + kShare * to_ms(now - since_));
    began_ = true;
    since_ = now;
    running_ = {predicted_ms, level};
}

bool Interruption::is_worth(Instant now, std::uint32_t level, std::optional<double> done) const {
    if (!running_ || level >= running_->level) return false;
    double const spent_ms = to_ms(now - since_);
    double left_ms = running_->predicted_ms - spent_ms;
    // Others may have taken the cores meanwhile: then it goes on as slowly as so far.
    if (done && *done > 0) left_ms = std::max(left_ms, spent_ms * (1 - *done) / *done);
    return left_ms > std::max(kWorthMs, kWorthShare * running_->predicted_ms) && spent_ms <= purse_ms_;
}

void Interruption::end(Instant now, bool given_up) {
    double const took_ms = to_ms(now - since_);
    purse_ms_ = given_up ? std::max(0.0, purse_ms_ - took_ms) : std::min(kPurseMaxMs, purse_ms_ + kShare * took_ms);
    since_ = now;
    running_.reset();
}

}  // namespace hearth::sched
