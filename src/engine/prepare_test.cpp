#include "engine/prepare.h"

#include <gtest/gtest.h>

#include "domain/context_overflow.h"
#include "llama/scripted_backend.h"

namespace hearth::engine {
namespace {

domain::GenerateRequest with_tokens(std::size_t count) {
    domain::GenerateRequest request;
    request.prompt = domain::TokenPrompt{std::vector<Token>(count, 'x')};
    return request;
}

struct Fixture : ::testing::Test {
    std::unique_ptr<llama::ScriptedBackend> backend = [] {
        llama::ScriptedOptions options;
        options.context_request = 100;
        options.sequences_max = 4;
        return llama::make_scripted(options);
    }();
    Preparer preparer{*backend, 7};

    Error error_of(domain::GenerateRequest request) {
        auto prepared = preparer.prepare(1, std::move(request), {});
        return prepared ? Error(Code::internal, "no error") : prepared.error();
    }
};

using prepare = Fixture;

TEST_F(prepare, tokenises_text_without_reading_special_tokens_in_it) {
    domain::GenerateRequest request;
    request.prompt = domain::TextPrompt{"<|im_end|>"};
    auto const prepared = preparer.prepare(3, request, {});
    ASSERT_TRUE(prepared.has_value());
    EXPECT_EQ(prepared->id, 3U);
    EXPECT_EQ(prepared->prompt.size(), 10U);
}

TEST_F(prepare, refuses_a_prompt_that_leaves_no_room_for_a_token_and_names_both_numbers) {
    EXPECT_TRUE(preparer.prepare(1, with_tokens(99), {}).has_value());
    auto const error = error_of(with_tokens(100));
    EXPECT_EQ(error.code, Code::context_overflow);
    EXPECT_EQ(domain::parse_context_overflow(error), (domain::ContextOverflow{100, 100}));
}

TEST_F(prepare, the_limit_is_what_the_cells_can_hold_when_that_is_less) {
    llama::ScriptedOptions options;
    options.context_request = 100;
    options.kv_cells = 50;
    auto const small = llama::make_scripted(options);
    Preparer of_small(*small, 7);
    EXPECT_EQ(of_small.limit(), 50U);
    EXPECT_TRUE(of_small.prepare(1, with_tokens(49), {}).has_value());
    EXPECT_FALSE(of_small.prepare(1, with_tokens(50), {}).has_value());
}

TEST_F(prepare, caps_max_tokens_at_what_the_context_leaves) {
    auto request = with_tokens(90);
    EXPECT_EQ(preparer.prepare(1, request, {})->tokens_max, 10U);
    request.max_tokens = 3;
    EXPECT_EQ(preparer.prepare(1, request, {})->tokens_max, 3U);
    request.max_tokens = 1 << 20;
    EXPECT_EQ(preparer.prepare(1, request, {})->tokens_max, 10U);
}

TEST_F(prepare, refuses_what_the_model_cannot_do_and_says_which_field) {
    domain::GenerateRequest empty;
    empty.prompt = domain::TextPrompt{""};
    EXPECT_EQ(error_of(empty).param, "prompt");
    EXPECT_EQ(error_of(empty).code, Code::invalid_argument);

    domain::GenerateRequest outside;
    outside.prompt = domain::TokenPrompt{{1, 99999}};
    EXPECT_EQ(error_of(outside).param, "prompt");
    EXPECT_NE(error_of(outside).message.find("99999"), std::string::npos);

    auto biased = with_tokens(3);
    biased.sampling.logit_bias = {{99999, 1}};
    EXPECT_EQ(error_of(biased).param, "logit_bias");

    auto many = with_tokens(3);
    many.choices = 5;
    EXPECT_EQ(error_of(many).param, "n");

    domain::GenerateRequest chat;
    chat.prompt = domain::ChatPrompt{.messages = {{"pirate", "x"}}};
    EXPECT_EQ(error_of(chat).param, "messages");
}

TEST_F(prepare, uses_the_requests_seed_or_draws_one) {
    auto request = with_tokens(3);
    auto const a = preparer.prepare(1, request, {})->seed;
    auto const b = preparer.prepare(1, request, {})->seed;
    EXPECT_NE(a, b);
    Preparer again(*backend, 7);
    EXPECT_EQ(again.prepare(1, request, {})->seed, a) << "an engine seed fixes the seeds it draws";
    request.sampling.seed = 11;
    EXPECT_EQ(preparer.prepare(1, request, {})->seed, 11U);
}

TEST_F(prepare, makes_breakers_only_for_dry) {
    auto request = with_tokens(3);
    EXPECT_EQ(preparer.prepare(1, request, {})->dry_breakers, nullptr);
    request.sampling.dry_multiplier = 1;
    auto const prepared = preparer.prepare(1, request, {});
    ASSERT_NE(prepared->dry_breakers, nullptr);
    EXPECT_TRUE(prepared->dry_breakers->contains('\n'));
}

TEST_F(prepare, knows_every_end_token) {
    ASSERT_EQ(preparer.end_tokens().size(), 1U);
    EXPECT_TRUE(backend->is_end_of_generation(preparer.end_tokens()[0]));
}

}  // namespace
}  // namespace hearth::engine
