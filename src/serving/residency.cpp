#include "serving/residency.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace hearth::serving {
namespace {

using State = Resident::State;
using Indexes = std::vector<std::size_t>;

bool is_idle(Resident const& model) {
    return (model.state == State::ready || model.state == State::draining) && !model.busy && !model.wanted_since;
}

bool is_in(Indexes const& list, std::size_t i) { return std::ranges::find(list, i) != list.end(); }

std::uint64_t freed_by_parking(Resident const& model) { return model.cost - std::min(model.parked_cost, model.cost); }

// The more, the less is lost when it goes. Its bytes say nothing of that: most may be a cache, which is empty
// when it is loaded again.
double staleness(Resident const& model, Instant now) {
    double const idle = std::max(to_ms(now - model.used), 0.0) + 1;
    return idle / to_ms(std::max(model.reload_cost, kReloadMin));
}

class Planner {
public:
    Planner(std::span<Resident const> models, std::uint64_t budget, Instant now, std::uint32_t parked_max)
        : models_(models), budget_(budget), now_(now), parked_max_(parked_max) {
        for (auto const& model : models_) {
            there_ += charge(model);
            if (model.state == State::leaving) leaving_ += model.cost;
            if (model.state == State::parking) leaving_ += freed_by_parking(model);
        }
    }

    ResidencyPlan make() {
        let_idle_go();
        end_surplus_parked(parked_max_);
        load_wanted();
        for_.reset();
        make_room(0);  // what was loaded may have cost more than it was thought to
        return std::move(plan_);
    }

private:
    [[nodiscard]] bool fits(std::uint64_t bytes) const { return budget_ == 0 || bytes <= budget_; }

    // Once those that leave are gone.
    [[nodiscard]] bool will_fit(std::uint64_t more) const { return fits(there_ - leaving_ + more); }

    void look_again(Instant at) { plan_.again = plan_.again ? std::min(*plan_.again, at) : at; }

    void go(std::size_t i) {
        plan_.let_go.push_back(i);
        leaving_ += charge(models_[i]);
    }

    // To make room for others.
    void dismiss(std::size_t i) {
        bool const gains = models_[i].parked_cost != 0 && freed_by_parking(models_[i]) > 0;
        if (gains && parked_max_ > 0) end_surplus_parked(parked_max_ - 1);
        if (!gains || parked_count() >= parked_max_) return go(i);
        plan_.park.push_back(i);
        leaving_ += freed_by_parking(models_[i]);
    }

    // Those whose time is up; and those that were drained and are idle by now.
    void let_idle_go() {
        for (std::size_t i = 0; i < models_.size(); ++i) {
            auto const& model = models_[i];
            if (model.state == State::draining && !model.busy) {
                dismiss(i);
                continue;
            }
            bool const rests = is_idle(model) || (model.state == State::parked && !model.wanted_since);
            if (!rests || model.pinned || !model.keep_alive) continue;
            auto const end = model.used + *model.keep_alive;
            if (end <= now_) go(i);
            else look_again(end);
        }
    }

    void load_wanted() {
        Indexes wanted;
        for (std::size_t i = 0; i < models_.size(); ++i) {
            bool const away = models_[i].state == State::cold || models_[i].state == State::parked;
            if (away && models_[i].wanted_since && !is_in(plan_.let_go, i)) wanted.push_back(i);
        }
        std::ranges::sort(wanted, {}, [this](std::size_t i) { return std::pair(*models_[i].wanted_since, i); });
        for (std::size_t const i : wanted) {
            if (is_in(plan_.let_go, i)) continue;  // for one that waits longer
            for_ = i;
            auto const more = models_[i].cost - std::min(charge(models_[i]), models_[i].cost);
            make_room(more);
            if (!will_fit(more)) return drain_one();
            if (!fits(there_ + more)) return;  // soon
            plan_.load.push_back(i);
            there_ += more;
        }
    }

    void make_room(std::uint64_t more) {
        while (!will_fit(more)) {
            auto const parked = pick_parked();
            if (parked && fits(there_ - leaving_ - parked_bytes() + more)) {
                go(*parked);
            } else if (auto const victim = pick_idle()) {
                dismiss(*victim);
            } else if (!fits(there_ - leaving_ - parked_bytes() - kept_bytes() + more)) {
                return;
            } else if (parked) {
                go(*parked);
            } else {
                end_instead_of_parking();
            }
        }
    }

    // The one that was to be parked last is let go altogether. REQUIRES: there is one
    void end_instead_of_parking() {
        auto const i = plan_.park.back();
        plan_.park.pop_back();
        plan_.let_go.push_back(i);
        leaving_ += models_[i].cost - freed_by_parking(models_[i]);
    }

    // The longest there, one at a time.
    void drain_one() {
        if (std::ranges::any_of(models_, [](Resident const& model) { return model.state == State::draining; })) return;
        std::optional<std::size_t> victim;
        for (std::size_t i = 0; i < models_.size(); ++i) {
            auto const& model = models_[i];
            if (model.state != State::ready || model.pinned || is_chosen(i)) continue;
            if (now_ - model.ready < kResidentMin) look_again(model.ready + kResidentMin);
            else if (!victim || model.ready < models_[*victim].ready) victim = i;
        }
        if (victim) plan_.drain.push_back(*victim);
    }

    [[nodiscard]] bool is_chosen(std::size_t i) const { return is_in(plan_.let_go, i) || is_in(plan_.park, i); }

    // Longest idle for the time it takes to load it again.
    [[nodiscard]] std::optional<std::size_t> pick_idle() const {
        std::optional<std::size_t> best;
        double best_score = 0;
        for (std::size_t i = 0; i < models_.size(); ++i) {
            auto const& model = models_[i];
            if (!is_idle(model) || model.pinned || is_chosen(i)) continue;
            double const score = staleness(model, now_);
            if (best && score <= best_score) continue;
            best = i;
            best_score = score;
        }
        return best;
    }

    // --- those that are parked ---

    // And can be ended. Who waits, too: there is always one that waits longer when it is asked.
    [[nodiscard]] bool can_be_ended(std::size_t i) const {
        return models_[i].state == State::parked && for_ != i && !is_chosen(i) && !is_in(plan_.load, i);
    }

    [[nodiscard]] std::optional<std::size_t> pick_parked() const {
        std::optional<std::size_t> best;
        auto const rank = [this](std::size_t i) {
            return std::tuple(models_[i].wanted_since.has_value(), models_[i].used, i);
        };
        for (std::size_t i = 0; i < models_.size(); ++i)
            if (can_be_ended(i) && (!best || rank(i) < rank(*best))) best = i;
        return best;
    }

    // What ending all of them would free.
    [[nodiscard]] std::uint64_t parked_bytes() const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < models_.size(); ++i) sum += can_be_ended(i) ? charge(models_[i]) : 0;
        return sum;
    }

    // What those will keep that are to be parked by this plan.
    [[nodiscard]] std::uint64_t kept_bytes() const {
        std::uint64_t sum = 0;
        for (std::size_t const i : plan_.park) sum += models_[i].cost - freed_by_parking(models_[i]);
        return sum;
    }

    // Without those that wait to be loaded.
    [[nodiscard]] std::uint64_t parked_count() const {
        std::uint64_t count = plan_.park.size();
        for (std::size_t i = 0; i < models_.size(); ++i) {
            bool const stays = models_[i].state == State::parked && !models_[i].wanted_since;
            if ((stays && !is_in(plan_.let_go, i)) || models_[i].state == State::parking) ++count;
        }
        return count;
    }

    void end_surplus_parked(std::uint64_t most) {
        while (parked_count() > most) {
            auto const parked = pick_parked();
            bool const waits = parked && models_[*parked].wanted_since;
            if (!parked || waits) return;
            go(*parked);
        }
    }

    std::span<Resident const> models_;
    std::uint64_t budget_;
    Instant now_;
    std::uint32_t parked_max_;
    std::uint64_t there_ = 0;         // bytes of those that are there, or will be by this plan
    std::uint64_t leaving_ = 0;       // of that, what will be free
    std::optional<std::size_t> for_;  // whom room is made for
    ResidencyPlan plan_;
};

}  // namespace

bool is_there(Resident const& model) {
    return model.state != State::cold && model.state != State::failed && model.state != State::parked;
}

std::optional<std::size_t> least_valuable(std::span<Resident const> models, Instant now) {
    std::optional<std::size_t> best;
    for (std::size_t i = 0; i < models.size(); ++i) {
        if (!is_idle(models[i]) || models[i].pinned) continue;
        if (!best || staleness(models[i], now) > staleness(models[*best], now)) best = i;
    }
    return best;
}

std::uint64_t charge(Resident const& model) {
    if (model.state == State::parked) return model.parked_cost;
    return is_there(model) ? model.cost : 0;
}

ResidencyPlan plan_residency(std::span<Resident const> models, std::uint64_t budget, Instant now,
                             std::uint32_t parked_max) {
    return Planner(models, budget, now, parked_max).make();
}

}  // namespace hearth::serving
