#include "llama/scripted_backend.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace hearth::llama {
namespace {

std::vector<BatchEntry> entries(SequenceId sequence, Position from, std::vector<Token> const& tokens) {
    std::vector<BatchEntry> batch;
    for (Token const token : tokens) batch.push_back({token, from++, sequence, false});
    batch.back().wants_logits = true;
    return batch;
}

Token best(std::span<float const> logits) {
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// What the backend says greedily after `prompt`, up to `tokens_max` tokens.
std::string say(ScriptedBackend& backend, SequenceId sequence, std::vector<Token> const& prompt, int tokens_max) {
    std::string text;
    auto batch = entries(sequence, 0, prompt);
    for (int i = 0; i < tokens_max; ++i) {
        if (!backend.decode(batch)) return "decode failed";
        Token const token = best(backend.logits(batch.size() - 1));
        if (backend.is_end_of_generation(token)) return text + "|";
        backend.append_piece(token, text);
        batch = entries(sequence, batch.back().position + 1, {token});
    }
    return text;
}

Code code_of(Status const& status) { return status.has_value() ? Code{255} : status.error().code; }

TEST(scripted_backend, says_its_script_and_then_the_end_token) {
    auto backend = make_scripted({.pieces = {"Hel", "lo ", "Hel"}});
    EXPECT_EQ(say(*backend, 3, {1, 2, 3}, 100), "Hello Hel|");
    EXPECT_EQ(backend->properties().vocabulary, 256U + 2 + 2);
}

TEST(scripted_backend, repeats_its_script_for_ever_when_told_so) {
    auto backend = make_scripted({.pieces = {"a", "b"}, .repeat = true});
    EXPECT_EQ(say(*backend, 0, {1}, 5), "ababa");
    EXPECT_EQ(say(*make_scripted({.repeat = true}), 0, {1}, 5), "|");
}

TEST(scripted_backend, starts_its_script_over_after_another_prompt_in_the_same_sequence) {
    auto backend = make_scripted({.pieces = {"a", "b"}});
    EXPECT_EQ(say(*backend, 0, {1, 2}, 2), "ab");
    auto const batch = entries(0, 3, {7, 8});
    ASSERT_TRUE(backend->decode(batch));
    EXPECT_EQ(best(backend->logits(1)), 256);
}

TEST(scripted_backend, leaves_the_script_by_seed_at_temperature_two_but_hardly_ever_at_one) {
    auto backend = make_scripted({.pieces = {"a"}});
    ASSERT_TRUE(backend->decode(entries(0, 0, {1})));
    auto const logits = backend->logits(0);
    auto const share_of_winner = [&](double temperature) {
        double sum = 0;
        for (float const logit : logits) sum += std::exp((logit - 20.0) / temperature);
        return 1 / sum;
    };
    EXPECT_GT(share_of_winner(1), 0.99998);
    EXPECT_LT(share_of_winner(2), 0.98);
    EXPECT_GT(share_of_winner(2), 0.95);
}

TEST(scripted_backend, tokenises_text_to_bytes_and_special_text_only_when_asked) {
    auto backend = make_scripted({.pieces = {"ab"}});
    EXPECT_EQ(backend->tokenize("ab", {}).value(), (std::vector<Token>{'a', 'b'}));
    EXPECT_EQ(backend->tokenize("<|im_end|>", {}).value().size(), 10U);
    auto const special = backend->tokenize("<|im_end|>x", {.parse_special = true}).value();
    ASSERT_EQ(special.size(), 2U);
    EXPECT_TRUE(backend->is_end_of_generation(special[0]));
    EXPECT_EQ(backend->tokenize(std::string(domain::kPromptBytesMax + 1, 'x'), {}).error().code, Code::too_large);
    std::string out;
    backend->append_piece(-1, out);
    backend->append_piece(1 << 20, out);
    backend->append_piece(special[0], out);
    EXPECT_EQ(out, "");
}

TEST(scripted_backend, renders_chatml_and_keeps_special_text_of_messages_plain) {
    auto backend = make_scripted({});
    auto const chat = backend->render_chat({.messages = {{"user", "a<|im_end|>"}}}).value();
    EXPECT_EQ(chat.text, "<|im_start|>user\na<|im_end|><|im_end|>\n<|im_start|>assistant\n");
    auto const ends = std::count_if(chat.tokens.begin(), chat.tokens.end(),
                                    [&](Token t) { return backend->is_end_of_generation(t); });
    EXPECT_EQ(ends, 1);
    EXPECT_EQ(backend->render_chat({.messages = {{"pirate", "a"}}}).error().code, Code::invalid_argument);
    EXPECT_EQ(make_scripted({.chat_template = false})->render_chat({.messages = {{"user", "a"}}}).error().code,
              Code::unsupported);
}

TEST(scripted_backend, refuses_a_batch_that_breaks_the_rules_and_keeps_nothing_of_it) {
    auto backend = make_scripted({.context_request = 4, .sequences_max = 2, .sequences_kept = 0, .batch_max = 8});
    auto const code = [&](std::vector<BatchEntry> const& batch) { return code_of(backend->decode(batch)); };
    EXPECT_EQ(code({}), Code::invalid_argument);
    EXPECT_EQ(code(std::vector<BatchEntry>(9, {1, 0, 0, false})), Code::invalid_argument);
    EXPECT_EQ(code(entries(2, 0, {1})), Code::invalid_argument);
    EXPECT_EQ(code(entries(-1, 0, {1})), Code::invalid_argument);
    EXPECT_EQ(code(entries(0, 1, {1})), Code::invalid_argument);
    EXPECT_EQ(code(entries(0, 0, {1, 2, 3, 4, 5})), Code::invalid_argument);
    EXPECT_EQ(code(entries(0, 0, {1, 9999})), Code::invalid_argument);
    EXPECT_EQ(code(entries(0, 0, {1, -1})), Code::invalid_argument);
    EXPECT_EQ(backend->cells_used(), 0U);
    EXPECT_TRUE(backend->decode(entries(0, 0, {1, 2, 3, 4})));
}

TEST(scripted_backend, is_overloaded_without_cells_and_keeps_nothing_of_the_batch) {
    auto backend = make_scripted({.kv_cells = 4});
    ASSERT_TRUE(backend->decode(entries(0, 0, {1, 2, 3})));
    EXPECT_EQ(code_of(backend->decode(entries(1, 0, {1, 2}))), Code::overloaded);
    EXPECT_EQ(backend->cells_used(), 3U);
    EXPECT_EQ(backend->sequences_used(), 1U);
}

TEST(scripted_backend, counts_shared_cells_once_until_the_last_owner_goes) {
    auto backend = make_scripted({.pieces = {"a", "b", "c"}});
    ASSERT_TRUE(backend->decode(entries(0, 0, {1, 2, 3})));
    ASSERT_TRUE(backend->copy_sequence(0, 1, 3));
    ASSERT_TRUE(backend->copy_sequence(0, 2, 2));
    EXPECT_EQ(backend->cells_used(), 3U);
    ASSERT_TRUE(backend->decode(entries(1, 3, {256})));
    EXPECT_EQ(best(backend->logits(0)), 257) << "a copy goes on where the script was";
    EXPECT_EQ(backend->cells_used(), 4U);
    ASSERT_TRUE(backend->remove(0, 0));
    EXPECT_EQ(backend->cells_used(), 4U);
    ASSERT_TRUE(backend->remove(1, 3));
    EXPECT_EQ(backend->cells_used(), 3U);
    ASSERT_TRUE(backend->remove(1, 0));
    EXPECT_EQ(backend->cells_used(), 2U);
    EXPECT_EQ(backend->sequence_tokens(2), (std::vector<Token>{1, 2}));
    ASSERT_TRUE(backend->remove(2, 0));
    EXPECT_EQ(backend->cells_used(), 0U);
}

TEST(scripted_backend, copies_only_into_an_empty_sequence_and_only_what_is_there) {
    auto backend = make_scripted({});
    ASSERT_TRUE(backend->decode(entries(0, 0, {1})));
    ASSERT_TRUE(backend->decode(entries(1, 0, {1})));
    EXPECT_FALSE(backend->copy_sequence(0, 1, 1));
    EXPECT_FALSE(backend->copy_sequence(0, 0, 1));
    EXPECT_FALSE(backend->copy_sequence(0, 2, 2));
    EXPECT_FALSE(backend->copy_sequence(0, 99, 1));
    EXPECT_FALSE(backend->remove(99, 0));
    EXPECT_FALSE(backend->remove(0, -1));
}

TEST(scripted_backend, parts_of_a_sequence_make_the_whole) {
    auto backend = make_scripted({.pieces = {"a", "b"}, .kv_cells = 60});
    std::vector<BatchEntry> batch;
    for (Position i = 0; i < 20; ++i) batch.push_back({static_cast<Token>('a' + i), i, 0, false});
    ASSERT_TRUE(backend->decode(batch));
    auto const first = backend->save_part(0, 0, 12).value();
    auto const second = backend->save_part(0, 8, 20).value();
    ASSERT_TRUE(backend->append_part(1, first, 10));
    EXPECT_EQ(code_of(backend->append_part(1, first, 10)), Code::invalid_argument);
    EXPECT_EQ(code_of(backend->append_part(2, second, 20)), Code::invalid_argument);
    EXPECT_EQ(code_of(backend->restore(2, second)), Code::corrupt);
    ASSERT_TRUE(backend->append_part(1, second, 20));
    EXPECT_EQ(backend->sequence_tokens(1), backend->sequence_tokens(0));
    EXPECT_EQ(backend->cells_used(), 40U);
    EXPECT_FALSE(backend->save_part(0, 3, 21));
}

TEST(scripted_backend, goes_on_exactly_where_it_was_after_save_and_restore) {
    auto backend = make_scripted({.pieces = {"a", "b", "c"}, .kv_cells = 4});
    ASSERT_TRUE(backend->decode(entries(0, 0, {1, 2, 3})));
    auto const blob = backend->save(0).value();
    EXPECT_EQ(code_of(backend->restore(0, blob)), Code::invalid_argument);
    EXPECT_EQ(code_of(backend->restore(1, blob)), Code::overloaded);
    EXPECT_EQ(backend->sequences_used(), 1U);
    ASSERT_TRUE(backend->remove(0, 0));
    ASSERT_TRUE(backend->restore(1, blob));
    EXPECT_EQ(backend->sequence_tokens(1), (std::vector<Token>{1, 2, 3}));
    ASSERT_TRUE(backend->decode(entries(1, 3, {256})));
    EXPECT_EQ(best(backend->logits(0)), 257);
}

TEST(scripted_backend, refuses_every_broken_blob_and_leaves_the_sequence_empty) {
    auto backend = make_scripted({});
    ASSERT_TRUE(backend->decode(entries(0, 0, {1, 2, 3})));
    auto const blob = backend->save(0).value();
    for (std::size_t length = 0; length < blob.size(); ++length) {
        EXPECT_EQ(code_of(backend->restore(1, std::span(blob).first(length))), Code::corrupt);
    }
    auto longer = blob;
    longer.push_back(std::byte{0});
    EXPECT_EQ(code_of(backend->restore(1, longer)), Code::corrupt);
    EXPECT_EQ(backend->cells_used(), 3U);
}

TEST(scripted_backend, fails_when_told_and_keeps_nothing_of_that_batch) {
    auto backend = make_scripted({.before_decode = [](std::uint64_t index) {
        return index == 1 ? Status(Error(Code::internal, "told so")) : ok();
    }});
    ASSERT_TRUE(backend->decode(entries(0, 0, {1})));
    EXPECT_EQ(code_of(backend->decode(entries(0, 1, {1}))), Code::internal);
    EXPECT_EQ(backend->cells_used(), 1U);
    EXPECT_TRUE(backend->decode(entries(0, 1, {1})));
}

TEST(scripted_backend, embeds_equal_inputs_equally_and_others_differently) {
    auto backend = make_scripted({});
    std::vector<std::vector<Token>> const inputs{{1, 2}, {1, 2}, {3}};
    auto const vectors = backend->embed(inputs).value();
    ASSERT_EQ(vectors.size(), 3U);
    EXPECT_EQ(vectors[0].size(), backend->properties().info.embedding);
    EXPECT_EQ(vectors[0], vectors[1]);
    EXPECT_NE(vectors[0], vectors[2]);
    EXPECT_FALSE(backend->embed(std::vector<std::vector<Token>>{{}}));
}

// Random operations against a model that keeps, per sequence, only its tokens
// and the birth number of every cell.
TEST(scripted_backend, keeps_its_books_under_ten_thousand_random_operations) {
    std::mt19937 random(7);
    auto backend = make_scripted({.pieces = {"x"}, .repeat = true, .kv_cells = 60, .sequences_max = 6});
    std::vector<std::vector<int>> model(6);
    int born = 0;
    auto const used = [&] {
        std::vector<int> all;
        for (auto const& cells : model) all.insert(all.end(), cells.begin(), cells.end());
        std::sort(all.begin(), all.end());
        return static_cast<std::uint32_t>(std::unique(all.begin(), all.end()) - all.begin());
    };
    for (int step = 0; step < 10000; ++step) {
        auto const a = random() % 6;
        auto const b = random() % 6;
        auto const size = static_cast<Position>(model[a].size());
        auto const sequence = static_cast<SequenceId>(a);
        switch (random() % 4) {
            case 0: {
                std::size_t const count = 1 + random() % 8;
                auto const batch = entries(sequence, size, std::vector<Token>(count, 5));
                bool const fits = used() + count <= 60;
                ASSERT_EQ(backend->decode(batch).has_value(), fits);
                for (std::size_t i = 0; fits && i < count; ++i) model[a].push_back(born++);
                break;
            }
            case 1: {
                auto const end = static_cast<Position>(random() % 12);
                bool const fits = a != b && model[b].empty() && end <= size;
                ASSERT_EQ(backend->copy_sequence(sequence, static_cast<SequenceId>(b), end).has_value(), fits);
                if (fits) model[b].assign(model[a].begin(), model[a].begin() + end);
                break;
            }
            case 2: {
                auto const begin = random() % 12;
                ASSERT_TRUE(backend->remove(sequence, static_cast<Position>(begin)));
                if (begin < model[a].size()) model[a].resize(begin);
                break;
            }
            default: {
                auto const blob = backend->save(sequence).value();
                ASSERT_TRUE(backend->remove(sequence, 0));
                ASSERT_TRUE(backend->restore(sequence, blob).has_value() || used() + model[a].size() > 60);
                bool const restored = backend->sequence_tokens(sequence).size() == model[a].size();
                for (auto& cell : model[a]) cell = born++;
                if (!restored) model[a].clear();
            }
        }
        ASSERT_EQ(backend->cells_used(), used()) << "step " << step;
    }
}

}  // namespace
}  // namespace hearth::llama
