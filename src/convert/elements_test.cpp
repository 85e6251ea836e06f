#include "convert/elements.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::convert {
namespace {

// The bits of each element after the way from `from` to `to`.
template <typename Out, typename In>
std::vector<Out> converted(ElementType from, std::vector<In> const& in, ElementType to, float shift = 0) {
    std::vector<Out> out(in.size());
    convert_elements(from, std::as_bytes(std::span(in)), shift, to, std::as_writable_bytes(std::span(out)));
    return out;
}

TEST(Elements, RoundToNearestWithTiesToEven) {
    EXPECT_EQ(
        converted<std::uint16_t>(ElementType::f32, std::vector<float>{1.0F, 65504.0F, 65520.0F, 0x1.002p0F, 0x1.006p0F},
                                 ElementType::f16),
        (std::vector<std::uint16_t>{0x3c00, 0x7bff, 0x7c00, 0x3c00, 0x3c02}));
    EXPECT_EQ(converted<std::uint16_t>(ElementType::f32, std::vector<float>{1.0F, 0x1.01p0F, 0x1.03p0F, -2.5F},
                                       ElementType::bf16),
              (std::vector<std::uint16_t>{0x3f80, 0x3f80, 0x3f82, 0xc020}));
}

TEST(Elements, KeepTheSignOfZeroAndTheSmallestNumbers) {
    auto const smallest = std::numeric_limits<float>::denorm_min();
    EXPECT_EQ(
        converted<std::uint16_t>(ElementType::f32, std::vector<float>{-0.0F, 0x1p-24F, smallest}, ElementType::f16),
        (std::vector<std::uint16_t>{0x8000, 0x0001, 0x0000}));
    EXPECT_EQ(converted<std::uint32_t>(ElementType::bf16, std::vector<std::uint16_t>{0x8000, 0x0001}, ElementType::f32),
              (std::vector<std::uint32_t>{0x80000000, 0x00010000}));
}

TEST(Elements, MakeNansQuietOnTheWayThroughBf16AsUpstreamDoes) {
    EXPECT_EQ(converted<std::uint16_t>(ElementType::bf16, std::vector<std::uint16_t>{0x7f81, 0xff81, 0x7f80},
                                       ElementType::bf16),
              (std::vector<std::uint16_t>{0x7fc1, 0xffc1, 0x7f80}));
}

TEST(Elements, EveryHalfSurvivesTheWayThroughSinglePrecision) {
    std::vector<std::uint16_t> all;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        if ((bits & 0x7fff) <= 0x7c00) all.push_back(static_cast<std::uint16_t>(bits));  // no NaN
    }
    auto const wide = converted<float>(ElementType::f16, all, ElementType::f32);
    EXPECT_EQ(converted<std::uint16_t>(ElementType::f32, wide, ElementType::f16), all);
}

TEST(Elements, AShiftIsAddedInTheTypeOfTheFile) {
    EXPECT_EQ(converted<float>(ElementType::f16, std::vector<std::uint16_t>{0x0001}, ElementType::f32, 1),
              (std::vector<float>{1}));
    EXPECT_EQ(converted<float>(ElementType::bf16, std::vector<std::uint16_t>{0x3a80}, ElementType::f32, 1),
              (std::vector<float>{1.0009765625F}));
}

TEST(Elements, TypesHaveNames) {
    for (auto const type : {ElementType::f32, ElementType::f16, ElementType::bf16})
        EXPECT_EQ(element_type_named(to_string(type)), type);
    EXPECT_EQ(element_type_named("auto"), std::nullopt);
    EXPECT_EQ(element_type_of(models::SafetensorsType::i64), std::nullopt);
}

}  // namespace
}  // namespace hearth::convert
