// RequestParser: one HTTP/1 request, from bytes to a checked head and a body.
//
// Boost.Beast parses the head; around it stand the rules Beast leaves open, all
// of which two parsers could read differently: no bare CR or LF, no folded
// lines, no control characters, one Host, one Content-Length of digits only,
// nothing but `chunked` as transfer coding and never with a length or under
// HTTP/1.0.
//
// Private to http. One object per request; one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "http/chunk_decoder.h"
#include "http/refusal.h"

namespace hearth::http {

inline constexpr std::size_t kHeadersMax = 128;

enum class Version : std::uint8_t { http10, http11 };

struct Head {
    std::string method;
    std::string target;
    Version version = Version::http11;
    Headers headers;
    std::optional<std::uint64_t> content_length;
    bool chunked = false;
    bool keep_alive = false;
    bool expects_continue = false;

    [[nodiscard]] bool has_body() const { return chunked || content_length.value_or(0) > 0; }
    [[nodiscard]] std::string_view header(std::string_view name) const;  // the first; case-insensitive
};

// Where the head that starts at input[0] ends. `scanned` is kept by the caller
// between calls for the same head, so that each byte is looked at once.
struct HeadEnd {
    enum class Kind : std::uint8_t { incomplete, complete, malformed } kind;
    std::size_t size = 0;  // bytes up to and with the empty line, if complete
};
[[nodiscard]] HeadEnd find_head_end(std::string_view input, std::size_t& scanned);

// `bytes` is one complete head or a malformed beginning, see find_head_end.
[[nodiscard]] std::variant<Head, Refusal> parse_head(std::string_view bytes);

// The body that follows a head.
class BodyReader {
public:
    BodyReader() = default;  // of a head without a body
    BodyReader(Head const& head, std::size_t bytes_max);

    // Takes from the front of `bytes` what belongs to this body, and says how much
    // that was: all, unless done().
    // REQUIRES: not done(), no refusal before
    [[nodiscard]] std::variant<std::size_t, Refusal> put(std::string_view bytes);

    [[nodiscard]] bool done() const { return chunked_ ? decoder_.done() : left_ == 0; }
    [[nodiscard]] std::size_t size() const { return taken_ + body_.size(); }  // so far
    // What was put since the last call. It counts towards the limit all the same.
    [[nodiscard]] std::string take();

private:
    bool chunked_ = false;
    std::size_t bytes_max_ = 0;
    std::size_t taken_ = 0;
    std::uint64_t left_ = 0;  // of a body with a length
    ChunkDecoder decoder_;
    std::string body_;
};

// What to answer to a body above a route's limit.
[[nodiscard]] Refusal body_too_large(Head const& head, std::size_t bytes_max);

}  // namespace hearth::http
