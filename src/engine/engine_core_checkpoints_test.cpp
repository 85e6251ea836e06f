// Prefixes of models that cannot go back: shared by checkpoints. Tokens computed
// are counted, nothing is timed.
#include <gtest/gtest.h>

#include <random>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using testing::Driver;

llama::ScriptedOptions recurrent(std::uint32_t cells = 16384, std::uint32_t kept = 24) {
    llama::ScriptedOptions options;
    for (int i = 0; i < 30; ++i) options.pieces.push_back(std::to_string(i) + " ");
    options.kv_cells = cells;
    options.sequences_max = 8;
    options.sequences_kept = kept;
    options.needs_checkpoints = true;
    options.context_request = 4096;
    return options;
}

Options caching() { return {.prompt_tokens = Driver::kPromptTokens, .prefix_cache = true, .reserve_output = false}; }

using Text = std::vector<domain::Token>;

Text noise(std::size_t size, std::uint32_t seed) {
    std::mt19937 random(seed);
    Text text(size);
    for (auto& token : text) token = static_cast<domain::Token>(random() % 256);
    return text;
}

Text operator+(Text a, Text const& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

domain::GenerateRequest saying(Text text, std::uint32_t most = 40) {
    domain::GenerateRequest request;
    request.prompt = domain::TokenPrompt{std::move(text)};
    request.sampling.temperature = 0;
    request.max_tokens = most;
    return request;
}

class Shared : public ::testing::Test {
protected:
    explicit Shared(llama::ScriptedOptions options = recurrent()) : driver(std::move(options), caching()) {
        end = driver.preparer.end_tokens().front();
    }

    Text message(std::size_t size, std::uint32_t seed) const { return noise(size, seed) + Text{end}; }
    std::uint64_t computed() const { return driver.core.stats().prompt_tokens_total; }

    // Answers one request and gives the tokens that are in the cache behind its prompt.
    std::string ask(RequestId id, Text text) {
        driver.submit(id, saying(std::move(text)));
        driver.run();
        EXPECT_TRUE(driver.of(id).done.has_value());
        return driver.of(id).choices[0].text;
    }

    // What the script says, as tokens: all but the end token are computed.
    Text answer() const {
        Text tokens;
        for (int i = 0; i < 30; ++i) tokens.push_back(256 + i);
        return tokens;
    }

    Driver driver;
    domain::Token end = 0;
};

TEST_F(Shared, six_users_with_one_system_prompt_compute_it_once) {
    auto const system = message(2000, 1);
    std::uint64_t unbounded = system.size();
    for (RequestId id = 1; id <= 6; ++id) {
        auto const question = message(30, 100 + static_cast<std::uint32_t>(id));
        unbounded += question.size();
        driver.submit(id, saying(system + question));
    }
    driver.run();
    EXPECT_LE(static_cast<double>(computed()), 1.05 * static_cast<double>(unbounded));
    for (RequestId id = 2; id <= 6; ++id) EXPECT_EQ(driver.of(id).started->cached_tokens, system.size()) << id;
    driver.expect_empty();
}

TEST_F(Shared, chats_of_six_users_in_turn_compute_only_what_is_new) {
    auto const system = message(200, 1);
    std::vector<Text> chats(6, system);
    std::uint64_t unbounded = system.size();
    RequestId id = 0;
    for (std::uint32_t turn = 0; turn < 8; ++turn) {
        for (std::uint32_t user = 0; user < 6; ++user) {
            auto const question = message(40, 1000 + turn * 10 + user);
            chats[user] = chats[user] + question;
            unbounded += question.size();
            auto const said = ask(++id, chats[user]);
            chats[user] = chats[user] + answer() + Text{end};
            if (turn > 0) unbounded += 1;  // the end token of the answer was sampled, not computed
            EXPECT_FALSE(said.empty());
        }
    }
    EXPECT_LE(static_cast<double>(computed()), 1.05 * static_cast<double>(unbounded));
    driver.expect_empty();
}

// The answer comes back in other tokens than it was said in: the prompt's end counts.
TEST_F(Shared, a_chat_goes_on_from_the_end_of_its_prompt_when_the_answer_reads_otherwise) {
    auto const first = message(300, 1);
    ask(1, first);
    auto const second = first + Text{'0', ' ', '1', ' '} + message(50, 2);
    ask(2, second);
    EXPECT_EQ(driver.of(2).started->cached_tokens, first.size());
}

TEST_F(Shared, a_parting_without_a_message_border_is_found_by_the_second_and_used_by_the_third) {
    auto const common = noise(700, 1);
    ask(1, common + noise(100, 2));
    ask(2, common + noise(100, 3));
    EXPECT_EQ(driver.of(2).started->cached_tokens, 512U) << "where a chunk ended";
    ask(3, common + noise(100, 4));
    EXPECT_EQ(driver.of(3).started->cached_tokens, 700U);
    driver.expect_empty();
}

TEST_F(Shared, answers_are_what_they_are_without_a_cache) {
    Driver cold(recurrent());
    auto const system = message(150, 1);
    for (RequestId id = 1; id <= 6; ++id) {
        auto request = saying(system + message(20 * id, static_cast<std::uint32_t>(id)));
        request.sampling.temperature = 2.5F;
        request.sampling.seed = id;
        request.choices = id % 2 == 0 ? 3 : 1;
        driver.submit(id, request);
        cold.submit(id, request);
    }
    driver.run();
    cold.run();
    for (RequestId id = 1; id <= 6; ++id) {
        for (auto& [index, said] : driver.of(id).choices) EXPECT_EQ(said.text, cold.of(id).choices[index].text) << id;
    }
    EXPECT_LT(computed(), cold.core.stats().prompt_tokens_total);
    driver.expect_empty();
}

// Few cells and few ids: sequences are swapped, leaves cut by copying, and dropped.
TEST(CheckpointsUnderPressure, nothing_leaks_and_every_answer_is_right) {
    for (std::uint32_t seed = 0; seed < 30; ++seed) {
        std::mt19937 random(seed);
        auto options = recurrent(400 + static_cast<std::uint32_t>(random() % 600), 2 + seed % 4);
        options.context_request = 400;
        Driver driver(options, caching());
        Driver cold(options);
        auto const end = driver.preparer.end_tokens().front();
        for (RequestId id = 1; id <= 24; ++id) {
            Text text;
            for (auto messages = 1 + random() % 3; messages > 0; --messages)
                text = text + noise(20 + random() % 80, static_cast<std::uint32_t>(random() % 3)) + Text{end};
            auto request = saying(text, 1 + static_cast<std::uint32_t>(random() % 30));
            request.choices = random() % 5 == 0 ? 2 : 1;
            driver.submit(id, request);
            cold.submit(id, request);
            for (auto steps = random() % 6; steps > 0; --steps) driver.step();
            if (random() % 8 == 0) {
                driver.cancel(id);
                cold.cancel(id);
            }
        }
        driver.run();
        cold.run();
        for (RequestId id = 1; id <= 24; ++id) {
            if (!driver.of(id).done || !cold.of(id).done) continue;
            for (auto& [index, said] : driver.of(id).choices) {
                auto const& alone = cold.of(id).choices[index];
                bool const cancelled = said.done->reason == domain::FinishReason::cancelled ||
                                       alone.done->reason == domain::FinishReason::cancelled;
                if (cancelled) continue;
                EXPECT_EQ(said.text, alone.text) << "seed " << seed << " request " << id;
            }
        }
        driver.expect_empty();
    }
}

TEST(CheckpointBytes, are_bounded) {
    Options options = caching();
    options.checkpoint_bytes_max = 20;  // two of the scripted backend's
    Driver driver(recurrent(), options);
    for (RequestId id = 1; id <= 5; ++id) {
        driver.submit(id, saying(noise(600, static_cast<std::uint32_t>(id))));
        driver.run();
        EXPECT_LE(driver.core.checkpoint_bytes(), 20U);
        EXPECT_GT(driver.core.checkpoint_bytes(), 0U);
    }
    driver.expect_empty();
    EXPECT_EQ(driver.core.checkpoint_bytes(), 0U);
}

}  // namespace
}  // namespace hearth::engine
