#include "convert/protobuf.h"

#include <cstring>

#include <fmt/format.h>

namespace hearth::convert {
namespace {

constexpr int kVarintBytesMax = 10;
constexpr std::uint64_t kFieldNumberMax = (1U << 29) - 1;
constexpr unsigned kWireBits = 3;

std::uint64_t fixed(std::string_view bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
}

}  // namespace

Error ProtobufReader::corrupt(std::string_view what) const {
    return {Code::corrupt, fmt::format("byte {}: {}", at_, what)};
}

Result<std::uint64_t> ProtobufReader::varint() {
    std::uint64_t value = 0;
    for (int i = 0; i < kVarintBytesMax; ++i) {
        if (at_ == message_.size()) return corrupt("a number ends with the message");
        auto const byte = static_cast<unsigned char>(message_[at_++]);
        if (i == kVarintBytesMax - 1 && byte > 1) return corrupt("a number has more than 64 bits");
        value |= std::uint64_t{byte & 0x7FU} << (7 * i);
        if (byte < 0x80) return value;
    }
    return corrupt("a number does not end");
}

Result<std::string_view> ProtobufReader::take(std::uint64_t count) {
    if (count > message_.size() - at_)
        return corrupt(fmt::format("a field of {} bytes, but {} are left", count, message_.size() - at_));
    auto const bytes = message_.substr(at_, count);
    at_ += count;
    return bytes;
}

Result<std::optional<ProtobufField>> ProtobufReader::next() {
    if (at_ == message_.size()) return std::optional<ProtobufField>();
    HEARTH_TRY(auto const key, varint());
    auto const number = key >> kWireBits;
    if (number == 0 || number > kFieldNumberMax) return corrupt(fmt::format("{} is no number of a field", number));
    ProtobufField field{.number = static_cast<std::uint32_t>(number)};
    field.wire = static_cast<Wire>(key & ((1U << kWireBits) - 1));
    switch (field.wire) {
        case Wire::varint: {
            HEARTH_TRY(field.value, varint());
            break;
        }
        case Wire::fixed64:
        case Wire::fixed32: {
            auto const width = field.wire == Wire::fixed64 ? sizeof(std::uint64_t) : sizeof(std::uint32_t);
            HEARTH_TRY(auto const bytes, take(width));
            field.value = fixed(bytes);
            break;
        }
        case Wire::bytes: {
            HEARTH_TRY(auto const count, varint());
            HEARTH_TRY(field.bytes, take(count));
            break;
        }
        default: return corrupt(fmt::format("field {} is of no type that is read", number));
    }
    return std::optional(field);
}

}  // namespace hearth::convert
