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

TEST_F(prepare, reads_special_tokens_where_a_text_prompt_may_name_them) {
    domain::GenerateRequest request;
    request.prompt = domain::TextPrompt{"a<|im_end|>", true};
    auto const prepared = preparer.prepare(3, request, {});
    ASSERT_TRUE(prepared.has_value());
    EXPECT_EQ(prepared->prompt.size(), 2U);
}

TEST_F(prepare, marks_the_texts_to_fill_in_between) {
    domain::GenerateRequest request;
    request.prompt = domain::InfillPrompt{"ab", "<|im_end|>"};
    auto const prepared = preparer.prepare(3, request, {});
    ASSERT_TRUE(prepared.has_value());
    ASSERT_EQ(prepared->prompt.size(), 15U);
    EXPECT_EQ(prepared->prompt[0], prepared->prompt[3]) << "a mark before each text, and one behind";
    EXPECT_EQ(prepared->prompt[0], prepared->prompt[14]);
    llama::ScriptedOptions options;
    options.infills = false;
    auto const without = llama::make_scripted(options);
    Preparer other{*without, 7};
    auto const refused = other.prepare(3, request, {});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Code::unsupported);
    EXPECT_EQ(refused.error().param, "suffix");
}

TEST_F(prepare, puts_the_context_before_the_prompt) {
    domain::GenerateRequest request;
    request.prompt = domain::TextPrompt{"ab"};
    request.context = {7, 8, 9};
    auto const prepared = preparer.prepare(3, request, {});
    ASSERT_TRUE(prepared.has_value());
    EXPECT_EQ(prepared->prompt, (std::vector<Token>{7, 8, 9, 'a', 'b'}));
    request.context = {1, 99999};
    EXPECT_EQ(error_of(request).param, "context");
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

TEST_F(prepare, who_wants_a_larger_context_has_what_model_and_cells_hold) {
    llama::ScriptedOptions options;
    options.context_request = 100;
    options.context_train = 1000;
    options.kv_cells = 300;
    options.sequences_max = 4;
    auto const large = llama::make_scripted(options);
    Preparer also{*large, 7};
    for (auto const& [wanted, given] : {std::pair{0U, 100U}, {50U, 100U}, {200U, 200U}, {5000U, 300U}}) {
        auto request = with_tokens(60);
        request.context_tokens = wanted;
        auto const prepared = also.prepare(1, request, {});
        ASSERT_TRUE(prepared);
        EXPECT_EQ(prepared->context, given) << wanted;
        EXPECT_EQ(prepared->tokens_max, given - 60);
    }
    auto request = with_tokens(199);
    EXPECT_FALSE(also.prepare(1, request, {}));
    request.context_tokens = 200;
    EXPECT_TRUE(also.prepare(1, request, {}));
    request = with_tokens(200);
    request.context_tokens = 200;
    EXPECT_EQ(domain::parse_context_overflow(also.prepare(1, request, {}).error()),
              (domain::ContextOverflow{200, 200}));
}

TEST_F(prepare, caps_max_tokens_at_what_the_context_leaves) {
    auto request = with_tokens(90);
    EXPECT_EQ(preparer.prepare(1, request, {})->tokens_max, 10U);
    request.max_tokens = 3;
    EXPECT_EQ(preparer.prepare(1, request, {})->tokens_max, 3U);
    request.max_tokens = 1 << 20;
    EXPECT_EQ(preparer.prepare(1, request, {})->tokens_max, 10U);
}

TEST_F(prepare, leaves_out_the_middle_of_what_is_too_long_if_asked_to) {
    auto request = with_tokens(0);
    std::vector<Token> tokens;
    for (Token i = 0; i < 200; ++i) tokens.push_back(i);
    request.prompt = domain::TokenPrompt{tokens};
    EXPECT_EQ(error_of(request).code, Code::context_overflow);

    request.overflow = domain::Overflow::truncate_middle;
    auto prepared = preparer.prepare(1, request, {});
    ASSERT_TRUE(prepared) << prepared.error().message;
    // 100 tokens, a quarter of them for the answer; a quarter of the rest is the head.
    EXPECT_EQ(prepared->prompt.size(), 75U);
    EXPECT_EQ(prepared->left_out, 125U);
    EXPECT_EQ(prepared->tokens_max, 25U);
    EXPECT_EQ(prepared->prompt[17], 17);
    EXPECT_EQ(prepared->prompt[18], 18 + 125);
    EXPECT_EQ(prepared->prompt.back(), 199);

    request.max_tokens = 5;
    request.keep_tokens = 90;
    prepared = preparer.prepare(1, request, {});
    ASSERT_TRUE(prepared) << prepared.error().message;
    EXPECT_EQ(prepared->prompt.size(), 95U);
    EXPECT_EQ(prepared->prompt[89], 89);
    EXPECT_EQ(prepared->prompt[90], 195);

    request.keep_tokens = 95;
    EXPECT_EQ(error_of(request).param, "n_keep");
    request.prompt = domain::TokenPrompt{std::vector<Token>(99, 1)};
    prepared = preparer.prepare(1, request, {});
    ASSERT_TRUE(prepared) << "what fits stays whole";
    EXPECT_EQ(prepared->left_out, 0U);
}

// The context holds 100 tokens.
TEST_F(prepare, drops_blocks_behind_the_head_for_a_request_that_shifts) {
    auto request = with_tokens(0);
    std::vector<Token> tokens;
    for (Token i = 0; i < 205; ++i) tokens.push_back(i);
    request.prompt = domain::TokenPrompt{tokens};
    request.overflow = domain::Overflow::shift;
    request.keep_tokens = 20;
    auto prepared = preparer.prepare(1, request, {});
    ASSERT_TRUE(prepared) << prepared.error().message;
    // 80 behind the head, blocks of 40: of 185 tokens there 3 blocks go.
    EXPECT_EQ(prepared->left_out, 120U);
    EXPECT_EQ(prepared->prompt.size(), 85U);
    EXPECT_EQ(prepared->prompt[19], 19);
    EXPECT_EQ(prepared->prompt[20], 140);
    EXPECT_EQ(prepared->prompt.back(), 204);
    ASSERT_TRUE(prepared->shift);
    EXPECT_EQ(prepared->shift->keep, 20U);
    EXPECT_EQ(prepared->shift->discard, 0U);
    EXPECT_EQ(prepared->tokens_max, 100U) << "without a limit of its own, a context's worth";
    request.max_tokens = 5000;
    request.discard_tokens = 79;
    prepared = preparer.prepare(1, request, {});
    ASSERT_TRUE(prepared) << prepared.error().message;
    EXPECT_EQ(prepared->tokens_max, 5000U);
    EXPECT_EQ(prepared->shift->discard, 79U);
    for (std::size_t size = 1; size < 400; ++size) {
        request.prompt = domain::TokenPrompt{std::vector<Token>(size, 1)};
        prepared = preparer.prepare(1, request, {});
        ASSERT_TRUE(prepared) << prepared.error().message;
        EXPECT_EQ(prepared->prompt.size() + prepared->left_out, size);
        EXPECT_LT(prepared->prompt.size(), 100U) << size;
        EXPECT_EQ(prepared->left_out == 0, size < 100);
        EXPECT_EQ(prepared->shift->keep, std::min<std::size_t>(20, size));
    }
}

TEST(prepare_deterministic, is_as_the_model_can) {
    for (auto const can : {domain::Determinism::no, domain::Determinism::on_request, domain::Determinism::always}) {
        llama::ScriptedOptions options;
        options.determinism = can;
        auto const backend = llama::make_scripted(options);
        Preparer preparer(*backend, 1);
        domain::GenerateRequest request;
        request.prompt = domain::TokenPrompt{{1, 2, 3}};
        EXPECT_FALSE(preparer.prepare(1, request, {})->pinned);
        request.deterministic = true;
        auto const prepared = preparer.prepare(1, request, {});
        ASSERT_EQ(prepared.has_value(), can != domain::Determinism::no);
        if (!prepared) {
            EXPECT_EQ(prepared.error().code, Code::unsupported);
            EXPECT_EQ(prepared.error().param, "deterministic");
            continue;
        }
        EXPECT_EQ(prepared->pinned, can == domain::Determinism::on_request);
        EXPECT_EQ(prepared->cache_prompt, can == domain::Determinism::always);
        EXPECT_EQ(prepared->speculate, can == domain::Determinism::always);
    }
}

TEST_F(prepare, refuses_shifts_that_leave_nothing) {
    auto request = with_tokens(99);
    request.overflow = domain::Overflow::shift;
    request.keep_tokens = 20;
    request.discard_tokens = 80;
    EXPECT_EQ(error_of(request).param, "n_discard");
    EXPECT_EQ(error_of(request).message,
              "'n_discard': 20 tokens are to be kept and 80 dropped at a time, but the context holds 100");
    request.discard_tokens.reset();
    request.keep_tokens = 99;
    EXPECT_EQ(error_of(request).param, "n_keep");
    request.keep_tokens = 98;
    EXPECT_TRUE(preparer.prepare(1, request, {}));
    request.prompt = domain::TokenPrompt{std::vector<Token>(30, 1)};
    request.keep_tokens = 1000;
    EXPECT_EQ(preparer.prepare(1, request, {})->shift->keep, 30U) << "the prompt at most";
}

TEST_F(prepare, keeps_the_first_message_of_a_chat) {
    domain::GenerateRequest request;
    request.overflow = domain::Overflow::truncate_middle;
    request.prompt = domain::ChatPrompt{{{"system", "0123456789"}, {"user", std::string(300, 'u')}}, true};
    auto const whole = backend->render_chat(std::get<domain::ChatPrompt>(request.prompt));
    auto const first = backend->render_chat({{{"system", "0123456789"}}, false});
    ASSERT_TRUE(whole && first);
    auto const head = first->tokens.size();
    ASSERT_GT(head, 75U / 4);
    ASSERT_LT(head, 75U / 2);
    auto const prepared = preparer.prepare(1, request, {});
    ASSERT_TRUE(prepared) << prepared.error().message;
    EXPECT_TRUE(std::equal(first->tokens.begin(), first->tokens.end(), prepared->prompt.begin()));
    EXPECT_EQ(prepared->prompt.size(), 75U);
    EXPECT_TRUE(std::equal(prepared->prompt.rbegin(), prepared->prompt.rbegin() + 30, whole->tokens.rbegin()));
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
