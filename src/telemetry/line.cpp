#include "telemetry/line.h"

#include <array>
#include <charconv>
#include <cmath>
#include <ctime>

#include "base/utf8.h"

namespace hearth::telemetry {
namespace {

constexpr std::string_view kHex = "0123456789abcdef";

void append_timestamp(std::chrono::system_clock::time_point when, std::string& out) {
    auto const ms = std::chrono::duration_cast<std::chrono::milliseconds>(when.time_since_epoch()).count();
    std::time_t seconds = static_cast<std::time_t>(ms / 1000);
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    std::array<char, 32> buffer{};
    std::size_t const length = std::strftime(buffer.data(), buffer.size(), "%Y-%m-%dT%H:%M:%S", &utc);
    out.append(buffer.data(), length);
    auto const fraction = static_cast<unsigned>(ms % 1000);
    for (char const c : {'.', static_cast<char>('0' + fraction / 100), static_cast<char>('0' + fraction / 10 % 10),
                         static_cast<char>('0' + fraction % 10), 'Z'}) {
        out.push_back(c);
    }
}

template <typename T>
void append_number(T value, std::string& out) {
    std::array<char, 32> buffer{};
    auto const end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
    out.append(buffer.data(), end);
}

// JSON has no word for infinity or NaN.
void append_number(double value, Format format, std::string& out) {
    if (format == Format::json && !std::isfinite(value)) {
        out.append("null");
        return;
    }
    append_number(value, out);
}

// C1 controls (U+0080 to U+009F) steer terminals just as C0 ones do.
bool is_c1(std::string_view text, std::size_t i) {
    return text[i] == '\xC2' && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
}

void append_escape(unsigned char c, std::string& out) {
    out.append("\\u00");
    out.push_back(kHex[c >> 4]);
    out.push_back(kHex[c & 0xF]);
}

void append_escaped(std::string_view text, std::string& out) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto const c = static_cast<unsigned char>(text[i]);
        if (c == '"' || c == '\\') {
            out.push_back('\\');
            out.push_back(text[i]);
        } else if (c == '\n') {
            out.append("\\n");
        } else if (c == '\r') {
            out.append("\\r");
        } else if (c == '\t') {
            out.append("\\t");
        } else if (c < 0x20 || c == 0x7F) {
            append_escape(c, out);
        } else if (is_c1(text, i)) {
            append_escape(static_cast<unsigned char>(text[++i]), out);
        } else {
            out.push_back(text[i]);
        }
    }
}

// True for texts that read unambiguously without quotes in key=value form.
bool is_plain(std::string_view text) {
    if (text.empty() || text.size() > kTextBytesMax) return false;
    for (char const c : text) {
        if (c <= ' ' || c == 0x7F || c == '"' || c == '=' || c == '\\') return false;  // also every byte above 0x7F
    }
    return true;
}

std::string_view color_of(Level level) {
    switch (level) {
        case Level::debug: return "\x1b[2m";
        case Level::info: return "\x1b[32m";
        case Level::warning: return "\x1b[33m";
        case Level::error: return "\x1b[31m";
    }
    return "";
}

void append_value(Field const& field, Format format, std::string& out) {
    if (auto const* text = std::get_if<std::string_view>(&field.value)) {
        if (format == Format::human && is_plain(*text)) out.append(*text);
        else append_quoted(*text, out);
    } else if (auto const* truth = std::get_if<bool>(&field.value)) {
        out.append(*truth ? "true" : "false");
    } else if (auto const* real = std::get_if<double>(&field.value)) {
        append_number(*real, format, out);
    } else if (auto const* natural = std::get_if<std::uint64_t>(&field.value)) {
        append_number(*natural, out);
    } else {
        append_number(std::get<std::int64_t>(field.value), out);
    }
}

// A message is a phrase of ours: it stands unquoted, but may not start a line
// of its own or steer the terminal either.
void append_message(std::string_view message, std::string& out) {
    std::string quoted;
    append_quoted(message, quoted);
    bool const unchanged = quoted.size() == message.size() + 2;
    out.append(unchanged ? message : std::string_view(quoted));
}

void format_human(LogOptions const& options, Level level, std::string_view message, Fields fields, std::string& out) {
    out.push_back(' ');
    if (options.color) out.append(color_of(level));
    std::string_view const name = to_string(level);
    out.append(name);
    if (options.color) out.append("\x1b[0m");
    out.append(name.size() < 5 ? 5 - name.size() : 0, ' ');
    out.push_back(' ');
    append_message(message, out);
    for (Field const& field : fields) {
        out.push_back(' ');
        out.append(field.key);
        out.push_back('=');
        append_value(field, Format::human, out);
    }
}

void format_json(Level level, std::string_view message, Fields fields, std::string& out) {
    out.append(R"(","level":")");
    out.append(to_string(level));
    out.append(R"(","msg":)");
    append_quoted(message, out);
    for (Field const& field : fields) {
        out.push_back(',');
        append_quoted(field.key, out);
        out.push_back(':');
        append_value(field, Format::json, out);
    }
    out.push_back('}');
}

}  // namespace

void append_quoted(std::string_view text, std::string& out) {
    bool const cut = text.size() > kTextBytesMax;
    text = text.substr(0, kTextBytesMax);
    out.push_back('"');
    if (is_valid_utf8(text)) {
        append_escaped(text, out);
    } else {
        std::string valid;
        Utf8Carry carry;
        carry.push(text, valid);
        if (!cut) carry.finish(valid);  // a code point the cut went through is no fault of the text
        append_escaped(valid, out);
    }
    if (cut) out.append("\u2026");
    out.push_back('"');
}

void format_line(LogOptions const& options, std::chrono::system_clock::time_point when, Level level,
                 std::string_view message, Fields fields, std::string& out) {
    out.clear();
    if (options.format == Format::json) {
        out.append(R"({"ts":")");
        append_timestamp(when, out);
        format_json(level, message, fields, out);
    } else {
        append_timestamp(when, out);
        format_human(options, level, message, fields, out);
    }
    out.push_back('\n');
}

}  // namespace hearth::telemetry
