// JsonWriter: JSON text appended to a string, without a tree.
//
// Answers are written, never built: the hot path (one chunk per token) costs an
// append. Whatever bytes come in, what comes out is valid JSON and valid UTF-8.
//
// Threads: one per object. Ownership: the caller owns the string and keeps it
// alive and untouched while the writer is used.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace hearth::api {

// Appends `text` escaped for the inside of a JSON string, without the quotes.
// Bytes that are not UTF-8 become U+FFFD.
void append_escaped(std::string& out, std::string_view text);

// The same with quotes.
void append_quoted(std::string& out, std::string_view text);

class JsonWriter {
public:
    explicit JsonWriter(std::string& out) : out_(out) {}

    JsonWriter& begin_object() { return open('{'); }
    JsonWriter& end_object() { return close('}'); }
    JsonWriter& begin_array() { return open('['); }
    JsonWriter& end_array() { return close(']'); }

    // The next call writes this member's value.
    JsonWriter& key(std::string_view name);

    JsonWriter& string(std::string_view text);
    JsonWriter& boolean(bool value);
    JsonWriter& null();
    template <std::integral T>
        requires(!std::same_as<T, bool>)
    JsonWriter& number(T value) {
        if constexpr (std::signed_integral<T>) return signed_number(value);
        else return unsigned_number(value);
    }
    // Shortest text that reads back as the same value; null for NaN and infinities, which JSON lacks.
    JsonWriter& number(double value);
    JsonWriter& number(float value);

    // `text` is a JSON value already.
    JsonWriter& raw(std::string_view text);

private:
    JsonWriter& open(char bracket);
    JsonWriter& close(char bracket);
    JsonWriter& signed_number(std::int64_t value);
    JsonWriter& unsigned_number(std::uint64_t value);
    void separate();

    std::string& out_;
    bool comma_ = false;  // a value stands before the next one
};

}  // namespace hearth::api
