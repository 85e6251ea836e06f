// Requests with adapters beside those without: rows of one batch share a set, nobody
// starves, and no cell that one set computed serves another. The scripted backend refuses
// to go on with a sequence of another set, and says something else with each.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "engine/testing/driver.h"
#include "testing/memory_folder.h"

namespace hearth::engine {
namespace {

using kvstore::testing::MemoryFolder;
using testing::counting;
using testing::Driver;
using testing::prompt_of;

constexpr int kPieces = 20;
constexpr auto kStep = std::chrono::milliseconds(20);

// What the scripted model says with a set.
std::string said_with(std::uint32_t set, int pieces = kPieces) {
    std::string text;
    for (int i = 0; i < pieces; ++i) text += std::to_string((i + static_cast<int>(set)) % kPieces) + " ";
    return text;
}

llama::ScriptedOptions with_sets(std::uint32_t sets) {
    auto options = counting(kPieces);
    options.adapters = sets;
    return options;
}

domain::GenerateRequest ask(std::uint32_t set, std::size_t prompt = 100) {
    auto request = prompt_of(prompt);
    request.adapters = set;
    return request;
}

Options cached() {
    Options options;
    options.prompt_tokens = 64;
    return options;
}

// One token a step.
Options plain() {
    Options options;
    options.prompt_tokens = 256;
    options.prefix_cache = options.speculation = options.reserve_output = false;
    return options;
}

// Each decode takes a while.
void let_time_pass(Driver& driver, Duration step = kStep) {
    driver.backend.on_decode = [&driver, step](auto) {
        driver.clock.advance(step);
        return ok();
    };
}

TEST(engine_adapters, each_request_gets_the_answer_of_its_set) {
    Driver driver(with_sets(3));
    let_time_pass(driver);
    for (RequestId id = 1; id <= 8; ++id) driver.submit(id, ask(static_cast<std::uint32_t>(id % 4), 30 + id * 17));
    driver.run();
    for (RequestId id = 1; id <= 8; ++id) {
        EXPECT_FALSE(driver.of(id).failed) << driver.of(id).failed->message;
        EXPECT_EQ(driver.of(id).text(), said_with(id % 4)) << id;
    }
    std::set<std::uint32_t> const used(driver.backend.adapters.begin(), driver.backend.adapters.end());
    EXPECT_EQ(used, (std::set<std::uint32_t>{0, 1, 2, 3}));
    driver.expect_empty();
}

TEST(engine_adapters, requests_of_one_set_share_its_steps) {
    Driver driver(with_sets(1));
    let_time_pass(driver);
    for (RequestId id = 1; id <= 4; ++id) driver.submit(id, ask(1, 10));
    driver.run();
    std::size_t const rows = 4 * (10 + kPieces);
    EXPECT_LT(driver.backend.batches.size(), rows / 3) << "they were computed one by one";
}

TEST(engine_adapters, a_stream_alone_with_its_set_is_not_held_up_by_many_of_another) {
    auto scripted = with_sets(1);
    scripted.repeat = true;
    Driver driver(scripted, plain());
    let_time_pass(driver);
    for (RequestId id = 1; id <= 12; ++id) {
        auto request = ask(id == 12 ? 1 : 0, 10);
        request.max_tokens = 200;
        driver.submit(id, request);
    }
    for (int i = 0; i < 60; ++i) driver.step();
    auto const one = driver.of(12).tokens(), other = driver.of(1).tokens();
    EXPECT_GT(one, 15U);
    EXPECT_GT(other, 15U);
    EXPECT_LT(std::max(one, other), 2 * std::min(one, other)) << one << " and " << other;
}

// A change of the set has its price, so short steps come in rows.
TEST(engine_adapters, turns_last_about_as_long_as_a_step_may) {
    auto scripted = with_sets(1);
    scripted.repeat = true;
    Driver driver(scripted, plain());
    let_time_pass(driver, std::chrono::milliseconds(6));
    for (RequestId id = 1; id <= 2; ++id) {
        auto request = ask(static_cast<std::uint32_t>(id - 1), 10);
        request.max_tokens = 100;
        driver.submit(id, request);
    }
    for (int i = 0; i < 100; ++i) driver.step();
    std::size_t changes = 0;
    auto const& sets = driver.backend.adapters;
    for (std::size_t i = 1; i < sets.size(); ++i) changes += sets[i] != sets[i - 1] ? 1 : 0;
    EXPECT_GE(changes, 7U);
    EXPECT_LE(changes, 14U);
}

// Where prompts and streams take turns, each set takes them by itself: another's step is no turn of its own.
TEST(engine_adapters, streams_and_prompts_of_a_set_take_turns_whatever_another_set_does) {
    for (bool const others_stream : {true, false}) {
        auto scripted = with_sets(1);
        scripted.repeat = true;
        scripted.mixing_saves_nothing = true;
        Driver driver(scripted, plain());
        let_time_pass(driver, std::chrono::milliseconds(70));  // a step is a turn
        auto stream = ask(1, 10);
        stream.max_tokens = 1000;
        driver.submit(1, stream);
        for (int i = 0; i < 4; ++i) driver.step();
        auto const before = driver.of(1).tokens();
        driver.submit(2, ask(1, 24));  // beside it, of the same set
        auto other = ask(0, others_stream ? 10 : 24);
        other.max_tokens = 1000;
        driver.submit(3, other);
        for (int i = 0; i < 40; ++i) driver.step();
        EXPECT_GT(driver.of(1).tokens(), before + 5) << "the stream starves, others stream: " << others_stream;
        EXPECT_GT(driver.of(2).tokens(), 0U) << "the prompt starves, others stream: " << others_stream;
        EXPECT_GT(driver.of(3).tokens(), 0U);
    }
}

TEST(engine_adapters, streams_beyond_a_batch_take_turns_within_their_set) {
    auto scripted = with_sets(1);
    scripted.repeat = true;
    scripted.batch_max = 4;
    Driver driver(scripted, plain());
    let_time_pass(driver, std::chrono::milliseconds(70));
    for (RequestId id = 1; id <= 8; ++id) {
        auto request = ask(id <= 6 ? 1 : 0, 3);
        request.max_tokens = 1000;
        driver.submit(id, request);
    }
    for (int i = 0; i < 80; ++i) driver.step();
    for (RequestId id = 1; id <= 8; ++id) EXPECT_GT(driver.of(id).tokens(), 5U) << id;
}

class BothKinds : public ::testing::TestWithParam<bool> {
protected:
    static llama::ScriptedOptions scripted() {
        auto options = with_sets(2);
        options.needs_checkpoints = GetParam();
        options.mixing_saves_nothing = GetParam();
        return options;
    }
};

TEST_P(BothKinds, NoPrefixIsFoundByAnotherSet) {
    Driver driver(scripted(), cached());
    let_time_pass(driver);
    RequestId id = 0;
    // Models with checkpoints learn at the second time where texts part.
    for (int round = 0; round < 3; ++round) {
        for (std::uint32_t const set : {0U, 1U, 2U}) {
            driver.submit(++id, ask(set));
            driver.run();
            auto& said = driver.of(id);
            ASSERT_TRUE(said.done) << said.failed->message;
            EXPECT_EQ(said.text(), said_with(set));
            if (round == 1) continue;
            EXPECT_EQ(said.done->usage.cached_tokens > 0, round == 2) << "round " << round << ", set " << set;
        }
    }
    driver.expect_empty();
}

TEST_P(BothKinds, AllAtOnceWithGuessesAndLittleRoomAllAnswersAreRight) {
    auto options = scripted();
    options.kv_cells = 700;
    options.context_request = 300;
    options.sequences_max = 6;
    Driver driver(options, cached());
    let_time_pass(driver);
    for (RequestId id = 1; id <= 24; ++id) {
        auto request = ask(static_cast<std::uint32_t>(id % 3), 40 + (id * 37) % 120);
        request.priority = static_cast<domain::Priority>(id % domain::kPriorityCount);
        driver.submit(id, std::move(request));
        if (id % 4 == 0) driver.step();
    }
    driver.run();
    for (RequestId id = 1; id <= 24; ++id) {
        EXPECT_FALSE(driver.of(id).failed) << driver.of(id).failed->message;
        EXPECT_EQ(driver.of(id).text(), said_with(id % 3)) << id;
    }
    driver.expect_empty();
}

// What a process left on disk serves the set it was computed with, and no other.
TEST_P(BothKinds, PrefixesOnDiskAreTheirSetsToo) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const options = [&] {
        auto out = cached();
        out.tiers.folder = folder;
        out.tiers.disk_bytes = 1U << 24;
        return out;
    };
    {
        Driver driver(scripted(), options());
        for (std::uint32_t const set : {0U, 1U}) {
            driver.submit(set + 1, ask(set, 400));
            driver.run();
        }
        for (int i = 0; i < 200; ++i) {
            driver.core.settle_tiers();
            driver.step();
        }
        driver.core.save_rest(std::chrono::seconds(5));
        driver.core.settle_tiers();
    }
    Driver driver(scripted(), options());
    for (std::uint32_t const set : {2U, 1U, 0U}) {
        RequestId const id = set + 1;
        driver.submit(id, ask(set, 400));
        for (int i = 0; i < 1000 && !driver.of(id).ended(); ++i) {
            driver.step();
            driver.core.settle_tiers();
        }
        auto& said = driver.of(id);
        ASSERT_TRUE(said.done) << (said.failed ? said.failed->message : "it does not end");
        EXPECT_EQ(said.text(), said_with(set));
        if (set == 2) EXPECT_EQ(said.done->usage.cached_tokens, 0U);
        // Models with checkpoints have a state at the end of the answer alone.
        else if (!GetParam()) EXPECT_GT(said.done->usage.cached_tokens, 0U) << set;
    }
}

INSTANTIATE_TEST_SUITE_P(Models, BothKinds, ::testing::Values(false, true),
                         [](auto const& info) { return info.param ? "with_checkpoints" : "with_cells"; });

TEST(engine_adapters, a_public_prefix_is_the_bases) {
    auto const backend = llama::make_scripted(with_sets(1));
    std::vector<std::string> const texts{std::string(80, 's')};
    Preparer preparer(*backend, 1, texts);
    domain::GenerateRequest request;
    request.prompt = domain::ChatPrompt{{{"system", texts[0]}, {"user", "hi"}}};
    auto const plain = preparer.prepare(1, request, Instant{});
    request.adapters = 1;
    auto const adapted = preparer.prepare(2, request, Instant{});
    ASSERT_TRUE(plain && adapted);
    EXPECT_GT(plain->public_tokens, 80U);
    EXPECT_EQ(adapted->public_tokens, 0U);
}

TEST(engine_adapters, what_one_computes_alone_is_not_mixed) {
    auto scripted = with_sets(1);
    scripted.determinism = domain::Determinism::on_request;
    Driver driver(scripted);
    let_time_pass(driver);
    for (RequestId id = 1; id <= 4; ++id) {
        auto request = ask(static_cast<std::uint32_t>(id % 2), 50);
        request.deterministic = id > 2;
        driver.submit(id, std::move(request));
    }
    driver.run();
    for (RequestId id = 1; id <= 4; ++id) EXPECT_EQ(driver.of(id).text(), said_with(id % 2)) << id;
}

// One request's fault is nobody else's, of whatever set.
TEST(engine_adapters, a_failed_step_is_taken_apart_with_the_right_sets) {
    Driver driver(with_sets(1));
    int failures = 3;
    driver.backend.on_decode = [&](auto batch) -> Status {
        driver.clock.advance(kStep);
        if (batch.size() > 1 && failures-- > 0) return Error(Code::internal, "a bent answer");
        return ok();
    };
    for (RequestId id = 1; id <= 6; ++id) driver.submit(id, ask(static_cast<std::uint32_t>(id % 2), 1));
    driver.run();
    for (RequestId id = 1; id <= 6; ++id) EXPECT_EQ(driver.of(id).text(), said_with(id % 2)) << id;
}

TEST(engine_adapters, inputs_of_one_set_are_embedded_together) {
    auto scripted = with_sets(2);
    scripted.generates = false;
    Driver driver(scripted);
    std::size_t batches = 0;
    driver.backend.on_embed = [&](auto, auto&) {
        ++batches;
        return ok();
    };
    for (RequestId id = 1; id <= 9; ++id) {
        domain::GenerateRequest request;
        request.prompt = domain::EmbedPrompt{{std::string("the same text")}};
        request.adapters = static_cast<std::uint32_t>(id % 3);
        driver.submit(id, std::move(request));
    }
    driver.run();
    EXPECT_EQ(batches, 3U);
    for (RequestId id = 1; id <= 9; ++id) {
        ASSERT_TRUE(driver.of(id).embedded);
        EXPECT_EQ(driver.of(id).embedded->vectors == driver.of(3).embedded->vectors, id % 3 == 0) << id;
        EXPECT_EQ(driver.of(id).embedded->vectors, driver.of(id % 3 == 0 ? 9 : id % 3).embedded->vectors) << id;
    }
}

TEST(engine_adapters, a_set_there_is_not_is_refused) {
    Driver driver(with_sets(2));
    auto const refused = driver.preparer.prepare(1, ask(3), driver.clock.now());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::invalid_argument);
}

TEST(engine_adapters, pairs_are_for_models_that_rank_and_these_have_nothing_else) {
    domain::GenerateRequest pair, text;
    pair.prompt = domain::EmbedPrompt{{domain::RankPair{"ab", "ax"}, domain::RankPair{"ab", ""}}};
    text.prompt = domain::EmbedPrompt{{std::string("ab")}};
    llama::ScriptedOptions scripted;
    scripted.generates = false;
    {
        Driver embeds(scripted);
        auto const refused = embeds.preparer.prepare(1, pair, embeds.clock.now());
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Code::unsupported);
        EXPECT_NE(refused.error().message.find("cross-encoder"), std::string::npos);
    }
    scripted.ranks = true;
    Driver ranks(scripted);
    EXPECT_FALSE(ranks.preparer.prepare(1, text, ranks.clock.now()));
    ranks.submit(2, pair);
    ranks.run();
    ASSERT_TRUE(ranks.of(2).embedded);
    EXPECT_EQ(ranks.of(2).embedded->vectors, (std::vector<std::vector<float>>{{0.5F}, {0}}));
    EXPECT_EQ(ranks.of(2).done->usage.prompt_tokens, 8U);
}

}  // namespace
}  // namespace hearth::engine
