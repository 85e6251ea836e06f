// Prefixes that leave the cache and come back, on the scripted backend: what it
// says follows from the tokens of the sequence, so a wrong state changes the text.
#include <gtest/gtest.h>

#include "engine/testing/driver.h"
#include "testing/memory_folder.h"

namespace hearth::engine {
namespace {

using kvstore::testing::MemoryFolder;
using testing::Driver;

constexpr std::uint32_t kCells = 1200;

llama::ScriptedOptions scripted() {
    llama::ScriptedOptions options;
    for (int i = 0; i < 40; ++i) options.pieces.push_back(std::to_string(i) + " ");
    options.kv_cells = kCells;
    options.context_request = 1000;
    return options;
}

Options with_tiers(std::uint64_t memory_bytes, std::shared_ptr<kvstore::Folder> folder = nullptr) {
    Options options;
    options.prompt_tokens = 64;
    options.tiers.memory_bytes = memory_bytes;
    options.tiers.disk_bytes = folder ? 1U << 30 : 0;
    options.tiers.folder = std::move(folder);
    return options;
}

domain::GenerateRequest ask(std::uint64_t seed, std::size_t size, std::string tenant = {}) {
    domain::GenerateRequest request;
    std::vector<domain::Token> tokens(size);
    for (std::size_t i = 0; i < size; ++i) tokens[i] = static_cast<domain::Token>('a' + (i * 7 + seed * (i + 1)) % 26);
    request.prompt = domain::TokenPrompt{std::move(tokens)};
    request.sampling.temperature = 2.5F;
    request.sampling.seed = 7;
    request.max_tokens = 30;
    request.tenant = std::move(tenant);
    return request;
}

// The next turn of the conversation: the prompt, what was answered, and more.
domain::GenerateRequest next_turn(domain::GenerateRequest request, Driver& driver, RequestId said_in) {
    auto& tokens = std::get<domain::TokenPrompt>(request.prompt).tokens;
    for (char const c : driver.of(said_in).choices.at(0).text) tokens.push_back(static_cast<std::uint8_t>(c));
    for (char const c : std::string("and then?")) tokens.push_back(static_cast<std::uint8_t>(c));
    return request;
}

struct Answer {
    std::string text;
    std::uint32_t cached;
};

// As a model with a state beside its cells, or with nothing but one.
llama::ScriptedOptions recurrent() {
    auto options = scripted();
    options.needs_checkpoints = true;
    return options;
}

// Runs it alone, waiting for the tiers.
Answer answer(Driver& driver, RequestId id, domain::GenerateRequest request) {
    driver.submit(id, std::move(request));
    for (int i = 0; i < 10000 && !driver.of(id).done; ++i) {
        driver.run();
        driver.core.settle_tiers();
    }
    EXPECT_TRUE(driver.of(id).done) << "a request that fetches ends";
    return {driver.of(id).choices[0].text, driver.of(id).done ? driver.of(id).done->usage.cached_tokens : 0};
}

// As if there were no cache of any kind.
std::string plain(domain::GenerateRequest request) {
    Driver driver(scripted());
    return answer(driver, 1, std::move(request)).text;
}

TEST(engine_tiers, what_is_evicted_comes_back_from_memory) {
    Driver driver(scripted(), with_tiers(1U << 24));
    auto const first = answer(driver, 1, ask(1, 500));
    EXPECT_EQ(first.text, plain(ask(1, 500)));
    for (RequestId id = 2; id < 6; ++id) answer(driver, id, ask(id, 500));  // fill the cache
    auto const again = answer(driver, 9, ask(1, 500));
    EXPECT_EQ(again.text, first.text);
    EXPECT_EQ(again.cached, 499U);
    EXPECT_GE(driver.core.stats().tier_memory_tokens_total, 400U);
    driver.expect_empty();
}

// Saving what goes takes its time: with tiers it is not left to those who come.
TEST(engine_tiers, room_is_made_before_somebody_comes) {
    for (bool const tiers : {true, false}) {
        Driver driver(scripted(), with_tiers(tiers ? 1U << 24 : 0));
        auto const ids = driver.backend.properties().sequences_max;
        for (RequestId id = 1; id < 60; ++id) {
            auto request = ask(id, 12);
            request.max_tokens = 4;
            answer(driver, id, std::move(request));
        }
        EXPECT_EQ(driver.backend.scripted().sequences_used(), tiers ? ids - ids / 16 : ids);
        for (RequestId id = 60; id < 66; ++id) answer(driver, id, ask(id, 365));  // of which three fit
        auto const free = kCells - driver.core.stats().kv_used;
        if (tiers) EXPECT_GE(free, kCells / 32);
        else EXPECT_LT(free, kCells / 32);
        driver.expect_empty();
    }
}

// There is room for some six conversations; the other tenant has thirty.
TEST(engine_tiers, a_tenant_that_computes_much_leaves_others_their_share_of_memory) {
    for (double const weight : {0.01, 1.0}) {
        auto options = with_tiers(27'000);
        options.tenant_weights = {{"quiet", weight}};
        Driver driver(scripted(), options);
        answer(driver, 1, ask(1, 500, "quiet"));
        driver.core.forget();
        for (RequestId id = 2; id < 32; ++id) answer(driver, id, ask(id, 500, "busy"));
        auto const again = answer(driver, 99, ask(1, 500, "quiet"));
        EXPECT_EQ(again.text, plain(ask(1, 500)));
        if (weight < 1) EXPECT_LT(again.cached, 499U) << "a share of next to nothing";
        else EXPECT_EQ(again.cached, 499U);
        driver.expect_empty();
    }
}

TEST(engine_tiers, tell_what_each_tenant_has_there) {
    for (auto const& folder : {std::shared_ptr<MemoryFolder>(), std::make_shared<MemoryFolder>()}) {
        Driver driver(scripted(), with_tiers(folder ? 0 : 1U << 24, folder));
        answer(driver, 1, ask(1, 500, "little"));
        for (RequestId id = 2; id < 5; ++id) answer(driver, id, ask(id, 500, "much"));
        driver.core.forget();
        driver.core.settle_tiers();
        std::map<std::string, std::uint64_t> bytes;
        for (auto const& tenant : driver.core.report().tenants) {
            bytes[tenant.tenant] = folder ? tenant.disk_bytes : tenant.memory_bytes;
            EXPECT_EQ(folder ? tenant.memory_bytes : tenant.disk_bytes, 0U);
        }
        EXPECT_GT(bytes["little"], 500U);
        EXPECT_GT(bytes["much"], 2 * bytes["little"]);
        auto const stats = driver.core.stats();
        EXPECT_EQ(bytes["little"] + bytes["much"], folder ? stats.tier_disk_bytes : stats.tier_memory_bytes);
    }
}

TEST(engine_tiers, without_tiers_it_is_gone) {
    Driver driver(scripted(), with_tiers(0));
    for (RequestId id = 1; id < 6; ++id) answer(driver, id, ask(id, 500));
    EXPECT_EQ(answer(driver, 9, ask(1, 500)).cached, 0U);
}

TEST(engine_tiers, a_conversation_goes_on_after_a_restart) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto second = ask(1, 500);
    {
        Driver driver(scripted(), with_tiers(0, folder));
        answer(driver, 1, ask(1, 500));
        second = next_turn(ask(1, 500), driver, 1);
    }
    Driver driver(scripted(), with_tiers(0, folder));
    auto const answered = answer(driver, 1, second);
    EXPECT_EQ(answered.text, plain(second));
    EXPECT_GE(answered.cached, 500U) << "what was asked is not computed again";
    EXPECT_GE(driver.core.stats().tier_disk_tokens_total, 500U);
    driver.expect_empty();
}

TEST(engine_tiers, a_conversation_of_a_model_with_a_state_goes_on_after_a_restart) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto second = ask(1, 500);
    {
        Driver driver(recurrent(), with_tiers(0, folder));
        answer(driver, 1, ask(1, 500));
        second = next_turn(ask(1, 500), driver, 1);
    }
    Driver driver(recurrent(), with_tiers(0, folder));
    auto const answered = answer(driver, 1, second);
    EXPECT_EQ(answered.text, plain(second));
    EXPECT_GE(answered.cached, 500U) << "at least the prompt's end has a state";
    EXPECT_GE(driver.core.stats().tier_disk_tokens_total, 500U);
    // What came back others can stand on, as on what was computed.
    auto const again = answer(driver, 2, second);
    EXPECT_EQ(again.text, answered.text);
    EXPECT_GE(again.cached, answered.cached);
    driver.expect_empty();
}

TEST(engine_tiers, messages_of_a_model_with_a_state_are_shared_after_a_restart) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto system = ask(1, 300);
    auto first = system;
    {
        Driver driver(recurrent(), with_tiers(0, folder));
        auto const end = driver.preparer.end_tokens().front();
        for (auto* const request : {&system, &first})
            std::get<domain::TokenPrompt>(request->prompt).tokens.push_back(end);
        for (char const c : std::string("and what does the first user say about that?"))
            std::get<domain::TokenPrompt>(first.prompt).tokens.push_back(static_cast<std::uint8_t>(c));
        answer(driver, 1, first);
    }
    auto other = system;
    for (char const c : std::string("the other says something else"))
        std::get<domain::TokenPrompt>(other.prompt).tokens.push_back(static_cast<std::uint8_t>(c));
    Driver driver(recurrent(), with_tiers(0, folder));
    auto const answered = answer(driver, 1, other);
    EXPECT_EQ(answered.text, plain(other));
    EXPECT_EQ(answered.cached, 301U) << "the first message";
    driver.expect_empty();
}

TEST(engine_tiers, what_is_evicted_of_a_model_with_a_state_comes_back_from_memory) {
    Driver driver(recurrent(), with_tiers(1U << 24));
    auto const first = answer(driver, 1, ask(1, 500));
    for (RequestId id = 2; id < 6; ++id) answer(driver, id, ask(id, 500));
    auto const again = answer(driver, 9, ask(1, 500));
    EXPECT_EQ(again.text, first.text);
    EXPECT_GE(again.cached, 256U) << "the deepest place with a state";
    driver.expect_empty();
}

TEST(engine_tiers, a_state_that_cannot_be_taken_leaves_what_was_cached) {
    for (int good = 0; good < 6; ++good) {
        Driver driver(recurrent(), with_tiers(1U << 24));
        answer(driver, 1, ask(1, 500));
        driver.core.forget();
        int left = good;
        auto const fail = [&left]() -> Status {
            if (left-- > 0) return ok();
            return Error(Code::corrupt, "bent");
        };
        driver.backend.on_restore = fail;
        driver.backend.on_resume = fail;
        auto const answered = answer(driver, 2, ask(1, 500));
        EXPECT_EQ(answered.text, plain(ask(1, 500)));
        driver.expect_empty();
    }
}

// A process that dies while it answers: what was said until a while ago is on disk.
TEST(engine_tiers, a_long_answer_is_on_disk_while_it_goes_on) {
    for (bool const with_state : {false, true}) {
        auto options = with_state ? recurrent() : scripted();
        for (int i = 40; i < 700; ++i) options.pieces.push_back(std::to_string(i) + " ");
        auto const folder = std::make_shared<MemoryFolder>();
        auto request = ask(1, 100);
        request.max_tokens = 640;
        request.sampling.temperature = 0;
        auto const dead = std::make_shared<MemoryFolder>();
        std::string said;
        {
            Driver driver(options, with_tiers(0, folder));
            driver.submit(1, request);
            driver.core.grant(1, 10000);
            for (int i = 0; i < 500; ++i) {
                driver.clock.advance(std::chrono::milliseconds(20));
                driver.step();
                driver.core.settle_tiers();
            }
            ASSERT_FALSE(driver.of(1).done);
            for (auto const& [name, bytes] : folder->files()) dead->set(name, bytes);
            said = driver.of(1).choices.at(0).text;
        }
        // It begins again where it was, with what had been said as its prompt.
        Driver driver(options, with_tiers(0, dead));
        auto next = request;
        next.max_tokens = 30;
        auto& tokens = std::get<domain::TokenPrompt>(next.prompt).tokens;
        tokens = driver.preparer.prepare(7, request, driver.clock.now())->prompt;
        std::string const text = said;
        for (std::size_t at = 0; at < text.size();) {
            auto const space = text.find(' ', at);
            auto const word = text.substr(at, space - at + 1);
            auto const index = std::find(options.pieces.begin(), options.pieces.end(), word) - options.pieces.begin();
            tokens.push_back(static_cast<domain::Token>(256 + index));
            at = space + 1;
        }
        auto const answered = answer(driver, 1, next);
        EXPECT_GE(answered.cached, 100U + 256U) << with_state;
        EXPECT_LT(folder->files().size(), 40U) << "in pieces of some size";
    }
}

TEST(engine_tiers, each_turn_writes_what_is_new) {
    auto const folder = std::make_shared<MemoryFolder>();
    Driver driver(scripted(), with_tiers(0, folder));
    auto turn = ask(1, 400);
    answer(driver, 1, turn);
    auto const bytes = driver.core.stats().tier_written_bytes_total;
    EXPECT_GT(bytes, 400U * 8);
    for (RequestId id = 2; id < 5; ++id) {
        turn = next_turn(turn, driver, id - 1);
        answer(driver, id, turn);
    }
    auto const& tokens = std::get<domain::TokenPrompt>(turn.prompt).tokens;
    EXPECT_LT(driver.core.stats().tier_written_bytes_total, 20 * tokens.size() + 200 * folder->files().size());
}

TEST(engine_tiers, tenants_and_salts_never_see_each_other) {
    auto const folder = std::make_shared<MemoryFolder>();
    {
        Driver driver(scripted(), with_tiers(1U << 24, folder));
        answer(driver, 1, ask(1, 500, "alice"));
        driver.core.forget();
        EXPECT_EQ(answer(driver, 2, ask(1, 500, "bob")).cached, 0U);
        driver.core.forget();
        EXPECT_EQ(answer(driver, 3, ask(1, 500, "alice")).cached, 499U);
    }
    Driver driver(scripted(), with_tiers(0, folder));
    auto salted = ask(1, 500, "alice");
    salted.cache_salt = "other";
    EXPECT_EQ(answer(driver, 1, salted).cached, 0U);
    EXPECT_EQ(answer(driver, 2, ask(1, 500, "carol")).cached, 0U);
    EXPECT_GE(answer(driver, 3, ask(1, 500, "alice")).cached, 480U);
}

TEST(engine_tiers, who_keeps_nothing_leaves_nothing) {
    auto const folder = std::make_shared<MemoryFolder>();
    Driver driver(scripted(), with_tiers(1U << 24, folder));
    auto request = ask(1, 500);
    request.cache_prompt = false;
    answer(driver, 1, request);
    driver.core.settle_tiers();
    EXPECT_TRUE(folder->files().empty());
    EXPECT_EQ(answer(driver, 2, ask(1, 500)).cached, 0U);
}

TEST(engine_tiers, a_damaged_file_costs_computing_alone) {
    auto const folder = std::make_shared<MemoryFolder>();
    {
        Driver driver(scripted(), with_tiers(0, folder));
        answer(driver, 1, ask(1, 500));
    }
    for (auto [name, bytes] : folder->files()) {
        bytes.back() ^= std::byte{1};
        folder->set(name, bytes);
    }
    Driver driver(scripted(), with_tiers(0, folder));
    auto const answered = answer(driver, 1, ask(1, 500));
    EXPECT_EQ(answered.text, plain(ask(1, 500)));
    EXPECT_EQ(answered.cached, 0U);
    EXPECT_GT(driver.core.stats().tier_errors_total, 0U);
}

TEST(engine_tiers, a_failing_disk_is_gone_without) {
    auto const folder = std::make_shared<MemoryFolder>();
    folder->fail_at(1, MemoryFolder::Failure::from_then_on);
    Driver driver(scripted(), with_tiers(1U << 24, folder));
    for (RequestId id = 1; id < 6; ++id) EXPECT_EQ(answer(driver, id, ask(id, 500)).text, plain(ask(id, 500)));
    EXPECT_EQ(answer(driver, 9, ask(1, 500)).cached, 499U) << "memory has it";
    EXPECT_GT(driver.core.stats().tier_errors_total, 0U);
}

// A backend that cannot take a state back, at any of its pieces.
TEST(engine_tiers, a_state_that_cannot_be_taken_is_computed) {
    for (int good = 0; good < 4; ++good) {
        Driver driver(scripted(), with_tiers(1U << 24));
        answer(driver, 1, ask(1, 500));
        driver.core.forget();
        int left = good;
        driver.backend.on_restore = [&left]() -> Status {
            if (left-- > 0) return ok();
            return Error(Code::overloaded, "no cells");
        };
        auto const answered = answer(driver, 2, ask(1, 500));
        EXPECT_EQ(answered.text, plain(ask(1, 500)));
        EXPECT_LT(answered.cached, 499U);
    }
}

// Many conversations over a cache that holds two of them: every answer is right, whatever went where.
void many_conversations(llama::ScriptedOptions const& model, std::uint64_t least) {
    auto const folder = std::make_shared<MemoryFolder>();
    std::uint64_t restored = 0;
    for (int restart = 0; restart < 3; ++restart) {
        Driver driver(model, with_tiers(20000, folder));
        RequestId id = 0;
        for (std::uint64_t round = 0; round < 4; ++round) {
            std::vector<std::pair<RequestId, domain::GenerateRequest>> asked;
            for (std::uint64_t seed = 1; seed <= 5; ++seed) {
                auto request = ask(seed, 200 + 50 * round + 10 * seed, seed % 2 == 0 ? "even" : "odd");
                asked.emplace_back(++id, request);
                driver.submit(id, request);
            }
            for (int i = 0; i < 1000 && !driver.of(id).done; ++i) {
                driver.run();
                driver.core.settle_tiers();
            }
            driver.run();
            for (auto const& [each, request] : asked) {
                ASSERT_TRUE(driver.of(each).done);
                EXPECT_EQ(driver.of(each).choices[0].text, plain(request)) << each;
            }
        }
        restored += driver.core.stats().tier_disk_tokens_total + driver.core.stats().tier_memory_tokens_total;
        driver.expect_empty();
    }
    EXPECT_GT(restored, least);
}

TEST(engine_tiers, many_conversations_over_a_small_cache) { many_conversations(scripted(), 2000); }
TEST(engine_tiers, many_conversations_of_a_model_with_a_state) { many_conversations(recurrent(), 500); }

}  // namespace
}  // namespace hearth::engine
