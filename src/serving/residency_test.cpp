#include "serving/residency.h"

#include <algorithm>
#include <random>
#include <string>

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

TEST(Residency, MakesRoomOfTheLongestIdleForItsCost) {
    std::vector<Resident> models{ready(4, 0), ready(4, 5), cold(4, 9)};
    EXPECT_EQ(plan_residency(models, 8, at(10)), (ResidencyPlan{{}, {0}, {}, {}}));
    models[0].cost = 40;  // takes ten times as long to load again
    EXPECT_EQ(plan_residency(models, 44, at(10)).let_go, (Indexes{1}));
    models[1].pinned = true;
    EXPECT_EQ(plan_residency(models, 44, at(10)).let_go, (Indexes{0}));
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

// By chance: the budget holds at every moment, nobody who computes is let go, and everybody who waits is served.
TEST(Residency, HoldsTheBudgetAndServesEverybodyWhateverComes) {
    constexpr std::uint64_t kBudget = 10;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        std::mt19937_64 random(seed);
        auto const below = [&](std::uint64_t limit) { return random() % limit; };
        std::vector<Resident> models(2 + below(5));
        std::vector<int> requests(models.size(), 0), waiting(models.size(), 0);  // with the worker; unsent
        for (auto& model : models) model.cost = 1 + below(kBudget);
        Instant now = at(1);
        std::vector<Instant> since(models.size());
        for (int turn = 0; turn < 800; ++turn) {
            bool const quiet = turn > 600;  // nobody comes any more
            auto const i = below(models.size());
            auto& model = models[i];
            if (!quiet && below(3) == 0) {
                if (model.state == State::ready) ++requests[i];
                else if (waiting[i]++ == 0) model.wanted_since = now;
            }
            for (std::size_t j = 0; j < models.size(); ++j) {
                if (requests[j] > 0 && below(3) == 0) {
                    if (--requests[j] == 0) models[j].used = now;
                }
                if (models[j].state == State::leaving && below(2) == 0) models[j].state = State::cold;
                if (models[j].state == State::loading && below(3) == 0) {
                    models[j].state = State::ready;
                    models[j].ready = models[j].used = now;
                    requests[j] = std::exchange(waiting[j], 0);
                    models[j].wanted_since.reset();
                }
                models[j].busy = requests[j] > 0;
            }
            auto const plan = plan_residency(models, kBudget, now);
            for (auto const j : plan.let_go) {
                ASSERT_FALSE(models[j].busy) << "seed " << seed;
                models[j].state = State::leaving;
            }
            for (auto const j : plan.drain) {
                ASSERT_EQ(models[j].state, State::ready);
                models[j].state = State::draining;
            }
            for (auto const j : plan.load) {
                ASSERT_EQ(models[j].state, State::cold);
                models[j].state = State::loading;
            }
            std::uint64_t there = 0;
            for (auto const& each : models) there += each.state == State::cold ? 0 : each.cost;
            ASSERT_LE(there, kBudget) << "seed " << seed << ", turn " << turn;
            now += milliseconds(below(200));
        }
        for (std::size_t j = 0; j < models.size(); ++j) EXPECT_EQ(waiting[j], 0) << "seed " << seed << ", model " << j;
    }
}

}  // namespace
}  // namespace hearth::serving
