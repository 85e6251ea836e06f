// Adapters: what is refused before the engine sees them, and why.
#include "models/adapter.h"

#include <limits>

#include <gtest/gtest.h>

#include "models/report.h"
#include "models/testing/says.h"
#include "testing/gguf_writer.h"

namespace hearth::models {
namespace {

using testing::GgufWriter;
using testing::parse;
using testing::says;
using testing::tiny_adapter;

constexpr std::uint64_t kWidth = 32;
constexpr std::uint64_t kRank = 4;

std::vector<GgufFile> base_of(GgufWriter const& writer) {
    auto file = parse(writer.build(), "base.gguf");
    EXPECT_TRUE(file) << file.error().message;
    return {*std::move(file)};
}

// The verdict on an adapter alone.
Status alone(GgufWriter const& writer) {
    auto const file = parse(writer.build());
    return file ? ok() : Status(file.error());
}

Status on_base(GgufWriter const& writer, GgufWriter const& base = testing::tiny_llama()) {
    auto const file = parse(writer.build());
    if (!file) return file.error();
    return check_adapter(*file, base_of(base));
}

void expect_refused(Status const& status, Code code, std::string_view part) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, code) << status.error().message;
    EXPECT_TRUE(says(status.error().message, part));
}

TEST(Adapter, OneThatFitsItsBaseIsServed) {
    auto const file = parse(tiny_adapter().build());
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_TRUE(is_adapter(*file));
    EXPECT_EQ(adapter_bytes(*file), 4 * (2 * kWidth * kRank + 3 * kWidth * kRank));
    auto const checked = check_adapter(*file, base_of(testing::tiny_llama()));
    EXPECT_TRUE(checked) << checked.error().message;
}

TEST(Adapter, ArchitecturesThatLeaveOutPartsOfItAreRefused) {
    auto const of = [](GgufWriter writer) { return writer.text("general.architecture", "plm"); };
    auto const file = parse(of(tiny_adapter()).build());
    ASSERT_TRUE(file) << file.error().message;
    GgufFile base = *file;  // only its architecture is looked at
    expect_refused(check_adapter(*file, {base}), Code::unsupported, "architecture plm");
}

TEST(Adapter, AModelIsNoneAndItIsNoModel) {
    testing::ScratchFolder const folder;
    auto const model = folder.write("model.gguf", testing::tiny_llama().build());
    auto const adapter = folder.write("adapter.gguf", tiny_adapter().build());
    EXPECT_TRUE(read_adapter(adapter));
    auto const no_adapter = read_adapter(model);
    ASSERT_FALSE(no_adapter);
    EXPECT_EQ(no_adapter.error().code, Code::unsupported);
    auto const no_model = read_gguf_model(adapter);
    ASSERT_FALSE(no_model);
    EXPECT_EQ(no_model.error().code, Code::unsupported);
    EXPECT_TRUE(says(no_model.error().message, "an adapter, not a model"));
}

TEST(Adapter, ACheckTellsThemApart) {
    testing::ScratchFolder const folder;
    auto const adapter = folder.write("adapter.gguf", tiny_adapter().build());
    EXPECT_FALSE(check_model(adapter).valid) << "nobody takes it for a model";
    auto const report = check_any(adapter);
    EXPECT_TRUE(report.valid && report.adapter);
    EXPECT_EQ(report.tensors, 4U);
    EXPECT_TRUE(says(render_text(report), "LoRA adapter", "llama"));
    auto const model = check_any(folder.write("model.gguf", testing::tiny_llama().build()));
    EXPECT_TRUE(model.valid && !model.adapter);
    EXPECT_FALSE(check_any(folder.write("none.gguf", "GGUF")).valid);
}

TEST(Adapter, EveryCutOfTheFileIsRefused) {
    auto const whole = tiny_adapter().build();
    for (std::size_t size = 0; size < whole.size(); size += 7)
        EXPECT_FALSE(parse(std::string_view(whole).substr(0, size))) << size << " of " << whole.size();
}

TEST(Adapter, KindsThatNobodyAppliesAreNamed) {
    expect_refused(alone(tiny_adapter().remove("adapter.type")), Code::corrupt, "adapter.type is missing");
    expect_refused(alone(tiny_adapter().text("adapter.type", "control_vector")), Code::unsupported, "control_vector");
    expect_refused(alone(tiny_adapter().u32("adapter.type", 1)), Code::corrupt, "it must be string");
    expect_refused(alone(tiny_adapter().array<std::uint32_t>("adapter.alora.invocation_tokens", GgufType::u32, {1, 2})),
                   Code::unsupported, "activated LoRA");
    expect_refused(alone(tiny_adapter().u16("split.count", 2).u16("split.no", 0)), Code::unsupported, "one file");
    expect_refused(alone(tiny_adapter().remove("general.architecture")), Code::corrupt, "general.architecture");
}

TEST(Adapter, AlphaIsANumberThatScalesIfItIsThere) {
    EXPECT_TRUE(on_base(tiny_adapter().remove("adapter.lora.alpha")));
    EXPECT_TRUE(on_base(tiny_adapter().f32("adapter.lora.alpha", 0)));
    expect_refused(alone(tiny_adapter().u32("adapter.lora.alpha", 8)), Code::corrupt, "it must be f32");
    expect_refused(alone(tiny_adapter().f32("adapter.lora.alpha", -1)), Code::corrupt, "is -1");
    expect_refused(alone(tiny_adapter().f32("adapter.lora.alpha", std::numeric_limits<float>::quiet_NaN())),
                   Code::corrupt, "adapter.lora.alpha");
    expect_refused(alone(tiny_adapter().f32("adapter.lora.alpha", std::numeric_limits<float>::infinity())),
                   Code::corrupt, "adapter.lora.alpha");
}

TEST(Adapter, MatricesComeInPairsThatFitTogether) {
    auto lonely = tiny_adapter();
    lonely.tensors().pop_back();
    expect_refused(alone(lonely), Code::corrupt, "has A, but no B");

    auto ranks = tiny_adapter();
    ranks.tensors()[0].dimensions = {kWidth, kRank + 1};
    expect_refused(alone(ranks), Code::corrupt, "A is 32 x 5, B is 4 x 32");

    auto huge = tiny_adapter();
    huge.tensors()[0].dimensions = {kWidth, kAdapterRankMax + 1};
    huge.tensors()[1].dimensions = {kAdapterRankMax + 1, kWidth};
    expect_refused(alone(huge), Code::corrupt, "at most 4096");

    auto experts = tiny_adapter();
    experts.tensors()[0].dimensions = {kWidth, kRank, 2};
    expect_refused(alone(experts), Code::corrupt, "2 matrices in A and 1 in B");

    GgufWriter nothing = tiny_adapter();
    nothing.tensors().clear();
    expect_refused(alone(nothing), Code::corrupt, "changes nothing");
}

TEST(Adapter, TensorsOfOtherNamesAndTypesAreRefused) {
    expect_refused(alone(tiny_adapter().tensor("blk.0.attn_q.weight", {kWidth, kWidth})), Code::corrupt,
                   "neither A nor B");
    constexpr std::uint32_t kI32 = 26;
    auto integers = tiny_adapter();
    integers.tensors()[0].type = kI32;
    expect_refused(alone(integers), Code::corrupt, "I32");

    auto const norm = parse(tiny_adapter().tensor("blk.0.attn_norm.weight", {kWidth}).build());
    ASSERT_TRUE(norm) << norm.error().message;
    ASSERT_EQ(norm->warnings.size(), 1U);
    EXPECT_TRUE(says(norm->warnings[0], "blk.0.attn_norm.weight"));
    EXPECT_EQ(adapter_bytes(*norm), adapter_bytes(*parse(tiny_adapter().build())));
}

TEST(Adapter, TheBaseMustBeItsOwn) {
    expect_refused(on_base(tiny_adapter().text("general.architecture", "qwen2")), Code::invalid_argument, "qwen2");
    expect_refused(on_base(tiny_adapter(), testing::tiny_llama(0, 64)), Code::invalid_argument, "blk.0.attn_q.weight");

    auto deeper = tiny_adapter();
    deeper.tensor("blk.1.attn_q.weight.lora_a", {kWidth, kRank}).tensor("blk.1.attn_q.weight.lora_b", {kRank, kWidth});
    expect_refused(on_base(deeper), Code::invalid_argument, "the base does not have");

    auto stacked = tiny_adapter();
    stacked.tensors()[0].dimensions = {kWidth, kRank, 2};
    stacked.tensors()[1].dimensions = {kRank, kWidth, 2};
    expect_refused(on_base(stacked), Code::invalid_argument, "32 x 32 x 2");
}

// Upstream would load these, and then leave the change out or abort in the middle of a step.
TEST(Adapter, ChangesTheEngineWouldNotMakeAreRefused) {
    auto norm = tiny_adapter();
    norm.tensor("blk.0.attn_norm.weight.lora_a", {kWidth, kRank}).tensor("blk.0.attn_norm.weight.lora_b", {kRank, 1});
    expect_refused(on_base(norm), Code::unsupported, "blk.0.attn_norm.weight");

    auto const vocabulary = testing::tiny_llama().tensors()[0].dimensions[1];
    auto embeddings = tiny_adapter();
    embeddings.tensor("token_embd.weight.lora_a", {kRank, vocabulary});
    embeddings.tensor("token_embd.weight.lora_b", {kRank, kWidth});
    expect_refused(on_base(embeddings), Code::unsupported, "tied");
    auto const untied = testing::tiny_llama().tensor("output.weight", {kWidth, vocabulary});
    auto const fits = on_base(embeddings, untied);
    EXPECT_TRUE(fits) << fits.error().message;
    auto unflipped = tiny_adapter();
    unflipped.tensor("token_embd.weight.lora_a", {kWidth, kRank});
    unflipped.tensor("token_embd.weight.lora_b", {kRank, vocabulary});
    EXPECT_FALSE(on_base(unflipped, untied));
}

}  // namespace
}  // namespace hearth::models
