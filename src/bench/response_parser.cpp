#include "bench/response_parser.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

namespace hearth::bench {

namespace {

constexpr std::uint64_t kBodyBytesMax = 1ULL << 40;  // a number above it is nonsense, not a body

bool equals_ignoring_case(std::string_view a, std::string_view b) {
    auto const lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

// The whole of `text`, in `base`; false if it is anything else.
bool read_number(std::string_view text, int base, std::uint64_t& value) {
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    return error == std::errc{} && end == text.data() + text.size() && value <= kBodyBytesMax;
}

}  // namespace

void ResponseParser::fail(std::string problem) {
    state_ = State::failed;
    problem_ = std::move(problem);
}

std::string_view ResponseParser::take_body(std::string_view& input) {
    while (!input.empty() && state_ != State::done && state_ != State::failed) {
        if (state_ == State::chunk_data || state_ == State::length_data || state_ == State::until_close) {
            return take_data(input);
        }
        auto const end = input.find('\n');
        auto const part = input.substr(0, end);
        // Chunk sizes come thousands of times per stream and are bounded by
        // their own length; everything else counts as head.
        head_bytes_ =
            (state_ == State::chunk_size || state_ == State::chunk_end ? line_.size() : head_bytes_) + part.size();
        if (head_bytes_ > kHeadBytesMax) {
            fail(fmt::format("the response's head or a chunk header exceeds {} bytes", kHeadBytesMax));
            break;
        }
        if (end == std::string_view::npos) {
            line_.append(part);
            input = {};
            break;
        }
        input.remove_prefix(end + 1);
        if (line_.empty()) {
            on_line(part);
        } else {
            line_.append(part);
            auto const whole = std::exchange(line_, {});
            on_line(whole);
        }
    }
    return {};
}

std::string_view ResponseParser::take_data(std::string_view& input) {
    auto const size = state_ == State::until_close
                          ? input.size()
                          : static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size()));
    auto const piece = input.substr(0, size);
    input.remove_prefix(size);
    if (state_ == State::until_close) return piece;
    left_ -= size;
    if (left_ == 0) state_ = state_ == State::chunk_data ? State::chunk_end : State::done;
    return piece;
}

void ResponseParser::on_line(std::string_view line) {
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    switch (state_) {
        case State::status_line: return on_status_line(line);
        case State::headers: return line.empty() ? on_headers_end() : on_header(line);
        case State::chunk_size: return on_chunk_size(line);
        case State::chunk_end:
            if (!line.empty()) return fail("a chunk is longer than its size");
            state_ = State::chunk_size;
            return;
        case State::trailers:
            if (line.empty()) state_ = State::done;
            return;
        case State::chunk_data:
        case State::length_data:
        case State::until_close:
        case State::done:
        case State::failed: return;
    }
}

void ResponseParser::on_status_line(std::string_view line) {
    std::uint64_t code = 0;
    if (line.size() < 12 || !line.starts_with("HTTP/1.") || !read_number(line.substr(9, 3), 10, code) || code < 100) {
        return fail(fmt::format("not an HTTP/1.x status line: \"{}\"", line.substr(0, 80)));
    }
    status_ = static_cast<int>(code);
    keep_alive_ = line[7] == '1';
    state_ = State::headers;
}

void ResponseParser::on_header(std::string_view line) {
    auto const colon = line.find(':');
    if (colon == std::string_view::npos) return fail(fmt::format("not a header: \"{}\"", line.substr(0, 80)));
    auto const name = line.substr(0, colon);
    auto const value = trim(line.substr(colon + 1));
    if (equals_ignoring_case(name, "transfer-encoding")) {
        if (!equals_ignoring_case(value, "chunked"))
            return fail(fmt::format("transfer encoding \"{}\"", value.substr(0, 80)));
        chunked_ = true;
    } else if (equals_ignoring_case(name, "content-length")) {
        has_length_ = true;
        if (!read_number(value, 10, left_)) return fail(fmt::format("content length \"{}\"", value.substr(0, 80)));
    } else if (equals_ignoring_case(name, "connection")) {
        if (equals_ignoring_case(value, "close")) keep_alive_ = false;
        if (equals_ignoring_case(value, "keep-alive")) keep_alive_ = true;
    } else if (equals_ignoring_case(name, "retry-after")) {
        std::uint64_t seconds = 0;
        if (read_number(value, 10, seconds)) retry_after_s_ = seconds;
    }
}

void ResponseParser::on_headers_end() {
    if (status_ < 200) {  // an interim response: the real one follows
        state_ = State::status_line;
    } else if (status_ == 204 || status_ == 304) {
        state_ = State::done;
    } else if (chunked_) {
        state_ = State::chunk_size;
    } else if (has_length_) {
        state_ = left_ == 0 ? State::done : State::length_data;
    } else {
        keep_alive_ = false;
        state_ = State::until_close;
    }
}

void ResponseParser::on_chunk_size(std::string_view line) {
    auto const digits = trim(line.substr(0, line.find(';')));
    if (digits.empty() || !read_number(digits, 16, left_)) {
        return fail(fmt::format("not a chunk size: \"{}\"", line.substr(0, 80)));
    }
    state_ = left_ == 0 ? State::trailers : State::chunk_data;
    head_bytes_ = 0;
}

bool ResponseParser::finish() {
    if (state_ == State::until_close) state_ = State::done;
    return state_ == State::done;
}

}  // namespace hearth::bench
