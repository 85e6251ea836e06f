// UTF-8: sequences, validation, and the carry that keeps code points whole in a stream.
//
// Model tokens are byte strings that may end in the middle of a code point.
// Utf8Carry holds back at most three bytes, so that what reaches a client is
// valid UTF-8 at every chunk. O(1) memory, O(bytes) time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hearth {

// What `text` begins with.
struct Utf8Sequence {
    std::size_t length;  // bytes of the code point, or of the maximal invalid subpart
    enum : std::uint8_t { valid, invalid, incomplete } kind;
};

// REQUIRES: `text` is not empty
[[nodiscard]] Utf8Sequence utf8_sequence(std::string_view text) noexcept;

[[nodiscard]] bool is_valid_utf8(std::string_view text) noexcept;

class Utf8Carry {
public:
    // Appends to `out` every complete code point of carry + `bytes`; bytes that
    // can never become valid turn into U+FFFD, one per maximal subpart (Unicode
    // 15, section 3.9). An incomplete tail is kept for the next call.
    void push(std::string_view bytes, std::string& out);

    // The stream is over: an incomplete tail becomes one U+FFFD.
    void finish(std::string& out);

    [[nodiscard]] bool empty() const { return size_ == 0; }

private:
    std::array<char, 3> tail_{};
    std::size_t size_ = 0;
};

}  // namespace hearth
