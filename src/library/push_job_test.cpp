#include "library/push_job.h"

#include <gtest/gtest.h>

namespace hearth::library {
namespace {

TEST(PushWish, ItsNameSaysWhereItGoes) {
    auto const target = target_of({"127.0.0.1:5000/ns/model:tiny", true});
    ASSERT_TRUE(target) << target.error().message;
    EXPECT_EQ(*target, (fetch::RegistryReference{"127.0.0.1:5000", "ns", "model", "tiny"}));
    EXPECT_EQ(target_of({"ns/model"})->host, "registry.ollama.ai");
    EXPECT_FALSE(target_of({"../x"}));
}

TEST(PushWish, InsecureIsForThisMachine) {
    EXPECT_TRUE(target_of({"localhost:5000/ns/model", true}));
    auto const refused = target_of({"registry.example/ns/model", true});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().param, "insecure");
}

TEST(PushWish, SurvivesItsPayload) {
    PushWish const wish{"127.0.0.1:5000/ns/mod\"el", true};
    auto const back = push_from_payload(to_payload(wish));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, wish);
    for (auto const* text : {"", "{}", "[]", R"({"model": 1, "insecure": false})", R"({"model": "x"})"})
        EXPECT_EQ(push_from_payload(text).error().code, Code::corrupt) << text;
}

}  // namespace
}  // namespace hearth::library
