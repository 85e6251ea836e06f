// Purse: how much may be lost to finding out whether guessing pays.
//
// It begins with what a few tokens take, earns a hundredth of the time that goes
// by, and is booked what guesses gained or cost by the clock. When it is empty it
// is closed until half of what it began with is there again. So whatever goes
// wrong, little more than that and about a hundredth of the time is lost; and
// whoever gains may lose some of it later, up to what the purse holds.
//
// Threads: one. Deterministic: times are given to it.
#pragma once

namespace hearth::sched {

class Purse {
public:
    // What it begins with and what it holds at most, in tokens. REQUIRES: 0 < first <= most
    Purse(double first, double most);

    // `ms` went by; a token takes `token_ms` without guesses. The first time fills it.
    void earn(double ms, double token_ms);

    // Adds to it, or takes from it.
    void book(double ms);

    // Guesses may be made.
    [[nodiscard]] bool is_open() const { return !empty_ && ms_ > 0; }

    [[nodiscard]] double ms() const { return ms_; }

private:
    double first_;
    double most_;
    double ms_ = 0;
    double first_ms_ = 0;
    double most_ms_ = 0;
    bool empty_ = false;  // it was, and is not half full yet
};

}  // namespace hearth::sched
