// The engine on real models of every kind of memory: what conversations compute
// when users take turns, counted in tokens against a cache without bounds.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>

#include "base/clock.h"
#include "engine/engine_core.h"
#include "engine/prepare.h"
#include "llama/libllama_backend.h"
#include "llama/testing/tiny_model.h"
#include "testing/memory_folder.h"

namespace hearth {
namespace {

using llama::testing::TinyKind;
using llama::testing::TinyModel;
using Text = std::vector<domain::Token>;

constexpr std::uint32_t kContext = 4096;
constexpr std::uint32_t kUsers = 6;
constexpr std::uint32_t kAnswer = 24;

std::unique_ptr<llama::Backend> load(TinyModel const& model) {
    llama::LoadOptions options;
    options.path = model.path();
    options.context_request = kContext;
    options.kv_cells = 4 * kContext;
    options.sequences_max = 8;
    options.batch_max = 256;
    options.threads = 1;
    auto backend = llama::load_libllama(options);
    if (backend) return std::move(*backend);
    ADD_FAILURE() << backend.error().message;
    return nullptr;
}

struct Answer {
    Text tokens;
    std::uint32_t cached = 0;
    bool done = false;
};

engine::Options with_disk(std::shared_ptr<kvstore::Folder> folder) {
    engine::Options options{.prompt_tokens = 256};
    options.tiers.disk_bytes = 1U << 30;
    options.tiers.folder = std::move(folder);
    return options;
}

// One engine with a model of its own; `caches` or not.
class Server {
public:
    Server(TinyModel const& model, bool caches) : Server(model, {.prompt_tokens = 256, .prefix_cache = caches}) {}
    Server(TinyModel const& model, engine::Options const& options)
        : backend_(load(model)), preparer_(*backend_, 1), core_(*backend_, options, clock_, preparer_.end_tokens()) {}

    std::uint64_t submit(Text prompt, std::uint32_t tokens_max = kAnswer) {
        domain::GenerateRequest request;
        request.prompt = domain::TokenPrompt{std::move(prompt)};
        request.sampling.temperature = 0;
        request.sampling.ignore_eos = true;
        request.max_tokens = tokens_max;
        request.top_logprobs = 0;  // tells the tokens
        auto prepared = preparer_.prepare(++last_, std::move(request), clock_.now());
        EXPECT_TRUE(prepared) << prepared.error().message;
        if (prepared) core_.add(std::move(*prepared));
        core_.grant(last_, tokens_max);
        return last_;
    }

    void run() {
        while (core_.has_work()) {
            core_.step();
            for (auto const& event : core_.events()) add(event);
            core_.clear_events();
            core_.check_integrity();
        }
    }

    // One step, in which time passes; what was given to the tiers is written and read.
    void step() {
        clock_.advance(std::chrono::milliseconds(50));
        core_.step();
        for (auto const& event : core_.events()) add(event);
        core_.clear_events();
        core_.settle_tiers();
    }

    Answer ask(Text prompt) {
        auto const id = submit(std::move(prompt));
        for (int i = 0; i < 1000 && !answers[id].done; ++i) {
            run();
            core_.settle_tiers();
        }
        run();
        return answers[id];
    }

    [[nodiscard]] std::uint64_t computed() const { return core_.stats().prompt_tokens_total; }
    [[nodiscard]] domain::Token end() const { return preparer_.end_tokens().front(); }

    std::map<std::uint64_t, Answer> answers;

private:
    void add(engine::StepEvent const& event) {
        Answer& answer = answers[event.request];
        if (auto const* started = std::get_if<domain::Started>(&event.event)) answer.cached = started->cached_tokens;
        if (auto const* delta = std::get_if<domain::Delta>(&event.event))
            for (auto const& logprob : delta->logprobs) answer.tokens.push_back(logprob.chosen.token);
        if (std::holds_alternative<domain::Done>(event.event)) answer.done = true;
    }

    ManualClock clock_;
    std::unique_ptr<llama::Backend> backend_;
    engine::Preparer preparer_;
    engine::EngineCore core_;
    std::uint64_t last_ = 0;
};

Text message(std::size_t size, std::uint32_t seed, domain::Token end) {
    std::mt19937 random(seed);
    Text text(size);
    for (auto& token : text) token = static_cast<domain::Token>(3 + random() % 250);
    text.push_back(end);
    return text;
}

void append(Text& text, Text const& more) { text.insert(text.end(), more.begin(), more.end()); }

class PrefixSharing : public ::testing::TestWithParam<TinyKind> {
protected:
    TinyModel model_{{.kind = GetParam(), .context = kContext}};
};

INSTANTIATE_TEST_SUITE_P(Kinds, PrefixSharing,
                         ::testing::Values(TinyKind::attention, TinyKind::window, TinyKind::hybrid,
                                           TinyKind::recurrent));

TEST_P(PrefixSharing, ChatsOfUsersInTurnComputeLittleMoreThanWhatIsNew) {
    Server server(model_, true), cold(model_, false);
    auto const system = message(120, 1, server.end());
    std::vector<Text> chats(kUsers, system);
    std::uint64_t unbounded = system.size();
    for (std::uint32_t turn = 0; turn < 8; ++turn) {
        for (std::uint32_t user = 0; user < kUsers; ++user) {
            auto const question = message(40, 1000 + turn * 10 + user, server.end());
            append(chats[user], question);
            unbounded += question.size() + (turn > 0 ? 1 : 0);  // the last token of an answer is not computed with it
            auto const answer = server.ask(chats[user]);
            ASSERT_TRUE(answer.done);
            ASSERT_EQ(answer.tokens.size(), kAnswer);
            if (user == 0) EXPECT_EQ(answer.tokens, cold.ask(chats[user]).tokens) << "turn " << turn;
            append(chats[user], answer.tokens);
        }
    }
    EXPECT_LE(static_cast<double>(server.computed()), 1.05 * static_cast<double>(unbounded));
}

TEST_P(PrefixSharing, UsersOfOneSystemPromptComputeItOnce) {
    Server server(model_, true);
    auto const system = message(2000, 1, server.end());
    std::uint64_t unbounded = system.size();
    for (std::uint32_t user = 0; user < kUsers; ++user) {
        auto text = system;
        auto const question = message(30, 100 + user, server.end());
        unbounded += question.size();
        append(text, question);
        server.submit(std::move(text));
    }
    server.run();
    for (auto const& [id, answer] : server.answers) EXPECT_TRUE(answer.done) << id;
    EXPECT_LE(static_cast<double>(server.computed()), 1.05 * static_cast<double>(unbounded));
}

TEST_P(PrefixSharing, AChatGoesOnAfterARestart) {
    auto const folder = std::make_shared<kvstore::testing::MemoryFolder>();
    Server cold(model_, false);
    Text const system = message(300, 1, cold.end());
    Text chat = system;
    append(chat, message(700, 2, cold.end()));
    for (std::uint32_t turn = 0; turn < 4; ++turn) {
        Server server(model_, with_disk(folder));
        auto const answer = server.ask(chat);
        EXPECT_EQ(answer.tokens, cold.ask(chat).tokens) << "turn " << turn;
        if (turn > 0) EXPECT_GE(answer.cached, 1000U) << "turn " << turn << ": all that was said before";
        // Somebody else with the same system prompt.
        auto other = system;
        append(other, message(40, 50 + turn, cold.end()));
        auto const shared = server.ask(other);
        EXPECT_GE(shared.cached, turn > 0 ? 300U : 0U);
        EXPECT_EQ(shared.tokens, cold.ask(other).tokens) << "turn " << turn;
        append(chat, answer.tokens);
        append(chat, message(60, 10 + turn, cold.end()));
    }
}

TEST_P(PrefixSharing, AnAnswerCutShortByAKillIsNotAllLost) {
    auto const folder = std::make_shared<kvstore::testing::MemoryFolder>();
    auto const left = std::make_shared<kvstore::testing::MemoryFolder>();
    constexpr std::uint32_t kLong = 1200;
    Server cold(model_, false);
    auto chat = message(600, 3, cold.end());
    Server killed(model_, with_disk(folder));
    auto const id = killed.submit(chat, kLong);
    while (killed.answers[id].tokens.size() < 1000) killed.step();
    for (auto const& [name, bytes] : folder->files()) left->set(name, bytes);  // the process is gone
    append(chat, killed.answers[id].tokens);
    Server server(model_, with_disk(left));
    auto const answer = server.ask(chat);
    EXPECT_GE(answer.cached, 1200U) << "of some 1600";
    EXPECT_EQ(answer.tokens, cold.ask(chat).tokens);
}

}  // namespace
}  // namespace hearth
