#include "bench/sse_scanner.h"

#include <array>
#include <charconv>
#include <utility>

#include <nlohmann/json.hpp>

namespace hearth::bench {

namespace {

using Json = nlohmann::json;

void append_code_point(std::uint32_t c, std::string& out) {
    auto const put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (c < 0x80) {
        put(c);
    } else if (c < 0x800) {
        put(0xC0 | (c >> 6));
        put(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        put(0xE0 | (c >> 12));
        put(0x80 | ((c >> 6) & 0x3F));
        put(0x80 | (c & 0x3F));
    } else {
        put(0xF0 | (c >> 18));
        put(0x80 | ((c >> 12) & 0x3F));
        put(0x80 | ((c >> 6) & 0x3F));
        put(0x80 | (c & 0x3F));
    }
}

// Four hexadecimal digits at `at`; nothing if they are not there.
std::optional<std::uint32_t> hex4(std::string_view json, std::size_t at) {
    if (at + 4 > json.size()) return std::nullopt;
    std::uint32_t value = 0;
    auto const* begin = json.data() + at;
    auto const [end, error] = std::from_chars(begin, begin + 4, value, 16);
    if (error != std::errc{} || end != begin + 4) return std::nullopt;
    return value;
}

// A \uXXXX escape, maybe the first half of a pair, whose digits start at `at`.
// Returns the position behind it.
std::size_t append_unicode_escape(std::string_view json, std::size_t at, std::string& out) {
    constexpr std::uint32_t kReplacement = 0xFFFD;
    auto const first = hex4(json, at);
    if (!first) {
        append_code_point(kReplacement, out);
        return at;
    }
    at += 4;
    if (*first >= 0xD800 && *first < 0xDC00 && json.substr(at, 2) == "\\u") {
        auto const second = hex4(json, at + 2);
        if (second && *second >= 0xDC00 && *second < 0xE000) {
            append_code_point(0x10000 + ((*first - 0xD800) << 10) + (*second - 0xDC00), out);
            return at + 6;
        }
    }
    append_code_point(*first >= 0xD800 && *first < 0xE000 ? kReplacement : *first, out);
    return at;
}

char plain_escape(char c) {
    switch (c) {
        case 'n': return '\n';
        case 't': return '\t';
        case 'r': return '\r';
        case 'b': return '\b';
        case 'f': return '\f';
        default: return c;
    }
}

// Where the string value of `key` begins (behind its quote); npos if the event
// has no such key with a string. `key` ends in `":`, and what stands before it
// must be the key's opening quote.
std::size_t find_string(std::string_view data, std::string_view key) {
    for (auto at = data.find(key); at != std::string_view::npos; at = data.find(key, at + 1)) {
        if (at == 0 || data[at - 1] != '"') continue;
        auto value = at + key.size();
        while (value < data.size() && data[value] == ' ') ++value;
        if (value < data.size() && data[value] == '"') return value + 1;
    }
    return std::string_view::npos;
}

// The same, for a key whose value is an object.
bool has_object(std::string_view data, std::string_view key) {
    for (auto at = data.find(key); at != std::string_view::npos; at = data.find(key, at + 1)) {
        if (at == 0 || data[at - 1] != '"') continue;
        auto value = at + key.size();
        while (value < data.size() && data[value] == ' ') ++value;
        if (value < data.size() && data[value] == '{') return true;
    }
    return false;
}

std::uint64_t unsigned_at(Json const& object, char const* key) {
    auto const it = object.find(key);
    return it != object.end() && it->is_number_unsigned() ? it->get<std::uint64_t>() : 0;
}

}  // namespace

void append_json_string(std::string_view json, std::string& out) {
    std::size_t at = 0;
    while (at < json.size() && json[at] != '"') {
        if (json[at] != '\\') {
            auto const end = json.find_first_of("\\\"", at);
            out.append(json.substr(at, end - at));
            at = end;
            if (end == std::string_view::npos) return;
        } else if (at + 1 >= json.size()) {
            return;
        } else if (json[at + 1] == 'u') {
            at = append_unicode_escape(json, at + 2, out);
        } else {
            out.push_back(plain_escape(json[at + 1]));
            at += 2;
        }
    }
}

std::uint32_t SseScanner::feed(std::string_view body) {
    std::uint32_t count = 0;
    while (!body.empty() && !failed_) {
        auto const end = body.find('\n');
        auto const part = body.substr(0, end);
        if (line_.size() + part.size() > kLineBytesMax) {
            failed_ = true;
            break;
        }
        if (end == std::string_view::npos) {
            line_.append(part);
            break;
        }
        body.remove_prefix(end + 1);
        if (line_.empty()) {
            if (on_line(part)) ++count;
        } else {
            line_.append(part);
            auto const whole = std::exchange(line_, {});
            if (on_line(whole)) ++count;
        }
    }
    return count;
}

bool SseScanner::on_line(std::string_view line) {
    if (!line.starts_with("data:")) return false;  // a comment, an event name, an empty line
    line.remove_prefix(5);
    if (!line.empty() && line.front() == ' ') line.remove_prefix(1);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    return on_data(line);
}

bool SseScanner::on_data(std::string_view data) {
    if (data == "[DONE]") {
        done_ = true;
        return false;
    }
    bool output = false;
    for (std::string_view key : {"content\":", "text\":", "reasoning_content\":"}) {
        auto const at = find_string(data, key);
        if (at == std::string_view::npos) continue;
        if (at >= data.size() || data[at] == '"') continue;  // empty
        output = true;
        if (keep_ == KeepText::yes && !text_cut_) {
            append_json_string(data.substr(at), text_);
            text_cut_ = text_.size() > kTextBytesMax;
        }
        break;
    }
    if (auto const at = find_string(data, "finish_reason\":"); at != std::string_view::npos) {
        finish_reason_.clear();
        append_json_string(data.substr(at), finish_reason_);
    }
    if (has_object(data, "usage\":")) on_usage(data);
    if (!output && error_.empty() && (has_object(data, "error\":") || find_string(data, "error\":") != data.npos))
        on_error(data);
    return output;
}

void SseScanner::on_usage(std::string_view data) {
    auto const event = Json::parse(data, nullptr, false);
    if (!event.is_object() || !event.contains("usage") || !event["usage"].is_object()) return;
    auto const& usage = event["usage"];
    StreamUsage u;
    u.prompt_tokens = unsigned_at(usage, "prompt_tokens");
    u.completion_tokens = unsigned_at(usage, "completion_tokens");
    auto const details = usage.find("prompt_tokens_details");
    if (details != usage.end() && details->is_object()) u.cached_tokens = unsigned_at(*details, "cached_tokens");
    usage_ = u;
}

void SseScanner::on_error(std::string_view data) {
    auto const event = Json::parse(data, nullptr, false);
    error_ = "an error inside the stream";
    if (!event.is_object() || !event.contains("error")) return;
    auto const& error = event["error"];
    if (error.is_string()) {
        error_ = error.get<std::string>().substr(0, 512);
    } else if (error.is_object() && error.contains("message") && error["message"].is_string()) {
        error_ = error["message"].get<std::string>().substr(0, 512);
    }
}

}  // namespace hearth::bench
