// ChunkDecoder: a request body in the chunked coding, RFC 9112, 7.1.
//
// Own, because Boost.Beast 1.81 has an assertion that a client can reach by
// sending "0\r\n" and the rest one byte later, and because it reads some
// malformed chunks only once much more has arrived. Takes any cut of the input,
// keeps none of it. Chunk extensions and trailer fields are checked, bounded and
// dropped.
//
// Private to http. One object per body; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::http {

class ChunkDecoder {
public:
    static constexpr std::size_t kSizeLineBytesMax = 1U << 10;  // with its extensions
    static constexpr std::size_t kTrailerBytesMax = 8U << 10;   // all fields

    // Appends what `bytes` carries to `body`, up to `body_max` bytes in all, and
    // says how many of `bytes` belong to this body: all, unless done().
    // Fails with `invalid_argument` (malformed) or `too_large`.
    // REQUIRES: not done(), no failure before
    [[nodiscard]] Result<std::size_t> put(std::string_view bytes, std::size_t body_max, std::string& body);

    [[nodiscard]] bool done() const { return state_ == State::done; }

private:
    enum class State : std::uint8_t {
        size_first,
        size,
        extension,
        size_end,  // "5;a=b\r\n"
        data,
        data_cr,
        data_end,                // "hello\r\n"
        line_first,
        line_name,
        line_value,
        line_end,
        last_end,  // trailer fields and the empty line
        done
    };

    // One byte outside of data.
    Status step(char c, std::size_t room);
    Status size_digit(char c, std::size_t room);

    State state_ = State::size_first;
    std::size_t left_ = 0;         // of the chunk's data
    std::size_t line_bytes_ = 0;   // of the size line, or of all trailer lines
};

}  // namespace hearth::http
