#include "serving/prefix_routes.h"

#include <string>

#include <gtest/gtest.h>

namespace hearth::serving {
namespace {

domain::GenerateRequest chat(std::vector<std::string> const& contents) {
    domain::ChatPrompt prompt;
    for (auto const& content : contents)
        prompt.messages.push_back({prompt.messages.size() % 2 == 0 ? "user" : "assistant", content});
    domain::GenerateRequest request;
    request.prompt = std::move(prompt);
    return request;
}

domain::GenerateRequest text(std::string content) {
    domain::GenerateRequest request;
    request.prompt = domain::TextPrompt{std::move(content)};
    return request;
}

TEST(PrefixRoutes, AConversationIsFoundByWhatWentBefore) {
    PrefixRoutes routes;
    routes.note(beginnings_of(chat({"Hi"})), 1);
    routes.note(beginnings_of(chat({"Ho"})), 2);
    auto const next = routes.find(beginnings_of(chat({"Hi", "Hello.", "How are you?"})));
    ASSERT_TRUE(next);
    EXPECT_EQ(next->worker, 1U);
    EXPECT_EQ(next->beginnings, 1U);
    EXPECT_FALSE(routes.find(beginnings_of(chat({"Hey"}))));
}

TEST(PrefixRoutes, TheLongestBeginningCounts) {
    PrefixRoutes routes;
    routes.note(beginnings_of(chat({"System", "ok", "A"})), 1);
    routes.note(beginnings_of(chat({"System", "ok", "B"})), 2);
    auto const a = routes.find(beginnings_of(chat({"System", "ok", "A", "x", "y"})));
    ASSERT_TRUE(a);
    EXPECT_EQ(a->worker, 1U);
    EXPECT_EQ(a->beginnings, 3U);
    auto const other = routes.find(beginnings_of(chat({"System", "ok", "C"})));
    ASSERT_TRUE(other);
    EXPECT_EQ(other->worker, 2U) << "the last that was given it";
    EXPECT_EQ(other->beginnings, 2U);
}

TEST(PrefixRoutes, WhoCannotUseWhatWasComputedIsAnotherOne) {
    PrefixRoutes routes;
    routes.note(beginnings_of(chat({"Hi"})), 1);
    auto request = chat({"Hi"});
    EXPECT_TRUE(routes.find(beginnings_of(request)));
    request.tenant = "other";
    EXPECT_FALSE(routes.find(beginnings_of(request)));
    request.tenant.clear();
    request.cache_salt = "salt";
    EXPECT_FALSE(routes.find(beginnings_of(request)));
    request.cache_salt.clear();
    request.adapters = 1;
    EXPECT_FALSE(routes.find(beginnings_of(request)));
}

TEST(PrefixRoutes, RolesAndPlacesOfTextBelongToIt) {
    auto const whole = beginnings_of(chat({"ab", "c"}));
    EXPECT_NE(whole, beginnings_of(chat({"a", "bc"})));
    auto other = chat({"ab", "c"});
    std::get<domain::ChatPrompt>(other.prompt).messages[1].role = "tool";
    EXPECT_EQ(whole[0], beginnings_of(other)[0]);
    EXPECT_NE(whole[1], beginnings_of(other)[1]);
}

TEST(PrefixRoutes, TextIsKnownBlockByBlock) {
    std::string const block(kRouteBlock, 'x');
    EXPECT_TRUE(beginnings_of(text(block.substr(1))).empty()) << "less than a block";
    auto const one = beginnings_of(text(block + "tail"));
    auto const two = beginnings_of(text(block + block));
    ASSERT_EQ(one.size(), 1U);
    ASSERT_EQ(two.size(), 2U);
    EXPECT_EQ(one[0], two[0]);
    EXPECT_NE(two[0], two[1]);
    domain::GenerateRequest tokens;
    tokens.prompt = domain::TokenPrompt{std::vector<domain::Token>(kRouteBlock, 7)};
    EXPECT_EQ(beginnings_of(tokens).size(), sizeof(domain::Token));
}

TEST(PrefixRoutes, WhatIsToEmbedHasNoBeginnings) {
    domain::GenerateRequest request;
    request.prompt = domain::EmbedPrompt{{std::string(4 * kRouteBlock, 'x')}, false};
    EXPECT_TRUE(beginnings_of(request).empty());
}

TEST(PrefixRoutes, LongPromptsAreLookedAtInPart) {
    auto const long_text = beginnings_of(text(std::string(4 * kRouteBytesMax, 'x')));
    EXPECT_EQ(long_text.size(), kBeginningsMax);
    std::vector<std::string> many(200);
    for (std::size_t i = 0; i < many.size(); ++i) many[i] = std::to_string(i);
    auto const conversation = beginnings_of(chat(many));
    EXPECT_EQ(conversation.size(), kBeginningsMax) << "the longest of them";
    EXPECT_TRUE(beginnings_of(chat({std::string(2 * kRouteBytesMax, 'x'), "end"})).empty());
}

TEST(PrefixRoutes, OldRoutesAreForgotten) {
    PrefixRoutes routes;
    auto const first = beginnings_of(chat({"first"}));
    routes.note(first, 1);
    for (std::uint64_t i = 1; i <= kRoutesMax / 2; ++i) routes.note(std::vector{i}, 2);
    EXPECT_TRUE(routes.find(first)) << "half of them are younger";
    for (std::uint64_t i = 1; i <= kRoutesMax; ++i) routes.note(std::vector{i << 32U}, 2);
    EXPECT_FALSE(routes.find(first));
}

}  // namespace
}  // namespace hearth::serving
