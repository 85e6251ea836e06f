// A model with adapters computes what a model with their changes in its weights does, on
// stories260K and on tiny models of each kind of memory.
#include "llama/adapters.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "llama/testing/adapter_files.h"
#include "llama/testing/backend_probe.h"
#include "llama/testing/tiny_model.h"

namespace hearth::llama {
namespace {

using namespace testing;

// The same sums in another order, some of them rounded to the cache's 16 bits.
constexpr double kSameAsMerged = 1e-6;

std::string stories() { return shared_model("stories260Ktok512.gguf"); }

std::unique_ptr<Backend> load(std::string const& path, std::vector<AdapterSet> adapters = {}) {
    auto options = small_options(path);
    options.adapters = std::move(adapters);
    return load_or_die(std::move(options));
}

std::vector<Token> tokens(Backend const& backend, std::string_view text) {
    auto result = backend.tokenize(text, {});
    EXPECT_TRUE(result);
    return result ? *result : std::vector<Token>();
}

std::string story(Backend& backend, std::uint32_t set, int count = 40) {
    EXPECT_TRUE(backend.use_adapters(set));
    EXPECT_TRUE(backend.remove(0, 0));
    return greedy(backend, tokens(backend, "Once upon a time"), count);
}

std::vector<float> logits(Backend& backend, std::uint32_t set, std::span<Token const> prompt) {
    EXPECT_TRUE(backend.use_adapters(set));
    EXPECT_TRUE(backend.remove(0, 0));
    return logits_after(backend, 0, prompt);
}

TEST(Adapters, AModelSaysWithOneWhatItSaysWithItsChangesMerged) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    auto const adapter = write_adapter(path);
    auto const merged_file = write_merged(path, {{adapter.path(), 1}});
    auto const base = load(path), merged = load(merged_file.path());
    auto const both = load(path, {{{adapter.path(), 1}}});
    auto const prompt = some_tokens(60, 512);
    EXPECT_EQ(logits(*both, 0, prompt), logits(*base, 0, prompt)) << "without them it is the base, to the last bit";
    EXPECT_LT(difference(logits(*both, 1, prompt), logits(*merged, 0, prompt)), kSameAsMerged);
    EXPECT_GT(difference(logits(*both, 1, prompt), logits(*base, 0, prompt)), 1e-4) << "they change something";
    EXPECT_EQ(story(*both, 1), story(*merged, 0));
    EXPECT_EQ(story(*both, 0), story(*base, 0));
    EXPECT_NE(story(*both, 1), story(*both, 0));
}

TEST(Adapters, AScaleOfNothingIsTheBaseToTheLastBit) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    auto const adapter = write_adapter(path);
    auto const base = load(path);
    auto const scaled = load(path, {{{adapter.path(), 0}}});
    auto const prompt = some_tokens(60, 512);
    EXPECT_EQ(logits(*scaled, 1, prompt), logits(*base, 0, prompt));
}

TEST(Adapters, ScalesAndSeveralAdaptersAddUp) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    auto const first = write_adapter(path, {.seed = 1});
    auto const second = write_adapter(path, {.rank = 1, .alpha = 0, .spread = 0.1F, .seed = 2});
    AdapterSet const half{{first.path(), 0.5F}}, minus{{first.path(), -1}}, both{{first.path(), 1}, {second.path(), 2}};
    AdapterSet const twice{{first.path(), 0.25F}, {first.path(), 0.25F}};
    auto const backend = load(path, {half, minus, both, twice});
    auto const prompt = some_tokens(60, 512);
    std::uint32_t set = 0;
    for (auto const& adapters : {half, minus, both, half}) {
        auto const merged_file = write_merged(path, adapters);
        auto const merged = load(merged_file.path());
        EXPECT_LT(difference(logits(*backend, ++set, prompt), logits(*merged, 0, prompt)), kSameAsMerged) << set;
    }
}

TEST(Adapters, SmallerNumbersAreRoundedAndNoMore) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    for (auto const type : {TinyAdapterOptions::Type::f16, TinyAdapterOptions::Type::q8_0}) {
        auto const adapter = write_adapter(path, {.rank = 32, .alpha = 16, .spread = 0.03F, .type = type});
        auto const merged_file = write_merged(path, {{adapter.path(), 1}});
        auto const merged = load(merged_file.path());
        auto const backend = load(path, {{{adapter.path(), 1}}});
        auto const prompt = some_tokens(60, 512);
        // Products with quantised matrices round the other side, too.
        EXPECT_LT(difference(logits(*backend, 1, prompt), logits(*merged, 0, prompt)), 1e-4);
    }
}

// Token by token, each with its own set: nobody's answer depends on whose turn it was before.
TEST(Adapters, SequencesOfSeveralSetsTakeTurns) {
    HEARTH_MODEL_OR_SKIP(path, stories());
    auto const adapter = write_adapter(path);
    auto const backend = load(path, {{{adapter.path(), 1}}, {{adapter.path(), 0.5F}}});
    constexpr SequenceId kSets = 3;
    std::vector<std::vector<float>> alone;
    auto const prompt = some_tokens(24, 512);
    for (SequenceId set = 0; set < kSets; ++set)
        alone.push_back(logits(*backend, static_cast<std::uint32_t>(set), prompt));
    ASSERT_TRUE(backend->remove(0, 0));
    for (std::size_t at = 0; at < prompt.size(); ++at) {
        for (SequenceId set = 0; set < kSets; ++set) {
            ASSERT_TRUE(backend->use_adapters(static_cast<std::uint32_t>(set)));
            BatchEntry const entry{prompt[at], static_cast<Position>(at), set, true};
            ASSERT_TRUE(backend->decode(std::span(&entry, 1)));
            if (at + 1 < prompt.size()) continue;
            EXPECT_LT(difference(backend->logits(0), alone[static_cast<std::size_t>(set)]), kSameLogits) << set;
        }
    }
}

class EveryKind : public ::testing::TestWithParam<TinyKind> {};

TEST_P(EveryKind, ComputesWithAdaptersAsWithMergedWeights) {
    TinyModel const model({.kind = GetParam()});
    auto const adapter = write_adapter(model.path(), {.spread = 0.1F});
    auto const merged_file = write_merged(model.path(), {{adapter.path(), 1}});
    auto const base = load(model.path()), merged = load(merged_file.path());
    auto const backend = load(model.path(), {{{adapter.path(), 1}}});
    auto const prompt = some_tokens(40, 320);
    if (GetParam() == TinyKind::embedding) {
        std::vector<std::vector<Token>> const inputs{prompt, some_tokens(7, 320, 2)};
        auto const plain = base->embed(inputs), changed = merged->embed(inputs);
        ASSERT_TRUE(plain && changed);
        for (std::uint32_t const set : {1U, 0U, 1U}) {
            ASSERT_TRUE(backend->use_adapters(set));
            auto const vectors = backend->embed(inputs);
            ASSERT_TRUE(vectors) << vectors.error().message;
            for (std::size_t i = 0; i < inputs.size(); ++i)
                EXPECT_LT(difference((*vectors)[i], (set == 0 ? *plain : *changed)[i]), kSameAsMerged) << set;
        }
        EXPECT_GT(difference((*plain)[0], (*changed)[0]), 1e-4);
        return;
    }
    EXPECT_LT(difference(logits(*backend, 1, prompt), logits(*merged, 0, prompt)), kSameAsMerged);
    EXPECT_EQ(logits(*backend, 0, prompt), logits(*base, 0, prompt));
    EXPECT_GT(difference(logits(*backend, 1, prompt), logits(*base, 0, prompt)), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind,
                         ::testing::Values(TinyKind::attention, TinyKind::window, TinyKind::hybrid, TinyKind::recurrent,
                                           TinyKind::embedding));

TEST(Adapters, AreNamedByWhatTheyHoldAndHowMuchOfIt) {
    TinyModel const model({});
    auto const first = write_adapter(model.path(), {.seed = 1}), same = write_adapter(model.path(), {.seed = 1});
    auto const other = write_adapter(model.path(), {.seed = 2});
    auto const backend = load(model.path(), {{{first.path(), 1}},
                                             {{same.path(), 1}},
                                             {{other.path(), 1}},
                                             {{first.path(), 0.5F}},
                                             {{first.path(), 1}, {other.path(), 1}}});
    auto const& keys = backend->properties().adapters;
    ASSERT_EQ(keys.size(), 5U);
    EXPECT_EQ(keys[0], keys[1]);
    for (std::size_t i = 1; i < keys.size(); ++i)
        for (std::size_t j = i + 1; j < keys.size(); ++j) EXPECT_NE(keys[i], keys[j]) << i << " " << j;
    EXPECT_FALSE(keys[0].empty());
    EXPECT_EQ(backend->state_key(), load(model.path())->state_key()) << "what the base computed is the base's still";
    EXPECT_GT(backend->memory().weights, load(model.path())->memory().weights);
    auto const unknown = backend->use_adapters(6);
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().code, Code::invalid_argument);
}

TEST(Adapters, FilesThatAreNoneAreErrorsOfTheLoad) {
    TinyModel const model({});
    auto const adapter = write_adapter(model.path());
    std::ifstream in(adapter.path(), std::ios::binary);
    std::string const whole{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    WrittenFile const cut(std::filesystem::path(adapter.path() + ".cut"));
    auto const refused = [&](std::string const& path) {
        auto options = small_options(model.path());
        options.adapters = {{{path, 1}}};
        auto const backend = load_libllama(options);
        EXPECT_FALSE(backend);
        return backend ? Code::internal : backend.error().code;
    };
    for (std::size_t const size : {std::size_t{0}, std::size_t{10}, whole.size() / 2, whole.size() - 1}) {
        std::ofstream(cut.path(), std::ios::binary).write(whole.data(), static_cast<std::streamsize>(size));
        EXPECT_EQ(refused(cut.path()), Code::corrupt) << size;
    }
    EXPECT_EQ(refused("/nonexistent"), Code::corrupt);
    EXPECT_EQ(refused(model.path()), Code::corrupt) << "a model is no adapter";
    TinyModel const other({.kind = TinyKind::window});
    auto const foreign = write_adapter(other.path());
    EXPECT_EQ(refused(foreign.path()), Code::corrupt);
}

}  // namespace
}  // namespace hearth::llama
