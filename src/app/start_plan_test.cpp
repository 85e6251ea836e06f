#include "app/start_plan.h"

#include <gtest/gtest.h>

#include "testing/temporary_folder.h"

namespace hearth::app {
namespace {

serving::ModelSpec spec(std::string id) {
    serving::ModelSpec out;
    out.id = std::move(id);
    return out;
}

class StartPlanTest : public ::testing::Test {
protected:
    StartPlanTest() { flags.data_dir = data.path(); }

    hearth::testing::TemporaryFolder data;
    ServeFlags flags;
    std::vector<serving::ModelSpec> specs{spec("given"), spec("other")};
};

TEST_F(StartPlanTest, WhatIsNotGivenIsForTheLibrary) {
    flags.lazy = true;
    flags.pins = {"other", "mine"};
    flags.preloads = {"given", "mine:latest", "most-used"};
    auto const plan = plan_start(specs, flags);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(*plan, (StartPlan{{"mine"}, {"mine:latest"}, kMostUsedDefault}));
    EXPECT_FALSE(specs[0].lazy);
    EXPECT_TRUE(specs[1].lazy);
    EXPECT_TRUE(specs[1].pinned);
    EXPECT_TRUE(is_pinned(*plan, "Mine:latest"));
    EXPECT_FALSE(is_pinned(*plan, "mine2"));
}

TEST_F(StartPlanTest, InstancesAreOfWhatIsGivenOrOfTheLibrarys) {
    flags.instances = {"given=2", "mine=latest=3", "other=1"};
    specs[0].cache_memory_bytes = 1000;
    specs[1].threads = 5;
    auto const plan = plan_start(specs, flags);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(specs[0].instances, 2U);
    EXPECT_GE(specs[0].threads, 1U) << "each has its part of the cores";
    EXPECT_EQ(specs[0].cache_memory_bytes, 500U);
    EXPECT_EQ(specs[1].instances, 1U);
    EXPECT_EQ(specs[1].threads, 5U);
    EXPECT_EQ(instances_of(*plan, "mine=latest"), 3U);
    EXPECT_EQ(instances_of(*plan, "given"), 1U);
}

TEST_F(StartPlanTest, InstancesHaveALimit) {
    for (auto const* bad : {"given", "given=", "given=0", "given=17", "given=2x", "=2"}) {
        flags.instances = {bad};
        auto const plan = plan_start(specs, flags);
        ASSERT_FALSE(plan) << bad;
        EXPECT_EQ(plan.error().param, "--instances");
        EXPECT_NE(plan.error().message.find("from 1 to 16"), std::string::npos) << plan.error().message;
    }
}

TEST_F(StartPlanTest, MostUsedHasALimit) {
    flags.preloads = {"most-used:16", "most-used:2"};
    EXPECT_EQ(plan_start(specs, flags)->most_used, 16U);
    for (auto const* bad : {"most-used:", "most-used:0", "most-used:17", "most-used:x"}) {
        flags.preloads = {bad};
        auto const plan = plan_start(specs, flags);
        ASSERT_FALSE(plan) << bad;
        EXPECT_EQ(plan.error().param, "--preload");
        EXPECT_NE(plan.error().message.find("from 1 to 16"), std::string::npos);
    }
    flags.preloads = {"most-used-of-all"};
    EXPECT_EQ(plan_start(specs, flags)->preloads, flags.preloads) << "a name";
}

}  // namespace
}  // namespace hearth::app
