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

TEST(Permits, AFileIsInAFolderOrTheServerIsOpen) {
    Names const folders{"/models", "/more/models/"};
    auto const open = Permits::create({}, true);
    auto const closed = Permits::create({}, false);
    EXPECT_TRUE(open->may_open("/anywhere/m.gguf", Names{"m"}, folders));
    for (auto const* inside : {"/models/m.gguf", "/more/models/deep/er/m.gguf"})
        EXPECT_TRUE(closed->may_open(inside, Names{"m"}, folders)) << inside;
    for (auto const* outside : {"/models", "/models2/m.gguf", "/more/m.gguf", "models/m.gguf", "", "/"}) {
        auto const refused = closed->may_open(outside, Names{"m"}, folders);
        ASSERT_FALSE(refused) << outside;
        EXPECT_EQ(refused.error().param, kNotAllowed);
        EXPECT_EQ(refused.error().message.find(*outside == 0 ? "/models" : outside), std::string::npos);
    }
    EXPECT_FALSE(closed->may_open("/models/m.gguf", Names{"m"}, {}));
}

TEST(Permits, AFileIsNamedByAPatternToo) {
    Names const folders{"/models"};
    auto const permits = Permits::create({"ti*", "/models/deep/*"}, true);
    EXPECT_TRUE(permits->may_open("/models/tiny.gguf", Names{"tiny"}, folders));
    EXPECT_TRUE(permits->may_open("/models/deep/m.gguf", Names{"m"}, folders)) << "by its path";
    EXPECT_TRUE(permits->may_open("/elsewhere/tiny.gguf", Names{"tiny"}, folders)) << "it is open";
    EXPECT_FALSE(permits->may_open("/models/other.gguf", Names{"other"}, folders));
    EXPECT_FALSE(permits->may_open("/elsewhere/other.gguf", Names{"other"}, folders));
    EXPECT_FALSE(Permits::create({"ti*"}, false)->may_open("/elsewhere/tiny.gguf", Names{"tiny"}, folders));
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
