// ByteReader and ByteWriter: little-endian encoding with every length checked.
//
// The reader never reads past its span and never allocates more than the bytes
// that are left could fill, whatever counts the input claims. The first failure
// sticks: later reads return zero values, so that a decoder reads straight
// through and checks ok() once at the end.
//
// Threads: one. Ownership: the reader views, the writer owns.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace hearth {

static_assert(std::endian::native == std::endian::little, "frames and GGUF are read in place");

class ByteReader {
public:
    explicit ByteReader(std::span<std::byte const> data) : data_(data) {}
    explicit ByteReader(std::string_view data) : data_(std::as_bytes(std::span(data))) {}

    template <typename T>
        requires(std::is_arithmetic_v<T>)
    T read() {
        T value{};
        if (!take(sizeof(T))) return value;
        std::memcpy(&value, data_.data() + position_ - sizeof(T), sizeof(T));
        return value;
    }

    // A string behind a u32 length.
    std::string_view read_string();

    // `count` raw bytes.
    std::string_view read_bytes(std::size_t count);

    // A u32 count of elements that take at least `element_bytes` each; fails
    // when they cannot fit in what is left.
    // REQUIRES: element_bytes > 0
    std::uint32_t read_count(std::size_t element_bytes);

    void fail() { failed_ = true; }
    [[nodiscard]] bool ok() const { return !failed_; }
    [[nodiscard]] std::size_t left() const { return failed_ ? 0 : data_.size() - position_; }
    [[nodiscard]] std::size_t position() const { return position_; }

private:
    bool take(std::size_t count);

    std::span<std::byte const> data_;
    std::size_t position_ = 0;
    bool failed_ = false;
};

class ByteWriter {
public:
    template <typename T>
        requires(std::is_arithmetic_v<T>)
    void write(T value) {
        out_.append(reinterpret_cast<char const*>(&value), sizeof(T));
    }
    // A u32 length, then the bytes. REQUIRES: text.size() < 2^32
    void write_string(std::string_view text);
    void write_count(std::size_t count);
    void write_bytes(std::string_view bytes) { out_.append(bytes); }

    // Overwrites four bytes written before, e.g. a length known only now.
    void patch_u32(std::size_t at, std::uint32_t value);

    [[nodiscard]] std::size_t size() const { return out_.size(); }
    [[nodiscard]] std::string const& bytes() const& { return out_; }
    [[nodiscard]] std::string take() && { return std::move(out_); }
    void clear() { out_.clear(); }

private:
    std::string out_;
};

}  // namespace hearth
