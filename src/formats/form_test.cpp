#include "formats/form.h"

#include <string>

#include <gtest/gtest.h>

namespace hearth::formats {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kBillion = 1'000'000'000;

TEST(Form, ProfilesAndTypesInAnyCase) {
    EXPECT_EQ(parse_form("fast")->type, "Q4_1");
    EXPECT_EQ(parse_form("Fast")->file_type, 3U);
    EXPECT_EQ(parse_form("balanced")->type, "Q5_K_M");
    EXPECT_EQ(parse_form("QUALITY")->type, "Q8_0");
    EXPECT_TRUE(parse_form("full")->as_source());
    EXPECT_EQ(parse_form("q4_k_m")->type, "Q4_K_M");
    EXPECT_EQ(parse_form("q4_K")->type, "Q4_K_M");
    EXPECT_EQ(parse_form("bf16")->file_type, 32U);
}

TEST(Form, WhatIsNoneSaysWhatThereIs) {
    for (auto const* text : {"", "auto", "q4", "IQ1_S", "fast "}) {
        auto const form = parse_form(text);
        ASSERT_FALSE(form) << text;
        EXPECT_EQ(form.error().code, Code::invalid_argument);
        EXPECT_NE(form.error().message.find("fast, balanced, quality, full, F32"), std::string::npos);
    }
}

TEST(ChooseProfile, MakesAModelSmallerTheMoreOfTheMemoryItWouldTake) {
    EXPECT_EQ(choose_profile(135'000'000, 8 * kGiB), Profile::full);    // 0.27 of 8 GiB
    EXPECT_EQ(choose_profile(kBillion, 8 * kGiB), Profile::quality);    // 2 GB would be a quarter
    EXPECT_EQ(choose_profile(3 * kBillion, 8 * kGiB), Profile::balanced);
    EXPECT_EQ(choose_profile(8 * kBillion, 8 * kGiB), Profile::fast);
    EXPECT_EQ(choose_profile(8 * kBillion, 256 * kGiB), Profile::full);
    EXPECT_EQ(choose_profile(1, 0), Profile::fast);
}

// With thresholds in round numbers the borders are where they are said to be.
TEST(ChooseProfile, ThresholdsAreInclusive) {
    AutoThresholds const half{.full_percent = 50, .quality_percent = 50, .balanced_percent = 50};
    EXPECT_EQ(choose_profile(1000, 4000, half), Profile::full);
    EXPECT_EQ(choose_profile(1000, 3999, half), Profile::quality);
    EXPECT_EQ(choose_profile(1000, 2125, half), Profile::quality);
    EXPECT_EQ(choose_profile(1000, 2124, half), Profile::balanced);
    EXPECT_EQ(choose_profile(1000, 1425, half), Profile::balanced);
    EXPECT_EQ(choose_profile(1000, 1424, half), Profile::fast);
}

}  // namespace
}  // namespace hearth::formats
