#include "base/bytes.h"

#include <gtest/gtest.h>

namespace hearth {
namespace {

TEST(Bytes, WhatIsWrittenIsReadBack) {
    ByteWriter writer;
    writer.write(std::uint8_t{7});
    writer.write_string("hearth");
    writer.write(-2.5);
    ByteReader reader(writer.bytes());
    EXPECT_EQ(reader.read<std::uint8_t>(), 7);
    EXPECT_EQ(reader.read_string(), "hearth");
    EXPECT_EQ(reader.read<double>(), -2.5);
    EXPECT_TRUE(reader.ok());
    EXPECT_EQ(reader.left(), 0U);
}

TEST(Bytes, RawBytesAreWrittenAsTheyAre) {
    ByteWriter writer;
    writer.write_bytes(std::string_view("a\0b", 3));
    EXPECT_EQ(writer.bytes(), std::string("a\0b", 3));
}

TEST(Bytes, ALengthPastTheEndFailsAndSticks) {
    ByteWriter writer;
    writer.write(std::uint32_t{1000});
    writer.write(std::uint64_t{1});
    ByteReader reader(writer.bytes());
    EXPECT_EQ(reader.read_string(), "");
    EXPECT_FALSE(reader.ok());
    EXPECT_EQ(reader.read<std::uint64_t>(), 0U);
}

TEST(Bytes, ACountThatCannotFitIsRefusedBeforeAllocation) {
    ByteWriter writer;
    writer.write(std::uint32_t{3});
    writer.write(std::uint64_t{1});
    ByteReader reader(writer.bytes());
    EXPECT_EQ(reader.read_count(8), 0U);
    EXPECT_FALSE(reader.ok());
}

TEST(Bytes, APatchedLengthReplacesThePlaceholder) {
    ByteWriter writer;
    writer.write(std::uint32_t{0});
    writer.write(std::uint16_t{9});
    writer.patch_u32(0, 2);
    EXPECT_EQ(ByteReader(writer.bytes()).read<std::uint32_t>(), 2U);
}

}  // namespace
}  // namespace hearth
