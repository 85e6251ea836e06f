#include "http/request_parser.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <charconv>
#include <utility>

namespace hearth::http {
namespace {

namespace beast = boost::beast;

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

Refusal bad_request(std::string what) {
    return {400, "bad_request", Error(Code::invalid_argument, "malformed request: " + std::move(what))};
}

// What Beast accepts or repairs and two parsers may read differently.
std::optional<Refusal> check_lines(std::string_view head) {
    if (head.starts_with("\x16\x03")) return bad_request("this port speaks plain HTTP, not TLS: use http://");
    for (std::size_t i = 0; i < head.size(); ++i) {
        char const c = head[i];
        if (c == '\r') {
            if (head[i + 1] != '\n') return bad_request("a carriage return without a line feed");
            ++i;
            bool const folded = i + 1 < head.size() && (head[i + 1] == ' ' || head[i + 1] == '\t');
            if (folded) return bad_request("a header line must not start with a space (obsolete line folding)");
            continue;
        }
        if (static_cast<unsigned char>(c) < 0x20 && c != '\t') return bad_request("a control character in the head");
        if (c == '\x7F') return bad_request("a control character in the head");
    }
    return std::nullopt;
}

// "HTTP/2.0", as the third part of the request line.
bool names_a_version(std::string_view head) {
    std::string_view line = head.substr(0, head.find("\r\n"));
    line.remove_prefix(std::min(line.find(' ') + 1, line.size()));
    line.remove_prefix(std::min(line.find(' ') + 1, line.size()));
    auto const is_digit = [](char c) { return c >= '0' && c <= '9'; };
    return line.size() == 8 && line.starts_with("HTTP/") && is_digit(line[5]) && line[6] == '.' && is_digit(line[7]);
}

Refusal explain(beast::error_code const& failure, std::string_view head) {
    if (failure == beast::http::error::bad_version && names_a_version(head)) {
        return {505, "bad_request", Error(Code::unsupported, "only HTTP/1.0 and HTTP/1.1 are spoken here")};
    }
    return bad_request(failure.message());
}

// A decimal number and nothing else: no sign, list, space or hexadecimal.
std::optional<std::uint64_t> parse_length(std::string_view text) {
    std::uint64_t value = 0;
    auto const [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failure != std::errc() || end != text.data() + text.size() || text.front() == '+') return std::nullopt;
    return value;
}

std::size_t count(Headers const& headers, std::string_view name) {
    return static_cast<std::size_t>(
        std::ranges::count_if(headers, [&](auto const& h) { return beast::iequals(h.first, name); }));
}

std::optional<Refusal> check_framing(Head& head) {
    std::size_t const codings = count(head.headers, "transfer-encoding");
    std::size_t const lengths = count(head.headers, "content-length");
    if (codings + lengths > 1) return bad_request("more than one of Content-Length and Transfer-Encoding");
    if (lengths == 1) {
        head.content_length = parse_length(head.header("content-length"));
        if (!head.content_length) return bad_request("Content-Length is no decimal number");
    }
    if (codings == 0) return std::nullopt;
    if (head.version == Version::http10) return bad_request("Transfer-Encoding under HTTP/1.0");
    if (!beast::iequals(head.header("transfer-encoding"), "chunked")) {
        return Refusal(501, "bad_request", Error(Code::unsupported, "the only transfer coding served is 'chunked'"));
    }
    head.chunked = true;
    return std::nullopt;
}

std::optional<Refusal> check_head(Head& head) {
    if (head.headers.size() > kHeadersMax) {
        return Refusal(
            431, "header_too_large",
            Error(Code::too_large, std::to_string(head.headers.size()) + " header fields are above the limit of " +
                                       std::to_string(kHeadersMax)));
    }
    std::size_t const hosts = count(head.headers, "host");
    if (hosts > 1) return bad_request("more than one Host header");
    if (hosts == 0 && head.version == Version::http11) return bad_request("HTTP/1.1 needs a Host header");
    if (auto refusal = check_framing(head)) return refusal;
    std::string_view const expect = head.header("expect");
    if (expect.empty()) return std::nullopt;
    if (!beast::iequals(expect, "100-continue")) {
        return Refusal(417, "bad_request", Error(Code::unsupported, "the only expectation served is '100-continue'"));
    }
    head.expects_continue = head.version == Version::http11;
    return std::nullopt;
}

}  // namespace

std::string_view Head::header(std::string_view name) const {
    auto const found = std::ranges::find_if(headers, [&](auto const& h) { return beast::iequals(h.first, name); });
    return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

HeadEnd find_head_end(std::string_view input, std::size_t& scanned) {
    // Binary, e.g. a TLS greeting: it might never bring a line feed.
    if (!input.empty() && static_cast<unsigned char>(input[0]) < 0x20 && input[0] != '\r')
        return {HeadEnd::Kind::malformed};
    for (;;) {
        std::size_t const feed = input.find('\n', scanned);
        if (feed == input.npos) {
            scanned = input.size();
            return {HeadEnd::Kind::incomplete};
        }
        if (feed == 0 || input[feed - 1] != '\r') return {HeadEnd::Kind::malformed};
        if (feed >= 3 && input[feed - 2] == '\n') return {HeadEnd::Kind::complete, feed + 1};
        scanned = feed + 1;
    }
}

std::variant<Head, Refusal> parse_head(std::string_view bytes) {
    if (auto refusal = check_lines(bytes)) return *std::move(refusal);
    beast::http::request_parser<beast::http::empty_body> parser;
    parser.skip(true);  // bodies are BodyReader's
    parser.header_limit(static_cast<std::uint32_t>(bytes.size()));  // the caller has bounded the head
    beast::error_code failure;
    try {
        std::size_t const taken = parser.put(boost::asio::buffer(bytes.data(), bytes.size()), failure);
        if (failure || taken != bytes.size() || !parser.is_header_done()) return explain(failure, bytes);
    } catch (std::exception const& problem) {  // Beast's own limits on a field's length
        return bad_request(problem.what());
    }
    auto const& message = parser.get();
    Head head;
    head.method = view(message.method_string());
    head.target = view(message.target());
    head.version = message.version() == 10 ? Version::http10 : Version::http11;
    head.keep_alive = parser.keep_alive();
    for (auto const& field : message) head.headers.emplace_back(view(field.name_string()), view(field.value()));
    if (auto refusal = check_head(head)) return *std::move(refusal);
    return head;
}

BodyReader::BodyReader(Head const& head, std::size_t bytes_max)
    : chunked_(head.chunked), bytes_max_(bytes_max), left_(head.content_length.value_or(0)) {}

std::variant<std::size_t, Refusal> BodyReader::put(std::string_view bytes) {
    if (!chunked_) {
        std::string_view const piece = bytes.substr(0, left_);
        body_.append(piece);
        left_ -= piece.size();
        return piece.size();
    }
    auto taken = decoder_.put(bytes, bytes_max_ - taken_, body_);
    if (taken) return *taken;
    if (taken.error().code != Code::too_large) return bad_request(taken.error().message);
    Head chunked;
    chunked.chunked = true;
    return body_too_large(chunked, bytes_max_);
}

std::string BodyReader::take() {
    taken_ += body_.size();
    return std::exchange(body_, {});
}

Refusal body_too_large(Head const& head, std::size_t bytes_max) {
    std::string const limit = std::to_string(bytes_max) + " bytes";
    std::string text = "the request's body is above this route's limit of " + limit;
    if (head.content_length)
        text = "the body of " + std::to_string(*head.content_length) + " bytes is above this route's limit of " + limit;
    if (bytes_max == 0) text = "this route takes no body";
    return {413, "body_too_large", Error(Code::too_large, std::move(text))};
}

}  // namespace hearth::http
