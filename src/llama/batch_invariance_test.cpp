// Same answer whatever happens: the logits of a sequence have the same bits
// however its prompt is cut, whoever is computed beside it, wherever its cells
// lie, and whether it was copied, or saved and restored, on the way.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <string>
#include <tuple>
#include <vector>

#include "base/sanitized.h"
#include "llama/testing/backend_probe.h"
#include "llama/testing/tiny_model.h"

namespace hearth::llama {
namespace {

using namespace testing;

constexpr std::uint32_t kSequences = 24;
constexpr SequenceId kSubject = 0, kDonor = 1, kFirstOther = 2;
constexpr std::uint32_t kContext = 512;
constexpr Position kOthersMax = 100;  // then they begin anew
constexpr std::size_t kSteps = 4;  // tokens decoded one by one after the prompt

enum class Past : std::uint8_t { computed, scattered, copied, restored };

struct Case {
    std::size_t prompt;
    std::size_t chunk;
    std::size_t others;  // sequences that are computed in the same batches
    Past past;
    bool apart = false;  // the others are computed in batches of their own
};

std::string describe(Case const& c) {
    constexpr char const* kNames[] = {"computed", "scattered", "copied", "restored"};
    return std::to_string(c.prompt) + " tokens in chunks of " + std::to_string(c.chunk) + " beside " +
           std::to_string(c.others) + ", " + kNames[static_cast<int>(c.past)];
}

LoadOptions options_for(std::string path, std::uint32_t threads = 1) {
    auto options = small_options(std::move(path));
    options.sequences_max = kSequences;
    options.kv_cells = 4096;
    options.context_request = kContext;
    options.batch_max = kContext + 100;
    options.threads = threads;
    return options;
}

// Sequences that go on by some tokens in every batch of the subject's, so that
// their cells lie between its own.
class Others {
public:
    Others(Backend& backend, std::size_t count) : backend_(backend), lengths_(count, 0) {}

    void join(std::vector<BatchEntry>& batch, bool first_half) {
        for (std::size_t i = 0; i < lengths_.size(); ++i) {
            if ((i % 2 == 0) != first_half) continue;
            auto const sequence = kFirstOther + static_cast<SequenceId>(i);
            if (lengths_[i] > kOthersMax) {
                EXPECT_TRUE(backend_.remove(sequence, 0));
                lengths_[i] = 0;
            }
            // The first one reads a prompt of its own.
            for (int count = i == 0 ? 5 : 1; count > 0; --count)
                batch.push_back({static_cast<Token>(5 + (i * 31 + static_cast<std::size_t>(lengths_[i]) * 7) % 200),
                                 lengths_[i]++, sequence, i == 1});
        }
    }

private:
    Backend& backend_;
    std::vector<Position> lengths_;
};

class Player {
public:
    explicit Player(Backend& backend) : backend_(backend) {}

    // Bits of the logits after the prompt and each further token.
    std::vector<std::uint32_t> play(Case const& c) {
        for (SequenceId s = 0; s < static_cast<SequenceId>(kSequences); ++s) EXPECT_TRUE(backend_.remove(s, 0));
        tokens_ = some_tokens(c.prompt + kSteps, std::min(backend_.properties().vocabulary, 300U));
        bits_.clear();
        Others others(backend_, c.others);
        std::size_t const half = c.prompt / 2;
        switch (c.past) {
            case Past::computed: go_on(c, 0, c.prompt, others); break;
            case Past::scattered:
                scatter();
                go_on(c, 0, c.prompt, others);
                break;
            case Past::copied:
                if (half > 0) copy(half);
                go_on(c, half, c.prompt, others);
                break;
            case Past::restored:
                go_on(c, 0, half, others);
                if (half > 0) save_and_restore(half);
                go_on(c, half, c.prompt, others);
                break;
        }
        Case single = c;
        single.chunk = 1;
        go_on(single, c.prompt, c.prompt + kSteps, others);
        return bits_;
    }

private:
    void go_on(Case const& c, std::size_t begin, std::size_t end, Others& others) {
        while (begin < end) {
            std::size_t const count = std::min(c.chunk, end - begin);
            std::vector<BatchEntry> batch;
            others.join(batch, true);
            if (c.apart) {
                if (!batch.empty()) ASSERT_TRUE(backend_.decode(batch));
                batch.clear();
            }
            std::size_t const first = batch.size();
            for (std::size_t i = begin; i < begin + count; ++i)
                batch.push_back({tokens_[i], static_cast<Position>(i), kSubject, i + 1 >= c.prompt});
            if (!c.apart) others.join(batch, false);
            auto const status = backend_.decode(batch);
            ASSERT_TRUE(status) << status.error().message;
            for (std::size_t i = begin; i < begin + count; ++i) {
                if (i + 1 < c.prompt) continue;
                for (float const value : backend_.logits(first + i - begin))
                    bits_.push_back(std::bit_cast<std::uint32_t>(value));
            }
            begin += count;
        }
    }

    // Leaves free cells in many small holes, the later ones first in number.
    void scatter() {
        for (int round = 0; round < 24; ++round)
            for (SequenceId s = 16; s < 22; ++s) {
                auto const tokens = some_tokens(3, 200, static_cast<std::uint32_t>(round));
                ASSERT_TRUE(feed(backend_, s, tokens, round * 3));
            }
        for (SequenceId s = 16; s < 22; s += 2) ASSERT_TRUE(backend_.remove(s, 0));
    }

    // The first half comes from another sequence, which first went another way where that can be undone.
    void copy(std::size_t half) {
        std::vector<Token> donor(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(half));
        if (backend_.properties().can_share_cells) {
            auto const tail = some_tokens(9, 200, 77);
            donor.insert(donor.end(), tail.begin(), tail.end());
        }
        ASSERT_TRUE(feed(backend_, kDonor, donor, 0, 33));
        ASSERT_TRUE(backend_.copy_sequence(kDonor, kSubject, static_cast<Position>(half)));
    }

    void save_and_restore(std::size_t half) {
        auto const blob = backend_.save(kSubject);
        ASSERT_TRUE(blob) << blob.error().message;
        ASSERT_TRUE(backend_.remove(kSubject, 0));
        ASSERT_TRUE(feed(backend_, kDonor, some_tokens(half / 2 + 3, 200, 5)));  // takes some of its cells
        auto const status = backend_.restore(kSubject, *blob);
        ASSERT_TRUE(status) << status.error().message;
    }

    Backend& backend_;
    std::vector<Token> tokens_;
    std::vector<std::uint32_t> bits_;
};

// Plays all cases, says which differ from the plain one of their prompt.
void expect_same_bits(Backend& backend, std::vector<std::size_t> const& prompts,
                      std::vector<std::size_t> const& chunks) {
    Player player(backend);
    for (std::size_t const prompt : prompts) {
        auto const expected = player.play({.prompt = prompt, .chunk = 512, .others = 0, .past = Past::computed});
        ASSERT_EQ(expected.size(), (kSteps + 1) * backend.properties().vocabulary);
        for (std::size_t const chunk : chunks)
            for (std::size_t const others : {0U, 1U, 3U, 15U})
                for (Past const past : {Past::computed, Past::scattered, Past::copied, Past::restored}) {
                    Case const c{.prompt = prompt, .chunk = chunk, .others = others, .past = past};
                    EXPECT_TRUE(player.play(c) == expected) << describe(c);
                    if (::testing::Test::HasFatalFailure()) return;
                }
    }
}

class BatchInvariance : public ::testing::TestWithParam<TinyKind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, BatchInvariance,
                         ::testing::Values(TinyKind::attention, TinyKind::window, TinyKind::hybrid,
                                           TinyKind::recurrent));

// 4 x 6 x 4 x 4 cases of each kind; fewer where each instruction is checked.
TEST_P(BatchInvariance, LogitsHaveTheSameBitsWhateverHappens) {
    TinyModel const model({.kind = GetParam()});
    auto const backend = load_or_die(options_for(model.path()));
    ASSERT_NE(backend, nullptr);
    EXPECT_EQ(backend->properties().info.determinism, domain::Determinism::always);
    if (kSanitized) expect_same_bits(*backend, {20, 130}, {7, 100});
    else expect_same_bits(*backend, {1, 20, 130, 400}, {1, 7, 16, 64, 100, 512});
}

TEST_P(BatchInvariance, ThreadsDoNotMatter) {
    TinyModel const model({.kind = GetParam()});
    Case const c{.prompt = 400, .chunk = 200, .others = 1, .past = Past::computed};
    std::vector<std::uint32_t> expected;
    for (std::uint32_t const threads : {1U, 2U, 3U}) {
        auto const backend = load_or_die(options_for(model.path(), threads));
        ASSERT_NE(backend, nullptr);
        auto const bits = Player(*backend).play(c);
        if (threads == 1) expected = bits;
        EXPECT_TRUE(bits == expected) << threads;
    }
}

// Kernels that depend on the shape of a batch still compute the same bits from the same shape: that is
// all a request needs that is computed alone.
class FixedShapes : public ::testing::TestWithParam<std::tuple<TinyKind, TinyWeights>> {};

INSTANTIATE_TEST_SUITE_P(
    Kinds, FixedShapes,
    ::testing::Combine(::testing::Values(TinyKind::attention, TinyKind::window, TinyKind::hybrid, TinyKind::recurrent),
                       ::testing::Values(TinyWeights::bf16, TinyWeights::q4_0, TinyWeights::iq4_nl)));

TEST_P(FixedShapes, HaveTheSameBitsWhateverHappensBetweenThem) {
    auto const [kind, weights] = GetParam();
    TinyModel const model({.kind = kind, .weights = weights});
    auto const backend = load_or_die(options_for(model.path(), 2));
    ASSERT_NE(backend, nullptr);
    EXPECT_EQ(backend->properties().info.determinism, domain::Determinism::on_request);
    Player player(*backend);
    Case const plain{.prompt = 384, .chunk = 64, .others = 0, .past = Past::computed, .apart = true};
    auto const expected = player.play(plain);
    ASSERT_EQ(expected.size(), (kSteps + 1) * backend->properties().vocabulary);
    for (std::size_t const others : {0U, 3U, 15U})
        for (Past const past : {Past::computed, Past::scattered, Past::restored}) {
            Case c = plain;
            c.others = others;
            c.past = past;
            EXPECT_TRUE(player.play(c) == expected) << describe(c);
        }
}

TEST(BatchInvarianceOfModels, Stories) {
    HEARTH_MODEL_OR_SKIP(path, shared_model("stories260Ktok512.gguf"));
    auto options = options_for(path);
    options.context_request = 128;
    auto const backend = load_or_die(options);
    ASSERT_NE(backend, nullptr);
    if (kSanitized) expect_same_bits(*backend, {100}, {16});
    else expect_same_bits(*backend, {1, 40, 120}, {1, 7, 16, 64, 100, 512});
}

TEST(BatchInvarianceOfModels, SmolLm2) {
    HEARTH_MODEL_OR_SKIP(path, cached_model("SmolLM2-135M-Instruct.Q4_1.gguf"));
    if (kSanitized) GTEST_SKIP() << "takes too long under sanitizers";
    auto const backend = load_or_die(options_for(path));
    ASSERT_NE(backend, nullptr);
    Player player(*backend);
    auto const expected = player.play({.prompt = 300, .chunk = 512, .others = 0, .past = Past::computed});
    for (Case const& c :
         {Case{300, 7, 0, Past::copied}, Case{300, 16, 3, Past::restored}, Case{300, 64, 15, Past::computed},
          Case{300, 100, 1, Past::scattered}, Case{300, 512, 15, Past::copied}})
        EXPECT_TRUE(player.play(c) == expected) << describe(c);
}

}  // namespace
}  // namespace hearth::llama
