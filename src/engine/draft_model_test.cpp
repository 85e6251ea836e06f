#include "engine/draft_model.h"

#include <gtest/gtest.h>

#include "engine/testing/recording_backend.h"

namespace hearth::engine {
namespace {

using testing::RecordingBackend;

llama::ScriptedOptions numbers(std::uint32_t cells = 200, std::uint32_t sequences = 2, std::uint32_t kept = 1) {
    llama::ScriptedOptions options;
    for (int i = 0; i < 10; ++i) options.pieces.push_back(std::to_string(i) + " ");
    options.repeat = true;
    options.kv_cells = cells;
    options.sequences_max = sequences;
    options.sequences_kept = kept;
    options.context_request = 150;
    return options;
}

std::vector<Token> text_of(std::size_t size, char c = 'x') { return std::vector<Token>(size, c); }
constexpr Token kPiece0 = 256;

struct Fixture {
    explicit Fixture(llama::ScriptedOptions options = numbers())
        : backend(std::move(options)), model(backend, backend.properties().vocabulary, clock) {}

    std::vector<Token> guess(DraftModel::Slot slot, std::span<Token const> text, std::uint32_t depth) {
        DraftModel::Wish wish{slot, text, depth};
        model.guess({&wish, 1});
        return wish.guesses;
    }

    ManualClock clock;
    RecordingBackend backend;
    DraftModel model;
};

TEST(draft_model, guesses_what_its_model_would_say) {
    Fixture f;
    auto const text = text_of(10);
    auto const slot = f.model.take(text);
    EXPECT_EQ(f.guess(slot, text, 4), (std::vector<Token>{kPiece0, kPiece0 + 1, kPiece0 + 2, kPiece0 + 3}));
    EXPECT_EQ(f.backend.batches.size(), 4U);
    EXPECT_EQ(f.backend.batches[0].size(), 10U);
    EXPECT_EQ(f.backend.batches[1].size(), 1U);
    EXPECT_EQ(f.backend.scripted().cells_used(), 13U);  // the last guess is not computed
}

TEST(draft_model, goes_on_from_what_came_true_and_takes_back_the_rest) {
    Fixture f;
    auto text = text_of(10);
    auto const slot = f.model.take(text);
    (void)f.guess(slot, text, 4);
    text.push_back(kPiece0);      // true
    text.push_back(kPiece0 + 7);  // another than was guessed
    EXPECT_EQ(f.model.behind(slot, text), 1U);
    f.backend.batches.clear();
    auto const guesses = f.guess(slot, text, 2);
    ASSERT_EQ(f.backend.batches.size(), 2U);
    ASSERT_EQ(f.backend.batches[0].size(), 1U);
    EXPECT_EQ(f.backend.batches[0][0].token, kPiece0 + 7);
    EXPECT_EQ(f.backend.batches[0][0].position, 11);
    EXPECT_EQ(guesses.size(), 2U);
    EXPECT_EQ(f.backend.scripted().sequence_tokens(slot).size(), 13U);
    // All true, and one more: two tokens are to be computed.
    text.insert(text.end(), guesses.begin(), guesses.end());
    text.push_back(kPiece0);
    EXPECT_EQ(f.model.behind(slot, text), 2U);
}

TEST(draft_model, passes_are_shared_and_each_is_as_deep_as_it_wants) {
    Fixture f;
    auto const a = text_of(5, 'a');
    auto const b = text_of(7, 'b');
    std::vector<DraftModel::Wish> wishes{{f.model.take(a), a, 3}, {f.model.take(b), b, 1}};
    f.model.guess(wishes);
    EXPECT_EQ(wishes[0].guesses.size(), 3U);
    EXPECT_EQ(wishes[1].guesses.size(), 1U);
    ASSERT_EQ(f.backend.batches.size(), 3U);
    EXPECT_EQ(f.backend.batches[0].size(), 12U);
    EXPECT_EQ(f.backend.batches[1].size(), 1U);
}

TEST(draft_model, catches_up_in_parts_and_leaves_the_last_token) {
    Fixture f;
    auto const text = text_of(20);
    auto const slot = f.model.take(text);
    EXPECT_EQ(f.model.behind(slot, text), 20U);
    EXPECT_TRUE(f.model.catch_up(slot, text, 8));
    EXPECT_EQ(f.model.behind(slot, text), 12U);
    EXPECT_TRUE(f.model.catch_up(slot, text, 100));
    EXPECT_EQ(f.model.behind(slot, text), 1U);
    EXPECT_TRUE(f.model.catch_up(slot, text, 100));
    for (auto const& batch : f.backend.batches) {
        for (auto const& entry : batch) EXPECT_FALSE(entry.wants_logits);
    }
    EXPECT_EQ(f.backend.batches.size(), 2U);
}

TEST(draft_model, the_next_turn_of_a_chat_finds_what_was_computed) {
    Fixture f;
    auto text = text_of(20);
    auto const slot = f.model.take(text);
    (void)f.guess(slot, text, 2);
    f.model.give_back(slot);
    text.push_back('y');
    EXPECT_EQ(f.model.behind(DraftModel::kNone, text), 1U);
    auto const again = f.model.take(text);
    EXPECT_EQ(again, slot);
    EXPECT_EQ(f.model.behind(again, text), 1U);
}

TEST(draft_model, another_with_the_same_prompt_shares_its_cells) {
    Fixture f;
    auto a = text_of(40);
    auto const first = f.model.take(a);
    EXPECT_TRUE(f.model.catch_up(first, a, 100));
    auto b = a;
    b.push_back('b');
    auto const used = f.backend.scripted().cells_used();
    auto const second = f.model.take(b);
    ASSERT_NE(second, DraftModel::kNone);
    EXPECT_NE(second, first);
    EXPECT_EQ(f.backend.scripted().cells_used(), used);
    EXPECT_EQ(f.model.behind(second, b), 2U);
}

TEST(draft_model, without_a_slot_or_cells_there_is_no_guess_and_nothing_fails) {
    Fixture f(numbers(64, 2, 0));
    auto const a = text_of(40, 'a');
    auto const b = text_of(40, 'b');
    auto const first = f.model.take(a);
    auto const second = f.model.take(b);
    EXPECT_EQ(f.model.take(text_of(3, 'c')), DraftModel::kNone);
    EXPECT_TRUE(f.model.catch_up(first, a, 100));
    EXPECT_FALSE(f.model.catch_up(second, b, 100));
    EXPECT_TRUE(f.guess(second, b, 4).empty());
    EXPECT_EQ(f.guess(first, a, 4).size(), 4U);
    EXPECT_FALSE(f.model.is_broken());
    // What nobody holds makes room.
    f.model.give_back(first);
    EXPECT_TRUE(f.model.catch_up(second, b, 100));
    EXPECT_EQ(f.guess(second, b, 4).size(), 4U);
    f.model.give_back(second);
    f.model.forget();
    EXPECT_EQ(f.backend.scripted().cells_used(), 0U);
    EXPECT_EQ(f.model.tokens(), 0U);
}

TEST(draft_model, holds_what_fits_its_context) {
    Fixture f;
    EXPECT_TRUE(f.model.can_hold(text_of(140), 10));
    EXPECT_FALSE(f.model.can_hold(text_of(141), 10));
}

TEST(draft_model, guesses_nothing_behind_an_end) {
    auto options = numbers();
    options.repeat = false;
    options.pieces = {"a ", "b "};
    Fixture f(options);
    auto const text = text_of(4);
    EXPECT_EQ(f.guess(f.model.take(text), text, 8).size(), 2U);
}

TEST(draft_model, gives_up_on_a_model_that_fails_again_and_again) {
    Fixture f;
    auto const text = text_of(4);
    auto const slot = f.model.take(text);
    f.backend.on_decode = [](auto) -> Status { return Error(Code::internal, "no"); };
    for (int i = 0; i < 8; ++i) {
        EXPECT_FALSE(f.model.is_broken());
        EXPECT_TRUE(f.guess(slot, text, 2).empty());
    }
    EXPECT_TRUE(f.model.is_broken());
}

TEST(draft_model, counts_the_time_it_takes) {
    Fixture f;
    f.backend.on_decode = [&](auto) {
        f.clock.advance(std::chrono::milliseconds(3));
        return ok();
    };
    auto const text = text_of(4);
    (void)f.guess(f.model.take(text), text, 4);
    EXPECT_NEAR(f.model.take_spent_ms(), 12, 1e-6);
    EXPECT_EQ(f.model.take_spent_ms(), 0);
}

std::string why_not(llama::ScriptedOptions const& target, llama::ScriptedOptions const& draft) {
    auto const checked = DraftModel::check(*llama::make_scripted(target), *llama::make_scripted(draft));
    return checked ? std::string() : checked.error().message;
}

TEST(draft_model, says_what_differs_between_vocabularies) {
    EXPECT_EQ(why_not(numbers(), numbers(64)), "");
    auto other = numbers();
    other.pieces[3] = "drei ";
    EXPECT_NE(why_not(numbers(), other).find("token 259 is '3 ' and 'drei '"), std::string::npos);
    auto larger = numbers();
    for (int i = 0; i < 200; ++i) larger.pieces.push_back("more" + std::to_string(i));
    EXPECT_NE(why_not(numbers(), larger).find("268 and 468 tokens, at most 128"), std::string::npos);
    auto shifted = numbers();
    shifted.pieces.push_back("one");
    EXPECT_NE(why_not(numbers(), shifted).find("token 266 is '<|im_start|>' and 'one'"), std::string::npos)
        << why_not(numbers(), shifted);
}

TEST(draft_model, is_nothing_for_models_that_cannot_go_back) {
    auto recurrent = numbers();
    recurrent.needs_checkpoints = true;
    EXPECT_NE(why_not(recurrent, numbers()).find("the model (scripted) cannot take back"), std::string::npos)
        << why_not(recurrent, numbers());
    EXPECT_NE(why_not(numbers(), recurrent).find("the draft model (scripted) cannot take back"), std::string::npos);
}

}  // namespace
}  // namespace hearth::engine
