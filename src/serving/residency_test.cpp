#include "serving/residency.h"

#include <numeric>
#include <random>
#include <utility>

#include <gtest/gtest.h>

namespace hearth::serving {
namespace {

using State = Resident::State;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Indexes = std::vector<std::size_t>;

Instant at(int s) { return Instant{} + seconds(s); }

Resident cold(std::uint64_t cost, std::optional<int> wanted = {}) {
    Resident model;
    model.cost = cost;
    if (wanted) model.wanted_since = at(*wanted);
    return model;
}

Resident ready(std::uint64_t cost, int used, bool busy = false) {
    Resident model;
    model.state = State::ready;
    model.cost = cost;
    model.used = at(used);
    model.busy = busy;
    return model;
}

TEST(Residency, LoadsWhatIsWantedAndNothingElse) {
    std::vector<Resident> const models{cold(5), cold(5, 1), cold(5, 0)};
    EXPECT_EQ(plan_residency(models, 0, at(10)).load, (Indexes{2, 1})) << "who waits longest first";
    EXPECT_EQ(plan_residency(models, 7, at(10)).load, (Indexes{2})) << "one fits";
}

TEST(Residency, MakesRoomOfTheLongestIdleForItsReload) {
    std::vector<Resident> models{ready(4, 0), ready(4, 5), cold(4, 9)};
    EXPECT_EQ(plan_residency(models, 8, at(10)), (ResidencyPlan{{}, {0}, {}, {}, {}}));
    models[0].cost = 40;
    EXPECT_EQ(plan_residency(models, 44, at(10)).let_go, (Indexes{0})) << "what it takes is no time to load it";
    models[0].reload_cost = seconds(5);
    models[1].reload_cost = milliseconds(500);
    EXPECT_EQ(plan_residency(models, 44, at(10)).let_go, (Indexes{1}));
    EXPECT_EQ(least_valuable(models, at(10)), std::optional<std::size_t>(1)) << "and so under pressure";
    models[1].pinned = true;
    EXPECT_EQ(plan_residency(models, 44, at(10)).let_go, (Indexes{0}));
}

TEST(Residency, ShortLoadsAreAlike) {
    std::vector<Resident> models{ready(4, 0), ready(4, 5), cold(4, 9)};
    models[0].reload_cost = kReloadMin;
    models[1].reload_cost = milliseconds(1);
    EXPECT_EQ(plan_residency(models, 8, at(10)).let_go, (Indexes{0})) << "the longest idle";
    models[0].reload_cost = 3 * kReloadMin;
    EXPECT_EQ(plan_residency(models, 8, at(10)).let_go, (Indexes{1}));
}

TEST(Residency, WaitsForThoseThatLeaveAndLetsNoOtherGoMeanwhile) {
    std::vector<Resident> models{ready(4, 0), ready(4, 5), cold(4, 9)};
    models[0].state = State::leaving;
    auto const plan = plan_residency(models, 8, at(10));
    EXPECT_TRUE(plan.load.empty());
    EXPECT_TRUE(plan.let_go.empty());
    models[0].state = State::cold;
    EXPECT_EQ(plan_residency(models, 8, at(10)).load, (Indexes{2}));
}

TEST(Residency, NobodyPassesWhoWaitsLonger) {
    std::vector<Resident> const models{ready(6, 0, true), cold(8, 1), cold(2, 2)};
    EXPECT_TRUE(plan_residency(models, 10, at(3)).load.empty());
}

TEST(Residency, DrainsWhoIsLongestThereWhenNobodyIsIdle) {
    std::vector<Resident> models{ready(5, 0, true), ready(5, 0, true), cold(5, 9)};
    models[0].ready = at(8);
    models[1].ready = at(7);
    EXPECT_EQ(plan_residency(models, 10, at(10)).drain, (Indexes{1}));
    models[1].ready = at(9);
    auto const early = plan_residency(models, 10, at(10));
    EXPECT_EQ(early.drain, (Indexes{0}));
    models[0].ready = at(9);
    auto const later = plan_residency(models, 10, at(10));
    EXPECT_TRUE(later.drain.empty());
    EXPECT_EQ(later.again, at(9) + kResidentMin);
    models[0].state = State::draining;
    EXPECT_TRUE(plan_residency(models, 10, at(20)).drain.empty()) << "one at a time";
    models[0].busy = false;
    EXPECT_EQ(plan_residency(models, 10, at(20)).let_go, (Indexes{0}));
}

TEST(Residency, IdleModelsGoWhenTheirTimeIsUp) {
    std::vector<Resident> models{ready(5, 0), ready(5, 5), ready(5, 0, true), ready(5, 0), ready(5, 0)};
    models[0].keep_alive = models[1].keep_alive = models[2].keep_alive = models[3].keep_alive = seconds(8);
    models[3].pinned = true;
    auto const plan = plan_residency(models, 0, at(10));
    EXPECT_EQ(plan.let_go, (Indexes{0}));
    EXPECT_EQ(plan.again, at(13));
}

TEST(Residency, WhatCostsMoreThanItWasThoughtToMakesOthersGo) {
    std::vector<Resident> const models{ready(7, 0), ready(5, 1, true)};
    EXPECT_EQ(plan_residency(models, 10, at(10)).let_go, (Indexes{0}));
}

Resident with_parked_cost(Resident model, std::uint64_t parked_cost) {
    model.parked_cost = parked_cost;
    return model;
}

Resident parked(std::uint64_t cost, std::uint64_t parked_cost, int used) {
    auto model = with_parked_cost(ready(cost, used), parked_cost);
    model.state = State::parked;
    return model;
}

TEST(Residency, WhoMakesRoomIsParkedWhereThatIsEnough) {
    std::vector<Resident> models{with_parked_cost(ready(8, 0), 2), cold(8, 9)};
    EXPECT_EQ(plan_residency(models, 10, at(10), 1), (ResidencyPlan{{}, {}, {}, {0}, {}}));
    EXPECT_EQ(plan_residency(models, 9, at(10), 1).let_go, (Indexes{0})) << "what it keeps would be in the way";
    EXPECT_EQ(plan_residency(models, 10, at(10), 0).let_go, (Indexes{0})) << "nobody is parked";
    models[0].parked_cost = 0;
    EXPECT_EQ(plan_residency(models, 10, at(10), 1).let_go, (Indexes{0})) << "it cannot be";
    models[0].parked_cost = 8;
    EXPECT_EQ(plan_residency(models, 20, at(10), 1).load, (Indexes{1})) << "there is room";
    EXPECT_EQ(plan_residency(models, 10, at(10), 1).let_go, (Indexes{0})) << "it would free nothing";
}

TEST(Residency, AParkedModelIsLoadedWhereWhatItKeepsCountsAlready) {
    std::vector<Resident> models{parked(8, 3, 0), ready(2, 0, true)};
    models[0].wanted_since = at(5);
    EXPECT_EQ(plan_residency(models, 10, at(10), 1).load, (Indexes{0})) << "5 more, and 5 are there";
    EXPECT_TRUE(plan_residency(models, 9, at(10), 1).load.empty());
    EXPECT_EQ(charge(models[0]), 3U);
}

TEST(Residency, TwoModelsTakeTurnsAndNeitherIsEnded) {
    std::vector<Resident> models{parked(8, 2, 0), with_parked_cost(ready(6, 1), 2)};
    models[0].wanted_since = at(5);
    EXPECT_EQ(plan_residency(models, 10, at(10), 1), (ResidencyPlan{{}, {}, {}, {1}, {}}))
        << "who is to be loaded is not one parked too many";
    models[1].state = State::parking;
    EXPECT_EQ(plan_residency(models, 10, at(10), 1), ResidencyPlan{}) << "soon";
    models[1].state = State::parked;
    EXPECT_EQ(plan_residency(models, 10, at(10), 1).load, (Indexes{0}));
}

TEST(Residency, ParkedModelsAreEndedFirstAndTheLongestUnusedOfThem) {
    std::vector<Resident> models{parked(8, 2, 3), parked(8, 2, 1), with_parked_cost(ready(4, 0), 1), cold(4, 9)};
    EXPECT_EQ(plan_residency(models, 10, at(10), 4), (ResidencyPlan{{}, {1}, {}, {}, {}})) << "all that lacks";
    auto const hard = plan_residency(models, 6, at(10), 4);
    EXPECT_EQ(hard.park, (Indexes{2}));
    EXPECT_EQ(hard.let_go, (Indexes{1, 0})) << "4 are wanted and 1 is kept: no 2 are left";
    auto const hardest = plan_residency(models, 4, at(10), 4);
    EXPECT_TRUE(hardest.park.empty());
    EXPECT_EQ(hardest.let_go, (Indexes{1, 0, 2})) << "then who was to be parked";
}

TEST(Residency, NoMoreAreParkedThanMayBe) {
    std::vector<Resident> models{parked(8, 1, 3), parked(8, 1, 2), parked(8, 1, 1)};
    EXPECT_EQ(plan_residency(models, 0, at(10), 2).let_go, (Indexes{2}));
    EXPECT_EQ(plan_residency(models, 0, at(10), 0).let_go, (Indexes{2, 1, 0})) << "as under pressure";
    models.push_back(with_parked_cost(ready(8, 0), 1));
    models.push_back(cold(8, 9));
    auto const plan = plan_residency(models, 12, at(10), 3);
    EXPECT_EQ(plan.park, (Indexes{3}));
    EXPECT_EQ(plan.let_go, (Indexes{2})) << "it makes a place";
}

TEST(Residency, AParkedModelGoesWhenItsTimeIsUp) {
    std::vector<Resident> models{parked(8, 1, 0), parked(8, 1, 5)};
    models[0].keep_alive = models[1].keep_alive = seconds(8);
    auto const plan = plan_residency(models, 0, at(10), 2);
    EXPECT_EQ(plan.let_go, (Indexes{0}));
    EXPECT_EQ(plan.again, at(13));
}

TEST(Residency, WhoWaitsInAParkedModelIsNotInTheWayOfWhoWaitsLonger) {
    std::vector<Resident> models{parked(8, 2, 0), cold(9, 1)};
    models[0].wanted_since = at(2);
    auto const plan = plan_residency(models, 10, at(10), 1);
    EXPECT_EQ(plan.let_go, (Indexes{0}));
    EXPECT_TRUE(plan.load.empty());
}

// By chance: the budget holds at every moment, nobody who computes is let go, no more are parked than may
// be, and everybody who waits is served.
class Household {
public:
    static constexpr std::uint64_t kBudget = 10;

    explicit Household(std::uint64_t seed) : random_(seed), models_(2 + below(5)) {
        parked_max_ = static_cast<std::uint32_t>(below(4));
        for (auto& model : models_) {
            model.cost = 1 + below(kBudget);
            model.parked_cost = below(3) == 0 ? 0 : 1 + below(model.cost);
            model.reload_cost = milliseconds(100 * model.cost);
            costs_.push_back(model.cost);
        }
        requests_.resize(models_.size());
        waiting_.resize(models_.size());
    }

    void turn(bool quiet) {
        if (!quiet && below(3) == 0) come(below(models_.size()));
        for (std::size_t i = 0; i < models_.size(); ++i) go_on(i);
        act();
        now_ += milliseconds(below(200));
    }

    [[nodiscard]] int waiting() const { return std::accumulate(waiting_.begin(), waiting_.end(), 0); }
    [[nodiscard]] std::uint64_t woken() const { return woken_; }

private:
    std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

    void come(std::size_t i) {
        if (models_[i].state == State::ready) ++requests_[i];
        else if (waiting_[i]++ == 0) models_[i].wanted_since = now_;
    }

    void go_on(std::size_t i) {
        auto& model = models_[i];
        if (requests_[i] > 0 && below(3) == 0 && --requests_[i] == 0) model.used = now_;
        if (model.state == State::leaving && below(2) == 0) {
            model.state = State::cold;
            model.cost = costs_[i];
        }
        if (model.state == State::parking && below(2) == 0) model.state = State::parked;
        if (model.state == State::loading && below(3) == 0) {
            model.state = State::ready;
            model.ready = model.used = now_;
            requests_[i] = std::exchange(waiting_[i], 0);
            model.wanted_since.reset();
        }
        model.busy = requests_[i] > 0;
    }

    void act() {
        auto const plan = plan_residency(models_, kBudget, now_, parked_max_);
        for (auto const i : plan.let_go) {
            ASSERT_FALSE(models_[i].busy);
            models_[i].cost = charge(models_[i]);
            models_[i].state = State::leaving;
        }
        for (auto const i : plan.park) {
            ASSERT_TRUE(models_[i].state == State::ready || models_[i].state == State::draining);
            ASSERT_FALSE(models_[i].busy);
            ASSERT_GT(models_[i].parked_cost, 0U);
            models_[i].state = State::parking;
        }
        for (auto const i : plan.drain) {
            ASSERT_EQ(models_[i].state, State::ready);
            models_[i].state = State::draining;
        }
        for (auto const i : plan.load) {
            woken_ += models_[i].state == State::parked ? 1 : 0;
            ASSERT_TRUE(models_[i].state == State::cold || models_[i].state == State::parked);
            models_[i].state = State::loading;
        }
        std::uint64_t there = 0;
        std::uint64_t parked = 0;
        for (auto const& each : models_) {
            there += charge(each);
            bool const rests = each.state == State::parked && !each.wanted_since;
            parked += rests || each.state == State::parking ? 1 : 0;
        }
        ASSERT_LE(there, kBudget);
        ASSERT_LE(parked, parked_max_);
    }

    std::mt19937_64 random_;
    std::vector<Resident> models_;
    std::vector<std::uint64_t> costs_;          // loaded
    std::vector<int> requests_, waiting_;       // with the worker; unsent
    std::uint32_t parked_max_ = 0;
    Instant now_ = at(1);
    std::uint64_t woken_ = 0;
};

TEST(Residency, HoldsTheBudgetAndServesEverybodyWhateverComes) {
    std::uint64_t woken = 0;
    for (std::uint64_t seed = 0; seed < 600; ++seed) {
        Household household(seed);
        for (int turn = 0; turn < 900; ++turn) {
            household.turn(turn > 600);
            ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << ", turn " << turn;
        }
        EXPECT_EQ(household.waiting(), 0) << "seed " << seed;
        woken += household.woken();
    }
    EXPECT_GT(woken, 1'000U) << "parked models come back all the time";
}

}  // namespace
}  // namespace hearth::serving
