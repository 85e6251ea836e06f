// Metadata: the key/value pairs of a GGUF file, in the order they were first
// set. Setting a key again replaces its value and leaves it in its place, as
// upstream's writer does, so that files can be compared byte by byte.
//
// Threads: one. Ownership: owns everything, encoded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hearth::convert {

inline constexpr std::uint32_t kQuantizationVersion = 2;  // GGML_QNT_VERSION

class Metadata {
public:
    // An empty text is left out, an empty array too.
    void text(std::string_view key, std::string_view value);
    void texts(std::string_view key, std::span<std::string const> values);
    void u32(std::string_view key, std::uint32_t value);
    void i32(std::string_view key, std::int32_t value);
    void f32(std::string_view key, double value);
    void boolean(std::string_view key, bool value);
    void i32s(std::string_view key, std::span<std::int32_t const> values);
    void f32s(std::string_view key, std::span<float const> values);

    [[nodiscard]] bool has(std::string_view key) const;
    [[nodiscard]] std::size_t size() const { return pairs_.size(); }

    // The pairs as they stand in a file, one behind the other.
    [[nodiscard]] std::string encode() const;

private:
    void set(std::string_view key, std::string value);

    std::vector<std::pair<std::string, std::string>> pairs_;  // a few dozen
};

}  // namespace hearth::convert
