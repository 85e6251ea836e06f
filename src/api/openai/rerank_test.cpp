#include "api/openai/rerank.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/openai/request.h"

namespace hearth::api::openai {
namespace {

using Json = nlohmann::json;

std::variant<Call, Problem> parse(std::string const& members) {
    return parse_request(Surface::rank, "{" + members + "}", {});
}

Call accept(std::string const& members) {
    auto parsed = parse(members);
    auto* const problem = std::get_if<Problem>(&parsed);
    EXPECT_EQ(problem, nullptr) << problem->message;
    return problem == nullptr ? std::get<Call>(std::move(parsed)) : Call{};
}

Problem refusal(std::string const& members) {
    auto parsed = parse(members);
    auto* const problem = std::get_if<Problem>(&parsed);
    EXPECT_NE(problem, nullptr) << members;
    return problem == nullptr ? Problem{} : std::move(*problem);
}

std::vector<domain::RankPair> pairs(Call const& call) {
    std::vector<domain::RankPair> out;
    for (auto const& generation : call.generations)
        for (auto const& input : std::get<domain::EmbedPrompt>(generation.prompt).inputs)
            out.push_back(std::get<domain::RankPair>(input));
    return out;
}

Answer scored(std::vector<std::vector<float>> parts) {
    Answer answer;
    for (auto const& scores : parts) {
        auto& part = answer.embedded.emplace_back();
        for (float const score : scores) part.vectors.push_back({score});
    }
    answer.totals.usage.prompt_tokens = 9;
    return answer;
}

TEST(Rerank, EachDocumentIsReadBehindTheQuery) {
    auto const call = accept(R"("query":"q","documents":["a",{"text":"b"},""])");
    EXPECT_EQ(pairs(call), (std::vector<domain::RankPair>{{"q", "a"}, {"q", "b"}, {"q", ""}}));
}

TEST(Rerank, ManyDocumentsAreSeveralRequests) {
    std::string list = R"("d0")";
    for (std::size_t i = 1; i < domain::kEmbedInputsMax + 1; ++i) list += ",\"d" + std::to_string(i) + "\"";
    auto const call = accept(R"("query":"q","documents":[)" + list + "]");
    EXPECT_EQ(call.generations.size(), 2U);
    EXPECT_EQ(pairs(call).size(), domain::kEmbedInputsMax + 1);
}

TEST(Rerank, WhatIsMissingOrTooMuchIsNamed) {
    EXPECT_EQ(refusal(R"("documents":["a"])").message, "'query' is required.");
    EXPECT_EQ(refusal(R"("query":"q")").message, "'documents' is required.");
    EXPECT_EQ(refusal(R"("query":"","documents":["a"])").param, "query");
    EXPECT_EQ(refusal(R"("query":"q","documents":[])").message, "'documents' must not be empty.");
    EXPECT_EQ(refusal(R"("query":"q","documents":"a")").kind, Kind::invalid_type);
    EXPECT_EQ(refusal(R"("query":"q","documents":["a",1])").message.substr(0, 14), "'documents[1]'");
    EXPECT_EQ(refusal(R"("query":"q","documents":[{"title":"a"}])").message, "'documents[0].text' is required.");
    EXPECT_EQ(refusal(R"("query":"q","documents":["a"],"texts":["b"])").param, "texts");
    EXPECT_EQ(refusal(R"("query":"q","documents":["a"],"top_n":0)").param, "top_n");
    EXPECT_EQ(refusal("\"query\":\"" + std::string(kQueryBytesMax + 1, 'q') + R"(","documents":["a"])").message,
              "'query' has 16385 bytes, the limit is 16384.");
    std::string many = R"("")";
    for (std::size_t i = 0; i < kDocumentsMax; ++i) many += R"(,"")";
    EXPECT_EQ(refusal(R"("query":"q","documents":[)" + many + "]").message,
              "'documents' has 4097 documents, the limit is 4096.");
}

TEST(Rerank, TheBestComesFirstAndNamesItsPlace) {
    RankShape shape;
    shape.documents = {"a", "b", "c", "d"};
    auto const rendered = render_ranks("rerank-1", "m", shape, scored({{-1.5F, 2, 0.5F}, {2}}));
    ASSERT_TRUE(rendered);
    EXPECT_EQ(Json::parse(*rendered), Json::parse(R"({"id":"rerank-1","object":"list","model":"m",
        "usage":{"prompt_tokens":9,"total_tokens":9},"results":[
        {"index":1,"relevance_score":2.0},{"index":3,"relevance_score":2.0},
        {"index":2,"relevance_score":0.5},{"index":0,"relevance_score":-1.5}]})"));
}

TEST(Rerank, OnlySoManyAndWithTheirTexts) {
    auto call = accept(R"("query":"q","documents":["a","b","c"],"top_n":2,"return_documents":true)");
    auto const rendered = render_ranks("i", "m", call.ranks, scored({{1, 3, 2}}));
    ASSERT_TRUE(rendered);
    EXPECT_EQ(Json::parse(*rendered)["results"], Json::parse(R"([
        {"index":1,"relevance_score":3.0,"document":{"text":"b"}},
        {"index":2,"relevance_score":2.0,"document":{"text":"c"}}])"));
}

TEST(Rerank, TextsAreAnsweredWithABareArray) {
    auto call = accept(R"("query":"q","texts":["a","b"],"return_text":true)");
    auto const rendered = render_ranks("i", "m", call.ranks, scored({{1, 3}}));
    ASSERT_TRUE(rendered);
    EXPECT_EQ(Json::parse(*rendered),
              Json::parse(R"([{"index":1,"score":3.0,"text":"b"},{"index":0,"score":1.0,"text":"a"}])"));
}

TEST(Rerank, ANumberOfScoresThatCannotBeIsAnError) {
    RankShape shape;
    shape.documents = {"a", "b"};
    EXPECT_FALSE(render_ranks("i", "m", shape, scored({{1}})));
}

}  // namespace
}  // namespace hearth::api::openai
