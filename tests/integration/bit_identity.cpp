// Same answer whatever happens: the tokens of a request and their
// log-probabilities have the same bits, computed alone and cold or beside others,
// in chunks of any size, on a prefix from any tier, preempted or not, with
// guesses ahead or without, greedy or seeded.
//
// Every combination that a model can do is a case, on the whole engine and
// libllama with tiny models of every kind of memory. A case also checks that what
// it is named after did happen.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/sanitized.h"
#include "engine/engine_core.h"
#include "engine/prepare.h"
#include "llama/libllama_backend.h"
#include "llama/testing/tiny_model.h"
#include "testing/memory_folder.h"

namespace hearth {
namespace {

using kvstore::testing::MemoryFolder;
using llama::testing::TinyKind;
using llama::testing::TinyModel;
using Text = std::vector<domain::Token>;

constexpr std::size_t kCasesMin = 1000;
constexpr std::size_t kCasesSanitized = 40;  // of each kind, where each instruction is checked

constexpr std::uint32_t kCells = 768;  // a multiple of 256, or the cache has more
constexpr std::uint32_t kSequences = 6;
constexpr std::uint32_t kAnswer = 20;
constexpr std::uint32_t kPrefix = 96;       // of the subject's prompt, computed by another request before
constexpr std::uint32_t kOtherPrompt = 40;
constexpr std::uint32_t kSwapperPrompt = kCells - 105;  // leaves no room for the subject beside it
constexpr std::uint32_t kNever = 1'000'000'000;
constexpr int kStepsMax = 20'000;

constexpr domain::RequestId kSubject = 1, kWarming = 2, kRival = 3, kFirstOther = 10;

enum class Tier : std::uint8_t { none, cells, memory, disk };
enum class Preempted : std::uint8_t { no, swapped, parked };

// How prompts are cut: alone, beside others, and by time.
struct Cut {
    std::uint32_t alone, mixed, step_ms;
};
constexpr std::array kCuts{Cut{512, 512, 60}, Cut{16, 16, 60}, Cut{48, 80, 60}, Cut{100, 512, 1}};

struct Case {
    std::uint32_t number = 0;
    std::uint32_t company = 0;  // others in its batches
    std::size_t cut = 0;
    Tier tier = Tier::none;
    Preempted preempted = Preempted::no;
    bool seeded = false;
    bool speculates = false;
};

std::string describe(Case const& c) {
    constexpr std::array kTiers{"cold", "prefix in cells", "prefix from memory", "prefix from disk after a restart"};
    constexpr std::array kPreempted{"undisturbed", "swapped", "parked"};
    return fmt::format("case {}: beside {}, chunks of {}/{} or {} ms, {}, {}, {}, {}", c.number, c.company,
                       kCuts.at(c.cut).alone, kCuts.at(c.cut).mixed, kCuts.at(c.cut).step_ms,
                       kTiers.at(static_cast<std::size_t>(c.tier)),
                       kPreempted.at(static_cast<std::size_t>(c.preempted)), c.seeded ? "seeded" : "greedy",
                       c.speculates ? "guessing ahead" : "one by one");
}

std::vector<Case> cases_of(llama::Properties const& properties) {
    std::vector<Tier> tiers{Tier::none, Tier::cells};
    if (properties.saves_parts) tiers.insert(tiers.end(), {Tier::memory, Tier::disk});
    std::vector<Case> out;
    for (std::uint32_t const company : {0U, 2U, 5U})
        for (std::size_t cut = 0; cut < kCuts.size(); ++cut)
            for (Tier const tier : tiers)
                for (Preempted const preempted : {Preempted::no, Preempted::swapped, Preempted::parked})
                    for (bool const seeded : {false, true})
                        for (bool const speculates : {false, true})
                            out.push_back({static_cast<std::uint32_t>(out.size()), company, cut, tier, preempted,
                                           seeded, speculates});
    return out;
}

// Time goes on by a little, more or less, whenever somebody looks: what a step
// costs, and so what the next one takes in, differs from case to case.
class UnsteadyClock final : public Clock {
public:
    explicit UnsteadyClock(std::uint64_t seed) : random_(seed) {}
    [[nodiscard]] Instant now() const override {
        now_ += std::chrono::microseconds(500 + random_() % 4000);
        return now_;
    }

private:
    mutable std::mt19937_64 random_;
    mutable Instant now_{};
};

Text text_of(std::size_t size, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    Text text(size);
    for (auto& token : text) token = static_cast<domain::Token>(3 + random() % 300);
    return text;
}

// Four subjects, whose prompts end at different places of a kernel's group.
Text subject_prompt(Case const& c) { return text_of(121 + 3 * (c.number % 4), 100 + c.number % 4); }

domain::GenerateRequest request_of(Text prompt, std::uint32_t tokens) {
    domain::GenerateRequest request;
    request.prompt = domain::TokenPrompt{std::move(prompt)};
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.max_tokens = tokens;
    request.top_logprobs = 5;
    request.priority = domain::Priority::batch;
    return request;
}

domain::GenerateRequest subject_of(Case const& c) {
    auto request = request_of(subject_prompt(c), kAnswer);
    if (!c.seeded) return request;
    request.sampling.temperature = 0.9F;
    request.sampling.top_k = 40;
    request.sampling.presence_penalty = 0.3F;
    request.sampling.seed = 7;
    return request;
}

// What is compared: every token that was chosen or came near, and the bits of its log-probability.
struct Answer {
    std::vector<std::uint32_t> bits;
    std::string text;
    std::uint32_t cached = 0;
    bool started = false, done = false;

    void add(domain::Event const& event) {
        if (auto const* begun = std::get_if<domain::Started>(&event)) started = begun->prompt_tokens > 0;
        if (auto const* delta = std::get_if<domain::Delta>(&event)) add(*delta);
        if (auto const* failed = std::get_if<domain::Failed>(&event)) ADD_FAILURE() << failed->error.message;
        if (auto const* ended = std::get_if<domain::Done>(&event)) {
            cached = ended->usage.cached_tokens;
            done = true;
        }
    }

private:
    void add(domain::Delta const& delta) {
        text += delta.text;
        for (auto const& token : delta.logprobs) {
            note(token.chosen);
            for (auto const& other : token.top) note(other);
        }
    }
    void note(domain::TokenLogprob const& token) {
        bits.push_back(static_cast<std::uint32_t>(token.token));
        bits.push_back(std::bit_cast<std::uint32_t>(token.logprob));
    }
};

// One engine on a backend that it finds and leaves empty.
class Server {
public:
    Server(llama::Backend& backend, engine::Options const& options, std::uint64_t seed)
        : clock_(seed), preparer_(backend, 1), core_(backend, options, clock_, preparer_.end_tokens()) {}

    void submit(domain::RequestId id, domain::GenerateRequest request) {
        auto prepared = preparer_.prepare(id, std::move(request), clock_.now());
        ASSERT_TRUE(prepared) << prepared.error().message;
        answers[id];
        core_.add(std::move(*prepared));
    }

    void step() {
        if (!core_.has_work()) core_.settle_tiers();
        core_.step();
        for (auto const& event : core_.events()) answers[event.request].add(event.event);
        core_.clear_events();
        for (auto const& sequence : core_.report().sequences) {
            if (sequence.request != kSubject) continue;
            was_swapped = was_swapped || sequence.state == domain::SequenceState::swapped;
            was_parked = was_parked || sequence.state == domain::SequenceState::parked;
        }
    }

    // Until all have ended and what they left is saved.
    void run() {
        int steps = 0;
        auto const open = [](auto const& entry) { return !entry.second.done; };
        while (std::any_of(answers.begin(), answers.end(), open) && ++steps < kStepsMax) step();
        while (core_.has_work() && ++steps < kStepsMax) step();
        ASSERT_LT(steps, kStepsMax) << "the engine does not get anywhere";
        core_.settle_tiers();
        core_.check_integrity();
    }

    void forget() {
        core_.forget();
        core_.settle_tiers();
        EXPECT_EQ(core_.stats().kv_used, 0U);
    }

    [[nodiscard]] domain::EngineStats stats() const { return core_.stats(); }

    std::map<domain::RequestId, Answer> answers;
    bool was_swapped = false, was_parked = false;

private:
    UnsteadyClock clock_;
    engine::Preparer preparer_;
    engine::EngineCore core_;
};

struct Tally {
    std::size_t cases = 0, to_swap = 0, swapped = 0, parked = 0;
    std::uint64_t cached = 0, from_memory = 0, from_disk = 0, drafted = 0, accepted = 0;
};

class BitIdentity : public ::testing::TestWithParam<TinyKind> {
protected:
    // The second one is what a restart finds: the same file, loaded again.
    void SetUp() override {
        for (auto& backend : backends_) {
            backend = load();
            ASSERT_NE(backend, nullptr);
            EXPECT_EQ(backend->properties().info.determinism, domain::Determinism::always);
            ASSERT_EQ(backend->properties().kv_cells, kCells);
        }
        EXPECT_EQ(backends_[0]->state_key(), backends_[1]->state_key());
    }

    std::unique_ptr<llama::Backend> load() {
        llama::LoadOptions options;
        options.path = model_.path();
        options.context_request = kCells;
        options.kv_cells = kCells;
        options.sequences_max = kSequences;
        options.sequences_kept = 24;
        options.batch_max = 512;
        options.threads = 1;
        auto backend = llama::load_libllama(options);
        if (backend) return std::move(*backend);
        ADD_FAILURE() << backend.error().message;
        return nullptr;
    }

    // Alone, cold, in one piece.
    Answer const& expected(Case const& c) {
        auto const [found, fresh] = expected_.try_emplace({c.number % 4, c.seeded});
        if (fresh) {
            Server server(*backends_[0], {.prefix_cache = false, .speculation = false}, 1);
            server.submit(kSubject, subject_of(c));
            server.run();
            found->second = server.answers[kSubject];
            EXPECT_EQ(found->second.bits.size(), kAnswer * 12);
        }
        return found->second;
    }

    void play(Case const& c) {
        auto const& cold = expected(c);
        auto options = options_of(c);
        auto server = std::make_unique<Server>(*backends_[0], options, c.number);
        if (c.tier != Tier::none) warm(*server, c);
        if (c.tier == Tier::memory) server->forget();
        if (c.tier == Tier::disk) {
            server->forget();
            server = std::make_unique<Server>(*backends_[1], options, c.number + 1);
        }
        if (c.number % 2 == 0) submit_others(*server, c);
        server->submit(kSubject, subject_of(c));
        if (c.number % 2 == 1) submit_others(*server, c);
        if (c.preempted != Preempted::no) disturb(*server, c);
        server->run();
        check(*server, c, cold);
        server->forget();
    }

    engine::Options options_of(Case const& c) {
        auto const& cut = kCuts.at(c.cut);
        engine::Options options;
        options.prompt_tokens = cut.alone;
        options.mixed_tokens_max = cut.mixed;
        options.step_ms_target = cut.step_ms;
        options.ageing_ms = kNever;
        options.prefix_cache = c.tier != Tier::none || c.number % 3 == 0;
        options.speculation = c.speculates;
        options.reserve_output = false;
        if (c.tier == Tier::memory) options.tiers.memory_bytes = 64U << 20;
        if (c.tier == Tier::disk) {
            options.tiers.folder = std::make_shared<MemoryFolder>();
            options.tiers.disk_bytes = 64U << 20;
        }
        return options;
    }

    static void warm(Server& server, Case const& c) {
        auto prefix = subject_prompt(c);
        prefix.resize(kPrefix);
        server.submit(kWarming, request_of(std::move(prefix), 4));
        server.run();
    }

    // Every second one begins as the subject does, where that is no secret.
    static void submit_others(Server& server, Case const& c) {
        for (std::uint32_t i = 0; i < c.company; ++i) {
            auto prompt = text_of(kOtherPrompt + 5 * i, 1000 + c.number * 10 + i);
            auto const own = subject_prompt(c);
            if (i % 2 == 1 && c.tier != Tier::none) std::copy_n(own.begin(), kOtherPrompt / 2, prompt.begin());
            server.submit(kFirstOther + i, request_of(std::move(prompt), kAnswer + 3 * i));
        }
    }

    // Somebody of a better class comes while it is computed, and wants its cells or its slot.
    static void disturb(Server& server, Case const& c) {
        for (int i = 0; i < kStepsMax && !server.answers[kSubject].started; ++i) server.step();
        for (std::uint32_t i = c.number / 4 % (c.speculates ? 2 : 9); i > 0; --i) server.step();
        bool const swap = c.preempted == Preempted::swapped;
        auto rival = request_of(text_of(swap ? kSwapperPrompt : 20, 5000 + c.number), 3);
        rival.priority = domain::Priority::interactive;
        rival.choices = swap ? 1 : kSequences;
        server.submit(kRival, std::move(rival));
    }

    void check(Server& server, Case const& c, Answer const& cold) {
        auto const& answer = server.answers[kSubject];
        EXPECT_TRUE(answer.bits == cold.bits) << describe(c) << "\n" << answer.text << "\n" << cold.text;
        EXPECT_EQ(answer.text, cold.text) << describe(c);
        auto const stats = server.stats();
        if (c.tier == Tier::none && c.company == 0) EXPECT_EQ(answer.cached, 0U) << describe(c);
        if (c.tier != Tier::none) EXPECT_GE(answer.cached, kPrefix) << describe(c);
        if (c.tier == Tier::memory) EXPECT_GT(stats.tier_memory_tokens_total, 0U) << describe(c);
        if (c.tier == Tier::disk) EXPECT_GT(stats.tier_disk_tokens_total, 0U) << describe(c);
        if (c.preempted == Preempted::parked) EXPECT_TRUE(server.was_parked) << describe(c);
        ++tally_.cases;
        tally_.to_swap += c.preempted == Preempted::swapped ? 1 : 0;
        tally_.swapped += server.was_swapped ? 1 : 0;
        tally_.parked += server.was_parked ? 1 : 0;
        tally_.cached += answer.cached;
        tally_.from_memory += stats.tier_memory_tokens_total;
        tally_.from_disk += stats.tier_disk_tokens_total;
        tally_.drafted += stats.drafted_total;
        tally_.accepted += stats.accepted_total;
    }

    TinyModel model_{{.kind = GetParam(), .context = kCells}};
    std::array<std::unique_ptr<llama::Backend>, 2> backends_;
    std::map<std::pair<std::uint32_t, bool>, Answer> expected_;
    Tally tally_;
};

// Of all kinds, for the sum.
std::size_t cases_played = 0;

std::string name_of(::testing::TestParamInfo<TinyKind> const& info) {
    constexpr std::array kNames{"attention", "window", "hybrid", "recurrent"};
    return kNames.at(static_cast<std::size_t>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Kinds, BitIdentity,
                         ::testing::Values(TinyKind::attention, TinyKind::window, TinyKind::hybrid,
                                           TinyKind::recurrent),
                         name_of);

TEST_P(BitIdentity, TheBitsOfAnAnswerAreThoseItHasAloneAndCold) {
    auto cases = cases_of(backends_[0]->properties());
    if (kSanitized) {
        std::vector<Case> sample;
        std::sample(cases.begin(), cases.end(), std::back_inserter(sample), kCasesSanitized, std::mt19937_64(4));
        cases = std::move(sample);
    }
    for (Case const& c : cases) {
        play(c);
        if (HasFatalFailure()) return;
    }
    // A few end before the others have computed so much of their prompts that there is room to make.
    EXPECT_GE(10 * tally_.swapped, 9 * tally_.to_swap);
    // A small sample may have no text that repeats itself.
    if (backends_[0]->properties().can_truncate && !kSanitized) EXPECT_GT(tally_.accepted, 0U);
    cases_played += tally_.cases;
    fmt::print(
        "{}: {} cases; {} swapped, {} parked; {} prompt tokens from the cache, {} of host memory, {} of disk; "
        "{} of {} guesses right\n",
        backends_[0]->properties().info.architecture, tally_.cases, tally_.swapped, tally_.parked, tally_.cached,
        tally_.from_memory, tally_.from_disk, tally_.accepted, tally_.drafted);
}

// Over all kinds, unless only some were asked for.
// What others were told behind the same prompt is guessed; the warmer a request, the earlier it parts from that.
TEST_P(BitIdentity, GuessesThatAreRightInPartLeaveTheBits) {
    Server cold(*backends_[0], {.prefix_cache = false, .speculation = false}, 1);
    Server guessing(*backends_[1], {.reserve_output = false}, 2);
    auto const request_at = [](std::uint32_t warmth) {
        auto request = request_of(text_of(121, 100), 2 * kAnswer);
        request.sampling.temperature = 0.04F * static_cast<float>(warmth);
        request.sampling.seed = warmth;
        return request;
    };
    for (std::uint32_t warmth = 0; warmth < 16; ++warmth) {
        for (Server* server : {&cold, &guessing}) {
            server->submit(kFirstOther + warmth, request_at(warmth));
            server->run();
        }
        EXPECT_TRUE(cold.answers[kFirstOther + warmth].bits == guessing.answers[kFirstOther + warmth].bits) << warmth;
    }
    auto const stats = guessing.stats();
    EXPECT_GT(stats.accepted_total, 0U);
    EXPECT_GT(stats.drafted_total, stats.accepted_total);
    guessing.forget();
}

class Sum : public ::testing::Environment {
public:
    void TearDown() override {
        fmt::print("{} cases in all\n", cases_played);
        bool const all = ::testing::UnitTest::GetInstance()->test_to_run_count() == 8;
        if (all && !kSanitized) EXPECT_GE(cases_played, kCasesMin);
    }
};
[[maybe_unused]] auto* const sum = ::testing::AddGlobalTestEnvironment(new Sum);

}  // namespace
}  // namespace hearth
