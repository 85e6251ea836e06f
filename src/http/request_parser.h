// RequestParser: one HTTP/1 request, from bytes to a checked head and a body.
//
// Boost.Beast parses; around it stand the rules Beast leaves open, all of which
// two parsers could read differently: no bare CR or LF, no folded lines, no
// control characters, one Host, one Content-Length of digits only, nothing but
// `chunked` as transfer coding and never with a length or under HTTP/1.0.
//
// Private to http. One object per request; one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

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

class RequestParser {
public:
    RequestParser();
    ~RequestParser();
    RequestParser(RequestParser const&) = delete;
    RequestParser& operator=(RequestParser const&) = delete;

    // `bytes` is one complete head or a malformed beginning, see find_head_end.
    // Trailer fields are never part of it.
    [[nodiscard]] std::variant<Head, Refusal> parse_head(std::string_view bytes);

    // REQUIRES: parse_head succeeded
    void limit_body(std::size_t bytes_max);

    // Takes what it can from the front of `bytes` and says how much that was:
    // none means that more bytes are needed to go on.
    // REQUIRES: limit_body was called, not done()
    [[nodiscard]] std::variant<std::size_t, Refusal> put_body(std::string_view bytes);

    [[nodiscard]] bool done() const;
    [[nodiscard]] std::size_t body_size() const;  // so far, without the chunks' frames
    [[nodiscard]] std::string take_body();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::http
