#include "http/request_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <algorithm>
#include <charconv>

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

Refusal explain(beast::error_code const& failure) {
    namespace http = beast::http;
    if (failure == http::error::bad_version) {
        return {505, "bad_request", Error(Code::unsupported, "only HTTP/1.0 and HTTP/1.1 are spoken here")};
    }
    if (failure == http::error::body_limit) {
        return {413, "body_too_large", Error(Code::too_large, "the request's body is too large")};
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
    return static_cast<std::size_t>(std::ranges::count_if(headers, [&](auto const& h) { return beast::iequals(h.first, name); }));
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
        return Refusal(431, "header_too_large",
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
    if (!input.empty() && static_cast<unsigned char>(input[0]) < 0x20 && input[0] != '\r') return {HeadEnd::Kind::malformed};
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

struct RequestParser::Impl {
    beast::http::request_parser<beast::http::string_body> parser;
    std::size_t body_max = 0;
};

RequestParser::RequestParser() : impl_(std::make_unique<Impl>()) {}
RequestParser::~RequestParser() = default;

std::variant<Head, Refusal> RequestParser::parse_head(std::string_view bytes) {
    if (auto refusal = check_lines(bytes)) return *std::move(refusal);
    auto& parser = impl_->parser;
    // The caller has bounded the head; lengths are judged by limit_body, when
    // the route and so the limit is known.
    parser.header_limit(static_cast<std::uint32_t>(bytes.size()));
    parser.body_limit(boost::none);
    beast::error_code failure;
    try {
        std::size_t const taken = parser.put(boost::asio::buffer(bytes.data(), bytes.size()), failure);
        if (failure || taken != bytes.size() || !parser.is_header_done()) return explain(failure);
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

void RequestParser::limit_body(std::size_t bytes_max) {
    impl_->body_max = bytes_max;
    impl_->parser.body_limit(bytes_max);
}

std::variant<std::size_t, Refusal> RequestParser::put_body(std::string_view bytes) {
    std::size_t taken = 0;
    beast::error_code failure;
    try {
        while (taken < bytes.size() && !impl_->parser.is_done()) {
            taken += impl_->parser.put(boost::asio::buffer(bytes.data() + taken, bytes.size() - taken), failure);
            if (failure) break;
        }
    } catch (std::exception const& problem) {
        return bad_request(problem.what());
    }
    if (!failure || failure == beast::http::error::need_more) return taken;
    Refusal refusal = explain(failure);
    if (refusal.status == 413) {
        refusal.error.message = "the request's body is above this route's limit of " + std::to_string(impl_->body_max) + " bytes";
    }
    return refusal;
}

bool RequestParser::done() const { return impl_->parser.is_done(); }

std::size_t RequestParser::body_size() const { return impl_->parser.get().body().size(); }

std::string RequestParser::take_body() { return std::move(impl_->parser.get().body()); }

}  // namespace hearth::http
