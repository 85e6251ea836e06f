#include "api/openai/embeddings.h"

#include <gtest/gtest.h>

namespace hearth::api::openai {
namespace {

TEST(RenderEmbeddings, WritesVectorsAsAsked) {
    Answer answer;
    answer.embedded = {{{{3, 4}, {0, 0}}}, {{{1, 0}}}};
    answer.totals.usage.prompt_tokens = 7;
    auto const whole = render_embeddings("m", {}, answer);
    ASSERT_TRUE(whole);
    EXPECT_EQ(
        *whole,
        R"({"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.6,0.8]},)"
        R"({"object":"embedding","index":1,"embedding":[0,0]},{"object":"embedding","index":2,"embedding":[1,0]}],)"
        R"("model":"m","usage":{"prompt_tokens":7,"total_tokens":7}})");
    answer.embedded = {{{{3, 4}}}};
    auto const raw = render_embeddings("m", {true, false, std::nullopt}, answer);
    EXPECT_NE(raw->find(R"("embedding":"AABAQAAAgEA=")"), std::string::npos) << *raw;
    auto const first = render_embeddings("m", {false, true, 1}, answer);
    EXPECT_NE(first->find(R"("embedding":[1])"), std::string::npos) << *first;
    auto const many = render_embeddings("m", {false, true, 3}, answer);
    ASSERT_FALSE(many);
    EXPECT_EQ(many.error().param, "dimensions");
    EXPECT_NE(many.error().message.find("have 2"), std::string::npos);
}

}  // namespace
}  // namespace hearth::api::openai
