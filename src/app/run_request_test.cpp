#include "app/run_request.h"

#include <gtest/gtest.h>

namespace hearth::app {
namespace {

modelfile::Definition pirate() {
    modelfile::Definition definition;
    definition.system = "You are a pirate.";
    definition.options = R"({"temperature":0,"stop":["Arr"],"num_predict":9,"seed":5,"top_k":3,"num_ctx":512})";
    definition.messages = {{"user", "Ahoy!"}, {"assistant", "Arr."}};
    return definition;
}

std::vector<domain::Message> messages_of(domain::GenerateRequest const& request) {
    return std::get<domain::ChatPrompt>(request.prompt).messages;
}

TEST(run_request, without_a_definition_it_is_hearths_defaults) {
    auto const request = run_request({}, "Hi", {});
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->sampling.temperature, kRunTemperature);
    EXPECT_EQ(request->sampling.top_k, 0);
    EXPECT_FALSE(request->sampling.seed);
    EXPECT_FALSE(request->max_tokens);
    EXPECT_EQ(messages_of(*request), (std::vector<domain::Message>{{"user", "Hi"}}));
}

TEST(run_request, a_models_own_words_and_numbers_are_in_force) {
    auto const request = run_request({}, "Hi", pirate());
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->sampling.temperature, 0);
    EXPECT_EQ(request->sampling.top_k, 3);
    EXPECT_EQ(request->sampling.seed, 5U);
    EXPECT_EQ(request->max_tokens, 9U);
    EXPECT_EQ(request->stop, std::vector<std::string>{"Arr"});
    EXPECT_EQ(messages_of(*request),
              (std::vector<domain::Message>{
                  {"system", "You are a pirate."}, {"user", "Ahoy!"}, {"assistant", "Arr."}, {"user", "Hi"}}));
}

TEST(run_request, flags_go_before_them) {
    RunFlags flags;
    flags.temperature = 0.5F;
    flags.top_k = 0;
    flags.seed = -1;
    flags.max_tokens = 2;
    flags.stop = {"."};
    flags.system = "Be brief.";
    auto const request = run_request(flags, "Hi", pirate());
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->sampling.temperature, 0.5F);
    EXPECT_EQ(request->sampling.top_k, 0);
    EXPECT_FALSE(request->sampling.seed);
    EXPECT_EQ(request->max_tokens, 2U);
    EXPECT_EQ(request->stop, std::vector<std::string>{"."});
    for (auto const& message : messages_of(*request)) EXPECT_NE(message.content, "You are a pirate.");
}

TEST(run_request, a_raw_prompt_has_no_conversation_to_open) {
    RunFlags flags;
    flags.raw = true;
    auto const request = run_request(flags, "Once", pirate());
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(std::get<domain::TextPrompt>(request->prompt).text, "Once");
    EXPECT_EQ(request->sampling.temperature, 0);
}

TEST(run_request, parameters_that_are_none_are_refused) {
    modelfile::Definition wrong;
    wrong.options = "[1]";
    EXPECT_EQ(run_request({}, "Hi", wrong).error().code, Code::corrupt);
    wrong.options = R"({"top_k":"many"})";
    auto const refused = run_request({}, "Hi", wrong);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::invalid_argument);
    EXPECT_NE(refused.error().message.find("top_k"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace hearth::app
