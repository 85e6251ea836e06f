#include "library/permits.h"

#include <gtest/gtest.h>

namespace hearth::library {
namespace {

using Names = std::vector<std::string>;

TEST(Permits, WithoutPatternsOnlyAnOpenServerChangesModels) {
    auto const open = Permits::create({}, true);
    EXPECT_TRUE(open->may_change(Names{"any"}));
    auto const closed = Permits::create({}, false);
    EXPECT_TRUE(closed->may_load(Names{"any"})) << "what is there may be used";
    auto const refused = closed->may_change(Names{"any"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().param, kNotAllowed);
    EXPECT_NE(refused.error().message.find("--allow-model"), std::string::npos);
    EXPECT_TRUE(open->may_change_some());
    EXPECT_EQ(closed->may_change_some().error().param, kNotAllowed);
    EXPECT_TRUE(Permits::create({"x*"}, false)->may_change_some()) << "models of that name may be made";
}

TEST(Permits, APatternAllowsWhatItMatchesByAnyName) {
    auto const permits = Permits::create({"SmolLM2*", "hf.co/me/*"}, false);
    EXPECT_TRUE(permits->may_load(Names{"smollm2:135m"}));
    EXPECT_TRUE(permits->may_change(Names{"x", "hf.co/Me/repo:Q4_K_M"}));
    EXPECT_EQ(permits->may_load(Names{"llama"}).error().message,
              "model 'llama' is not among those this server may use (--allow-model)");
    EXPECT_FALSE(permits->may_change(Names{"llama"}));
    EXPECT_FALSE(permits->may_load(Names{"notsmollm2"}));
    EXPECT_FALSE(permits->may_load(Names{}));
}

TEST(Permits, RefusesPatternsBeyondItsLimits) {
    EXPECT_EQ(Permits::create({""}, true).error().param, "--allow-model");
    EXPECT_EQ(Permits::create({std::string(kPatternBytesMax + 1, 'a')}, true).error().message,
              "--allow-model takes a pattern of 1 to 512 bytes, this one has 513");
    EXPECT_EQ(Permits::create(Names(kPatternsMax + 1, "a"), true).error().message,
              "--allow-model is given 1001 times, the limit is 1000");
}

}  // namespace
}  // namespace hearth::library
