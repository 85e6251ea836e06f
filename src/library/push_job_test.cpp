#include "library/push_job.h"

#include <fstream>

#include <gtest/gtest.h>

#include "library/permits.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

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

TEST(FindPushed, WhatIsDamagedIsNotGivenAway) {
    hearth::testing::TemporaryFolder const folder, data;
    std::ofstream(folder / "tiny.gguf", std::ios::binary) << models::testing::tiny_llama().build();
    auto const opened = catalog::Catalog::open(data / "catalog.db", catalog::Access::read_write);
    ASSERT_TRUE(opened) << opened.error().message;
    auto& catalog = **opened;
    ASSERT_TRUE(catalog.scan({folder.path()}));
    EXPECT_TRUE(find_pushed(catalog, {"tiny"}));
    EXPECT_EQ(find_pushed(catalog, {"none"}).error().code, Code::not_found);
    auto read = catalog.find("tiny")->files;
    read.front().damage = "'tiny.gguf' is not what it was";
    ASSERT_TRUE(catalog.record("tiny", read));
    auto const refused = find_pushed(catalog, {"tiny:latest"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::unavailable);
    EXPECT_EQ(refused.error().param, kDamaged);
}

}  // namespace
}  // namespace hearth::library
