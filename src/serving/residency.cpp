#include "serving/residency.h"

#include <algorithm>
#include <utility>

namespace hearth::serving {
namespace {

using State = Resident::State;

bool is_idle(Resident const& model) {
    return (model.state == State::ready || model.state == State::draining) && !model.busy && !model.wanted_since;
}

class Planner {
public:
    Planner(std::span<Resident const> models, std::uint64_t budget, Instant now)
        : models_(models), budget_(budget), now_(now) {
        for (auto const& model : models_) {
            there_ += is_there(model) ? model.cost : 0;
            leaving_ += model.state == State::leaving ? model.cost : 0;
        }
    }

    ResidencyPlan make() {
        let_idle_go();
        load_wanted();
        let_go_until_fits(0);  // what was loaded may have cost more than it was thought to
        return std::move(plan_);
    }

private:
    [[nodiscard]] bool fits(std::uint64_t bytes) const { return budget_ == 0 || bytes <= budget_; }

    // Once those that leave are gone.
    [[nodiscard]] bool will_fit(std::uint64_t more) const { return fits(there_ - leaving_ + more); }

    void look_again(Instant at) { plan_.again = plan_.again ? std::min(*plan_.again, at) : at; }

    void go(std::size_t i) {
        plan_.let_go.push_back(i);
        leaving_ += models_[i].cost;
    }

    // Those whose time is up; and those that were drained and are idle by now.
    void let_idle_go() {
        for (std::size_t i = 0; i < models_.size(); ++i) {
            auto const& model = models_[i];
            if (model.state == State::draining && !model.busy) {
                go(i);
                continue;
            }
            if (!is_idle(model) || model.pinned || !model.keep_alive) continue;
            auto const end = model.used + *model.keep_alive;
            if (end <= now_) go(i);
            else look_again(end);
        }
    }

    void load_wanted() {
        std::vector<std::size_t> wanted;
        for (std::size_t i = 0; i < models_.size(); ++i)
            if (models_[i].state == State::cold && models_[i].wanted_since) wanted.push_back(i);
        std::ranges::sort(wanted, {}, [this](std::size_t i) { return std::pair(*models_[i].wanted_since, i); });
        for (std::size_t const i : wanted) {
            auto const cost = models_[i].cost;
            let_go_until_fits(cost);
            if (!will_fit(cost)) return drain_one();
            if (!fits(there_ + cost)) return;  // soon
            plan_.load.push_back(i);
            there_ += cost;
        }
    }

    void let_go_until_fits(std::uint64_t more) {
        while (!will_fit(more)) {
            auto const victim = pick_idle();
            if (!victim) return;
            go(*victim);
        }
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

    [[nodiscard]] bool is_chosen(std::size_t i) const {
        return std::ranges::find(plan_.let_go, i) != plan_.let_go.end();
    }

    // Longest idle for what it costs to load it again.
    [[nodiscard]] std::optional<std::size_t> pick_idle() const {
        std::optional<std::size_t> best;
        double best_score = 0;
        for (std::size_t i = 0; i < models_.size(); ++i) {
            auto const& model = models_[i];
            if (!is_idle(model) || model.pinned || is_chosen(i)) continue;
            double const idle = std::max(to_ms(now_ - model.used), 0.0) + 1;
            double const score = idle / static_cast<double>(std::max<std::uint64_t>(model.cost, 1));
            if (best && score <= best_score) continue;
            best = i;
            best_score = score;
        }
        return best;
    }

    std::span<Resident const> models_;
    std::uint64_t budget_;
    Instant now_;
    std::uint64_t there_ = 0;    // bytes of those that are there, or will be by this plan
    std::uint64_t leaving_ = 0;  // of that, what will be free
    ResidencyPlan plan_;
};

}  // namespace

bool is_there(Resident const& model) { return model.state != State::cold && model.state != State::failed; }

ResidencyPlan plan_residency(std::span<Resident const> models, std::uint64_t budget, Instant now) {
    return Planner(models, budget, now).make();
}

}  // namespace hearth::serving
