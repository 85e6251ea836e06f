#include "base/bytes.h"

#include "base/assert.h"

namespace hearth {

bool ByteReader::take(std::size_t count) {
    if (failed_ || count > data_.size() - position_) {
        failed_ = true;
        return false;
    }
    position_ += count;
    return true;
}

std::string_view ByteReader::read_bytes(std::size_t count) {
    if (!take(count)) return {};
    return {reinterpret_cast<char const*>(data_.data()) + position_ - count, count};
}

std::string_view ByteReader::read_string() { return read_bytes(read<std::uint32_t>()); }

std::uint32_t ByteReader::read_count(std::size_t element_bytes) {
    HEARTH_ASSERT(element_bytes > 0, "an element takes at least a byte");
    auto const count = read<std::uint32_t>();
    if (count > left() / element_bytes) failed_ = true;
    return failed_ ? 0 : count;
}

void ByteWriter::write_string(std::string_view text) {
    write_count(text.size());
    out_.append(text);
}

void ByteWriter::write_count(std::size_t count) {
    HEARTH_ASSERT(count <= UINT32_MAX, "counts travel as u32");
    write(static_cast<std::uint32_t>(count));
}

void ByteWriter::patch_u32(std::size_t at, std::uint32_t value) {
    HEARTH_ASSERT(at + sizeof value <= out_.size(), "only bytes already written can be patched");
    std::memcpy(out_.data() + at, &value, sizeof value);
}

}  // namespace hearth
