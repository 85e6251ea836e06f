// The bytes of an answer's head. Private to http. No I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "http/request_parser.h"
#include "http/server.h"

namespace hearth::http {

// Of header names, and other ASCII.
[[nodiscard]] bool equals_ignoring_case(std::string_view a, std::string_view b);

enum class Persistence : std::uint8_t { keep_alive, close };
enum class Framing : std::uint8_t { length, chunked, until_close };

struct AnswerHead {
    unsigned status = 200;
    std::string_view content_type;
    Headers const* headers = nullptr;    // the handler's
    std::string_view extra;              // complete lines, e.g. of CORS
    std::string_view request_id;
    Framing framing = Framing::length;
    std::size_t length = 0;              // of the body
    Version version = Version::http11;   // the request's
    Persistence persistence = Persistence::keep_alive;
};

[[nodiscard]] std::string_view reason_phrase(unsigned status) noexcept;

// True for the statuses whose answers have neither body nor length.
[[nodiscard]] bool is_bodiless(unsigned status) noexcept;

// Status line to empty line. The server's own fields (length, coding,
// connection, request id, date) cannot be set by a handler, and a control
// character in a field of a handler's becomes a space, so that no value starts
// a line of its own.
[[nodiscard]] std::string format_head(AnswerHead const& head, std::string_view date);

// Appends `name: value\r\n`, made harmless as above.
void append_field(std::string_view name, std::string_view value, std::string& out);

}  // namespace hearth::http
