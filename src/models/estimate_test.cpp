#include "models/estimate.h"

#include <gtest/gtest.h>

namespace hearth::models {
namespace {

GgufFile llama() {
    GgufFile file;
    file.metadata["general.architecture"] = std::string("llama");
    file.metadata["llama.block_count"] = std::uint64_t{30};
    file.metadata["llama.feed_forward_length"] = std::uint64_t{1536};
    file.metadata["llama.embedding_length"] = std::uint64_t{576};
    file.metadata["llama.attention.head_count"] = std::uint64_t{9};
    file.metadata["llama.attention.head_count_kv"] = std::uint64_t{3};
    file.metadata["llama.context_length"] = std::uint64_t{8192};
    file.metadata["tokenizer.ggml.tokens"] = GgufArray{GgufType::string, 49152, 0, 0, {}};
    file.metadata["tokenizer.ggml.merges"] = GgufArray{GgufType::string, 48900, 0, 0, {}};
    file.tensors = {{"a", {1}, 0, 0, 1000}, {"b", {1}, 0, 0, 24}};
    return file;
}

TEST(EstimateMemory, CountsTensorsOfAllFilesAndTheCacheExactly) {
    GgufFile second;
    second.tensors = {{"c", {1}, 0, 0, 76}};
    auto const need = estimate_memory({llama(), second}, 1000, 512);
    EXPECT_EQ(need.weights, 1100U);
    EXPECT_EQ(need.kv, 30U * 3 * (64 + 64) * 2 * 1000);
    EXPECT_EQ(need.scratch, 512U * 4 * (4 * 576 + 2 * 1536) + 20 * 49152 + 4 * 512 * 1000);
    EXPECT_EQ(need.process, (17U << 20) + 49152 * 230 + 48900 * 118);
    EXPECT_EQ(need.total(), need.weights + need.kv + need.scratch + need.process);
}

TEST(EstimateMemory, KnowsLayersThatDifferAndHeadsOfTheirOwnWidth) {
    auto file = llama();
    file.metadata["llama.attention.head_count_kv"] = GgufArray{GgufType::i32, 3, 0, 0, {0, 2, 4}};
    file.metadata["llama.attention.key_length"] = std::uint64_t{256};
    file.metadata["llama.attention.value_length"] = std::uint64_t{128};
    EXPECT_EQ(estimate_memory({file}, 10, 1).kv, 6U * (256 + 128) * 2 * 10);
}

TEST(EstimateMemory, AnEncoderHasNoCacheAndNoScores) {
    auto file = llama();
    file.metadata["llama.attention.causal"] = std::uint64_t{0};
    auto const need = estimate_memory({file}, 1000, 1);
    EXPECT_EQ(need.kv, 0U);
    EXPECT_EQ(need.scratch, 4U * (4 * 576 + 2 * 1536) * 2 / 3);
}

TEST(EstimateMemory, LargeModelsComputeFewerTokensAtOnceAndWindowsHaveMasksOfTheirOwn) {
    auto file = llama();
    file.tensors.front().dimensions = {1U << 20, 1U << 12};
    auto const large = estimate_memory({file}, 1000, 512).scratch;
    EXPECT_EQ(estimate_memory({llama()}, 1000, 512).scratch - large, 4U * (512 - 32) * 1000);
    file.metadata["llama.attention.sliding_window"] = std::uint64_t{512};
    EXPECT_EQ(estimate_memory({file}, 1000, 512).scratch - large, 2U * 32 * 1000);
}

TEST(EstimateMemory, TakesTheWidestOfLayersThatDiffer) {
    auto file = llama();
    file.metadata["llama.feed_forward_length"] = GgufArray{GgufType::i32, 3, 0, 0, {100, 3000, 200}};
    auto const wide = estimate_memory({file}, 1000, 512).scratch;
    file.metadata["llama.feed_forward_length"] = std::uint64_t{3000};
    EXPECT_EQ(wide, estimate_memory({file}, 1000, 512).scratch);
}

TEST(DefaultCells, HoldAContextAndAtLeastTheSharedOnes) {
    EXPECT_EQ(default_cells(llama(), 0), 32768U);
    EXPECT_EQ(default_cells(llama(), 65536), 65536U);
}

TEST(CellsWithin, AreAsManyAsTheBudgetHoldsButAWholeContext) {
    std::vector const files{llama()};
    auto const takes = [&](std::uint64_t cells) { return estimate_memory(files, cells, 512).total(); };
    EXPECT_EQ(cells_within(files, 0, 512, takes(32768)), 32768U);
    EXPECT_EQ(cells_within(files, 0, 512, takes(32768) - 1), 32768U - 256);
    EXPECT_EQ(cells_within(files, 0, 512, takes(20000)), 19968U) << "as the engine rounds them";
    EXPECT_EQ(cells_within(files, 0, 512, 1), 8192U) << "a context, though it does not fit";
    EXPECT_EQ(cells_within(files, 100, 512, 1), 100U);
    EXPECT_EQ(cells_within(files, 65536, 512, takes(40000)), 65536U);
    for (std::uint64_t budget = takes(8192); budget < takes(33000); budget += 999'983)
        EXPECT_LE(takes(cells_within(files, 0, 512, budget)), budget);
}

}  // namespace
}  // namespace hearth::models
