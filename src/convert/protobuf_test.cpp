#include "convert/protobuf.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace hearth::convert {
namespace {

using namespace std::string_literals;

std::string refusal(std::string const& message) {
    ProtobufReader reader(message);
    for (;;) {
        auto const field = reader.next();
        if (!field) return field.error().message;
        if (!field->has_value()) return "";
    }
}

TEST(ProtobufReader, GivesTheFieldsInOrder) {
    auto const message =
        "\x08\x96\x01"s + "\x12\x03" + "abc" + "\x1d\x00\x00\x80\x3f"s + "\x21\x01\x00\x00\x00\x00\x00\x00\x80"s;
    ProtobufReader reader(message);
    auto const number = reader.next();
    ASSERT_TRUE(number && *number);
    EXPECT_EQ((*number)->number, 1U);
    EXPECT_EQ((*number)->wire, Wire::varint);
    EXPECT_EQ((*number)->value, 150U);
    auto const text = reader.next();
    ASSERT_TRUE(text && *text);
    EXPECT_EQ((*text)->bytes, "abc");
    auto const small = reader.next();
    ASSERT_TRUE(small && *small);
    EXPECT_EQ((*small)->wire, Wire::fixed32);
    EXPECT_EQ((*small)->value, 0x3f800000U);
    auto const large = reader.next();
    ASSERT_TRUE(large && *large);
    EXPECT_EQ((*large)->value, 0x8000000000000001U);
    auto const end = reader.next();
    ASSERT_TRUE(end);
    EXPECT_FALSE(end->has_value());
}

TEST(ProtobufReader, ReadsTheLargestNumber) {
    auto const message = "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s;
    ProtobufReader reader(message);
    auto const field = reader.next();
    ASSERT_TRUE(field && *field);
    EXPECT_EQ((*field)->value, UINT64_MAX);
}

TEST(ProtobufReader, RefusesWhatReachesBehindTheMessage) {
    EXPECT_NE(refusal("\x12\x04"
                      "abc")
                  .find("a field of 4 bytes, but 3 are left"),
              std::string::npos);
    EXPECT_NE(refusal("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"s).find("a field of 18446744073709551615 bytes"),
              std::string::npos);
    EXPECT_NE(refusal("\x1d\x00\x00\x80"s).find("a field of 4 bytes, but 3"), std::string::npos);
    EXPECT_NE(refusal("\x21\x00"s).find("a field of 8 bytes, but 1"), std::string::npos);
    EXPECT_NE(refusal("\x08").find("a number ends with the message"), std::string::npos);
    EXPECT_NE(refusal("\x08\x80").find("a number ends with the message"), std::string::npos);
}

TEST(ProtobufReader, RefusesWhatIsNoField) {
    EXPECT_NE(refusal("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02").find("more than 64 bits"), std::string::npos);
    EXPECT_NE(refusal("\x00\x00"s).find("0 is no number of a field"), std::string::npos);
    EXPECT_NE(refusal("\x80\x80\x80\x80\x10\x00"s).find("is no number of a field"), std::string::npos);  // 2^29
    EXPECT_NE(refusal("\x0b\x0c").find("of no type that is read"), std::string::npos);  // a group
    EXPECT_NE(refusal("\x0f").find("of no type that is read"), std::string::npos);
}

}  // namespace
}  // namespace hearth::convert
