// ProtobufReader: the fields of one protobuf message, one after the other.
//
// Knows the wire format and no schema: whoever asks knows which field is what.
// Nothing is copied and nothing allocated, whatever lengths the bytes claim.
// Groups, which no file that is read here has, are refused, as is a field
// that reaches behind the message.
//
// Format: protobuf.dev/programming-guides/encoding.
// Threads: one. Ownership: views the bytes, which must outlive it and its fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace hearth::convert {

enum class Wire : std::uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct ProtobufField {
    std::uint32_t number = 0;
    Wire wire{};
    std::uint64_t value = 0;   // of a varint and a fixed number
    std::string_view bytes{};  // of Wire::bytes
};

class ProtobufReader {
public:
    explicit ProtobufReader(std::string_view message) : message_(message) {}

    // Nothing at the end of the message. `corrupt` with the byte for what is none.
    [[nodiscard]] Result<std::optional<ProtobufField>> next();

private:
    [[nodiscard]] Error corrupt(std::string_view what) const;
    [[nodiscard]] Result<std::uint64_t> varint();
    [[nodiscard]] Result<std::string_view> take(std::uint64_t count);

    std::string_view message_;
    std::size_t at_ = 0;
};

}  // namespace hearth::convert
