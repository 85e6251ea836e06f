#include "api/ollama/request.h"

#include <string>

#include <gtest/gtest.h>

#include "api/ollama/models.h"

namespace hearth::api::ollama {
namespace {

Call parse(Surface surface, std::string_view body) {
    auto parsed = parse_request(surface, body);
    auto const* problem = std::get_if<Problem>(&parsed);
    EXPECT_EQ(problem, nullptr) << body << ": " << (problem != nullptr ? problem->message : "");
    return problem != nullptr ? Call{} : std::get<Call>(std::move(parsed));
}

std::string why_not(Surface surface, std::string_view body) {
    auto const parsed = parse_request(surface, body);
    auto const* problem = std::get_if<Problem>(&parsed);
    return problem != nullptr ? problem->message : "it is fine";
}

Call chat(std::string_view fields) {
    return parse(Surface::chat,
                 R"({"model": "m", "messages": [{"role": "user", "content": "hi"}])" + std::string(fields) + "}");
}

Call generate(std::string_view fields) {
    return parse(Surface::generate, R"({"model": "m", "prompt": "hi")" + std::string(fields) + "}");
}

TEST(OllamaRequest, HasOllamasDefaults) {
    auto const call = chat("");
    EXPECT_FLOAT_EQ(call.request.sampling.temperature, 0.8F);
    EXPECT_FLOAT_EQ(call.request.sampling.top_p, 0.9F);
    EXPECT_EQ(call.request.sampling.top_k, 40);
    EXPECT_FLOAT_EQ(call.request.sampling.repeat_penalty, 1.0F);
    EXPECT_EQ(call.request.sampling.repeat_last_n, 64);
    EXPECT_EQ(call.request.sampling.seed, std::nullopt);
    EXPECT_EQ(call.request.max_tokens, std::nullopt);
    EXPECT_EQ(call.request.overflow, domain::Overflow::shift);
    EXPECT_EQ(call.request.top_logprobs, std::nullopt);
    EXPECT_TRUE(call.stream);
    EXPECT_EQ(call.goal, Call::Goal::run);
}

TEST(OllamaRequest, MapsEveryOption) {
    auto const call =
        chat(R"(, "options": {"num_predict": 5, "temperature": 0.5, "top_k": 7, "top_p": 0.6, "min_p": 0.1,
        "typical_p": 0.7, "repeat_last_n": 3, "repeat_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3,
        "mirostat": 2, "mirostat_tau": 4, "mirostat_eta": 0.2, "seed": 9,
        "stop": ["a", "b"], "num_keep": 6, "num_ctx": 64})");
    auto const& sampling = call.request.sampling;
    EXPECT_EQ(call.request.max_tokens, 5U);
    EXPECT_FLOAT_EQ(sampling.temperature, 0.5F);
    EXPECT_EQ(sampling.top_k, 7);
    EXPECT_FLOAT_EQ(sampling.top_p, 0.6F);
    EXPECT_FLOAT_EQ(sampling.min_p, 0.1F);
    EXPECT_FLOAT_EQ(sampling.typical_p, 0.7F);
    EXPECT_EQ(sampling.repeat_last_n, 3);
    EXPECT_FLOAT_EQ(sampling.repeat_penalty, 1.1F);
    EXPECT_FLOAT_EQ(sampling.presence_penalty, 0.2F);
    EXPECT_FLOAT_EQ(sampling.frequency_penalty, 0.3F);
    EXPECT_EQ(sampling.mirostat, domain::Mirostat::v2);
    EXPECT_FLOAT_EQ(sampling.mirostat_tau, 4);
    EXPECT_FLOAT_EQ(sampling.mirostat_eta, 0.2F);
    EXPECT_EQ(sampling.seed, 9U);
    EXPECT_EQ(call.request.stop, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(call.request.keep_tokens, 6U);
    EXPECT_EQ(call.num_ctx, 64U);
}

TEST(OllamaRequest, ReadsWhatMeansNoLimit) {
    auto const call = chat(R"(, "options": {"num_predict": -2, "top_k": -1, "seed": -1})");
    EXPECT_EQ(call.request.max_tokens, std::nullopt);
    EXPECT_EQ(call.request.sampling.top_k, 0);
    EXPECT_EQ(call.request.sampling.seed, std::nullopt);
}

TEST(OllamaRequest, MapsTruncateAndShiftToOnePolicy) {
    EXPECT_EQ(chat(R"(, "shift": false)").request.overflow, domain::Overflow::truncate_middle);
    EXPECT_EQ(chat(R"(, "truncate": true, "shift": true)").request.overflow, domain::Overflow::shift);
    EXPECT_EQ(chat(R"(, "truncate": false)").request.overflow, domain::Overflow::error);
    EXPECT_EQ(chat(R"(, "truncate": false, "shift": false)").request.overflow, domain::Overflow::error);
    EXPECT_NE(why_not(Surface::chat, R"({"model": "m", "truncate": false, "shift": true})"), "it is fine");
}

TEST(OllamaRequest, MakesMessagesOfSystemAndPrompt) {
    auto const call = generate(R"(, "system": "s")");
    auto const& prompt = std::get<domain::ChatPrompt>(call.request.prompt);
    EXPECT_EQ(prompt.messages, (std::vector<domain::Message>{{"system", "s"}, {"user", "hi"}}));
    EXPECT_EQ(std::get<domain::TextPrompt>(generate(R"(, "raw": true)").request.prompt).text, "hi");
}

TEST(OllamaRequest, KnowsWhenThereIsNothingToAnswer) {
    EXPECT_EQ(parse(Surface::chat, R"({"model": "m"})").goal, Call::Goal::load);
    EXPECT_EQ(parse(Surface::generate, R"({"model": "m", "keep_alive": -1})").goal, Call::Goal::load);
    EXPECT_EQ(parse(Surface::generate, R"({"model": "m", "keep_alive": 0})").goal, Call::Goal::unload);
    EXPECT_EQ(parse(Surface::generate, R"({"model": "m", "keep_alive": "0s"})").goal, Call::Goal::unload);
    EXPECT_EQ(generate(R"(, "keep_alive": 0)").goal, Call::Goal::run);
    EXPECT_EQ(generate(R"(, "keep_alive": 1e300)").goal, Call::Goal::run);
}

TEST(OllamaRequest, NamesWhatItDoesNotKnow) {
    auto const call = chat(R"(, "colour": 1, "options": {"tfs_z": 1, "numa": true, "top_k": 1})");
    EXPECT_EQ(call.unknown_fields, "colour");
    EXPECT_EQ(call.unknown_options, "numa,tfs_z");
}

TEST(OllamaRequest, TakesNullAsAbsent) {
    auto const call =
        chat(R"(, "options": null, "tools": null, "format": null, "think": null, "stream": null, "keep_alive": null)");
    EXPECT_TRUE(call.stream);
    EXPECT_EQ(call.lacks, "");
}

domain::ModelInfo model(std::uint32_t context, std::uint32_t trained, bool chat_template) {
    domain::ModelInfo info;
    info.context_request = context;
    info.context_train = trained;
    info.chat_template = chat_template;
    return info;
}

TEST(OllamaRequest, FillsInWhereTheModelCan) {
    auto call = generate(R"(, "suffix": "there")");
    auto const* infill = std::get_if<domain::InfillPrompt>(&call.request.prompt);
    ASSERT_NE(infill, nullptr);
    EXPECT_EQ(infill->suffix, "there");
    EXPECT_EQ(call.request.overflow, domain::Overflow::error) << "cut, it would lose its place";
    auto info = model(2048, 2048, true);
    auto const problem = settle(call, info);
    ASSERT_TRUE(problem);
    EXPECT_EQ(problem->message, "\"m\" does not support insert");
    info.infills = true;
    EXPECT_EQ(settle(call, info), std::nullopt);
    EXPECT_EQ(parse(Surface::generate, R"({"model": "m", "suffix": "x"})").goal, Call::Goal::run);
}

TEST(OllamaRequest, AContextIsAsLargeAsTheCacheHolds) {
    auto call = chat(R"(, "options": {"num_ctx": 4096})");
    EXPECT_EQ(settle(call, model(2048, 2048, true)), std::nullopt) << "the model has no more";
    EXPECT_EQ(call.request.context_tokens, 2048U);
    auto info = model(2048, 8192, true);
    info.kv_cells = 4096;
    EXPECT_EQ(settle(call, info), std::nullopt);
    EXPECT_EQ(call.request.context_tokens, 4096U);
    info.kv_cells = 3000;
    auto const problem = settle(call, info);
    ASSERT_TRUE(problem.has_value());
    EXPECT_EQ(problem->message,
              "option \"num_ctx\" is 4096, but the KV cache of \"m\" holds 3000 tokens: start the server with a larger "
              "--ctx or --kv-cells");
}

TEST(OllamaRequest, PutsAPromptAsItIsWhereThereIsNoTemplate) {
    auto call = generate("");
    EXPECT_EQ(settle(call, model(64, 64, false)), std::nullopt);
    EXPECT_EQ(std::get<domain::TextPrompt>(call.request.prompt).text, "hi");
    auto with_system = generate(R"(, "system": "s")");
    EXPECT_TRUE(settle(with_system, model(64, 64, false)).has_value());
    auto messages = chat("");
    EXPECT_EQ(settle(messages, model(64, 64, false)), std::nullopt) << "the engine knows whether it has a template";
    EXPECT_TRUE(std::holds_alternative<domain::ChatPrompt>(messages.request.prompt));
}

TEST(OllamaModels, SayHowManyParametersThereAre) {
    EXPECT_EQ(parameter_size(0), "0");
    EXPECT_EQ(parameter_size(999), "999");
    EXPECT_EQ(parameter_size(260'000), "260K");
    EXPECT_EQ(parameter_size(134'515'008), "134.52M");
    EXPECT_EQ(parameter_size(1'000'000), "1M");
    EXPECT_EQ(parameter_size(8'030'261'248), "8.0B");
    EXPECT_EQ(parameter_size(7'000'000'000), "7B");
}

}  // namespace
}  // namespace hearth::api::ollama
