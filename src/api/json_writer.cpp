#include "api/json_writer.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>

namespace hearth::api {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes that go out as they are: printable ASCII but for the quote and the backslash, and DEL.
constexpr auto kPlain = [] {
    std::array<bool, 256> plain{};
    for (std::size_t c = 0x20; c < 0x80; ++c) plain[c] = c != '"' && c != '\\';
    return plain;
}();

void append_control(std::string& out, unsigned char c) {
    constexpr std::string_view kHex = "0123456789abcdef";
    switch (c) {
        case '"': out += "\\\""; return;
        case '\\': out += "\\\\"; return;
        case '\n': out += "\\n"; return;
        case '\r': out += "\\r"; return;
        case '\t': out += "\\t"; return;
        case '\b': out += "\\b"; return;
        case '\f': out += "\\f"; return;
        default:
            out += "\\u00";
            out += kHex[c >> 4];
            out += kHex[c & 15];
    }
}

// The shape of well-formed sequences by lead byte (Unicode 15, table 3-7).
struct Lead {
    std::uint8_t length;  // 0: no lead byte
    std::uint8_t second_low;
    std::uint8_t second_high;
};

constexpr Lead lead_of(unsigned char c) {
    if (c >= 0xC2 && c <= 0xDF) return {2, 0x80, 0xBF};
    if (c == 0xE0) return {3, 0xA0, 0xBF};
    if (c == 0xED) return {3, 0x80, 0x9F};
    if (c >= 0xE1 && c <= 0xEF) return {3, 0x80, 0xBF};
    if (c == 0xF0) return {4, 0x90, 0xBF};
    if (c >= 0xF1 && c <= 0xF3) return {4, 0x80, 0xBF};
    if (c == 0xF4) return {4, 0x80, 0x8F};
    return {0, 0, 0};
}

struct Sequence {
    std::size_t bytes;  // to step over
    bool valid;
};

// The sequence at the front of `text`; a broken one is as long as its maximal valid prefix, at least 1.
Sequence sequence_at(std::string_view text) {
    auto const lead = lead_of(static_cast<unsigned char>(text[0]));
    if (lead.length == 0) return {1, false};
    for (std::size_t i = 1; i < lead.length; ++i) {
        if (i >= text.size()) return {i, false};
        auto const c = static_cast<unsigned char>(text[i]);
        auto const low = i == 1 ? lead.second_low : 0x80;
        auto const high = i == 1 ? lead.second_high : 0xBF;
        if (c < low || c > high) return {i, false};
    }
    return {lead.length, true};
}

template <typename T>
void append_number(std::string& out, T value) {
    std::array<char, 32> digits{};
    auto const end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    out.append(digits.data(), end);
}

}  // namespace

void append_escaped(std::string& out, std::string_view text) {
    std::size_t run = 0;  // start of what was not appended yet
    std::size_t i = 0;
    while (i < text.size()) {
        auto const c = static_cast<unsigned char>(text[i]);
        if (kPlain[c]) {
            ++i;
            continue;
        }
        if (c >= 0x80) {
            auto const sequence = sequence_at(text.substr(i));
            if (!sequence.valid) {
                out.append(text, run, i - run);
                out += kReplacement;
                run = i + sequence.bytes;
            }
            i += sequence.bytes;
            continue;
        }
        out.append(text, run, i - run);
        append_control(out, c);
        run = ++i;
    }
    out.append(text, run, text.size() - run);
}

void append_quoted(std::string& out, std::string_view text) {
    out += '"';
    append_escaped(out, text);
    out += '"';
}

void JsonWriter::separate() {
    if (comma_) out_ += ',';
    comma_ = true;
}

JsonWriter& JsonWriter::open(char bracket) {
    separate();
    out_ += bracket;
    comma_ = false;
    return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
    out_ += bracket;
    comma_ = true;
    return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
    separate();
    append_quoted(out_, name);
    out_ += ':';
    comma_ = false;
    return *this;
}

JsonWriter& JsonWriter::string(std::string_view text) {
    separate();
    append_quoted(out_, text);
    return *this;
}

JsonWriter& JsonWriter::boolean(bool value) { return raw(value ? "true" : "false"); }

JsonWriter& JsonWriter::null() { return raw("null"); }

JsonWriter& JsonWriter::number(double value) {
    if (!std::isfinite(value)) return null();
    separate();
    append_number(out_, value);
    return *this;
}

JsonWriter& JsonWriter::number(float value) {
    if (!std::isfinite(value)) return null();
    separate();
    append_number(out_, value);
    return *this;
}

JsonWriter& JsonWriter::raw(std::string_view text) {
    separate();
    out_ += text;
    return *this;
}

JsonWriter& JsonWriter::signed_number(std::int64_t value) {
    separate();
    append_number(out_, value);
    return *this;
}

JsonWriter& JsonWriter::unsigned_number(std::uint64_t value) {
    separate();
    append_number(out_, value);
    return *this;
}

}  // namespace hearth::api
