#include "llama/cpu_variants.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "llama/cpu_features.h"

namespace hearth::llama {
namespace {

constexpr std::uint32_t kAllEcx1 = (1U << 12) | (1U << 20) | (1U << 27) | (1U << 28) | (1U << 29);
constexpr std::uint32_t kAllEbx7 =
    (1U << 5) | (1U << 8) | (1U << 16) | (1U << 17) | (1U << 28) | (1U << 30) | (1U << 31);

CpuidRegisters newest() {
    CpuidRegisters r;
    r.leaf1_ecx = kAllEcx1;
    r.leaf7_ebx = kAllEbx7;
    r.leaf7_ecx = 1U << 11;
    r.leaf7_edx = (1U << 24) | (1U << 25);
    r.leaf7_1_eax = (1U << 4) | (1U << 5);
    r.xcr0 = 0x602E7;
    return r;
}

TEST(CpuFeatures, AllBitsGiveEveryFeature) {
    EXPECT_EQ(decode_features(newest()), kSse42 | kAvx2 | kAvxVnni | kAvx512 | kAvx512Vnni | kAvx512Bf16 | kAmxInt8);
}

TEST(CpuFeatures, NothingIsThereWithoutRegisters) { EXPECT_EQ(decode_features({}), 0U); }

TEST(CpuFeatures, WhatTheSystemDoesNotSaveIsAbsent) {
    auto r = newest();
    r.xcr0 = 0xE7;  // no tiles
    EXPECT_EQ(decode_features(r) & kAmxInt8, 0U);
    EXPECT_NE(decode_features(r) & kAvx512, 0U);
    r.xcr0 = 0x7;  // no AVX-512 either
    EXPECT_EQ(decode_features(r), kSse42 | kAvx2 | kAvxVnni);
    r.xcr0 = 0x3;  // SSE only
    EXPECT_EQ(decode_features(r), std::uint32_t{kSse42});
    r = newest();
    r.leaf1_ecx &= ~(1U << 27);  // XGETBV not enabled
    EXPECT_EQ(decode_features(r), std::uint32_t{kSse42});
}

TEST(CpuFeatures, EachLevelNeedsAllItsParts) {
    for (unsigned bit : {12U, 28U, 29U}) {
        auto r = newest();
        r.leaf1_ecx &= ~(1U << bit);
        EXPECT_EQ(decode_features(r), std::uint32_t{kSse42}) << bit;
    }
    for (unsigned bit : {16U, 17U, 28U, 30U, 31U}) {
        auto r = newest();
        r.leaf7_ebx &= ~(1U << bit);
        EXPECT_EQ(decode_features(r), kSse42 | kAvx2 | kAvxVnni) << bit;
    }
}

TEST(CpuVariants, TheBestRunnableOneIsChosen) {
    auto const all = cpu_variants();
    ASSERT_FALSE(all.empty());
    auto const best = std::find_if(all.rbegin(), all.rend(), [](auto const& v) { return v.runnable; });
    ASSERT_NE(best, all.rend()) << "this machine runs none of the variants compiled in";
    auto const chosen = choose_cpu_variant("");
    ASSERT_TRUE(chosen);
    EXPECT_EQ(*chosen, best->name);
}

TEST(CpuVariants, EveryRunnableOneCanBeAskedFor) {
    for (auto const& variant : cpu_variants()) {
        auto const chosen = choose_cpu_variant(variant.name);
        EXPECT_EQ(chosen.has_value(), variant.runnable) << variant.name;
        if (!chosen) {
            EXPECT_EQ(chosen.error().code, Code::unsupported);
        }
    }
}

TEST(CpuVariants, OnlyWhatHasAFeaturePacksForIt) {
    for (auto const& variant : cpu_variants()) {
        EXPECT_FALSE(may_pack(variant.name, "F32")) << variant.name;
        EXPECT_FALSE(may_pack(variant.name, "BF16")) << variant.name;
        bool const oldest = variant.name == "sse42";
        for (auto const* type : {"Q4_0", "Q4_K", "IQ4_NL"})
            EXPECT_NE(may_pack(variant.name, type), oldest) << variant.name << " " << type;
    }
    EXPECT_TRUE(may_pack("altivec", "F32")) << "nobody knows";
}

TEST(CpuVariants, AnUnknownNameListsWhatRuns) {
    auto const chosen = choose_cpu_variant("altivec");
    ASSERT_FALSE(chosen);
    EXPECT_EQ(chosen.error().code, Code::invalid_argument);
    EXPECT_NE(chosen.error().message.find("'altivec'"), std::string::npos);
    EXPECT_NE(chosen.error().message.find(cpu_variants().front().name), std::string::npos);
}

}  // namespace
}  // namespace hearth::llama
