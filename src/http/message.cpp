#include "http/message.h"

#include <algorithm>
#include <array>

namespace hearth::http {
namespace {

bool is_ours(std::string_view name) {
    static constexpr std::array<std::string_view, 5> kOurs = {"content-length", "transfer-encoding", "connection",
                                                              "x-request-id", "date"};
    return std::ranges::any_of(kOurs, [&](std::string_view ours) { return equals_ignoring_case(name, ours); });
}

void append_harmless(std::string_view text, std::string& out) {
    for (char const c : text) out.push_back(static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c);
}

void append_framing(AnswerHead const& head, std::string& out) {
    if (head.framing == Framing::chunked) out.append("transfer-encoding: chunked\r\n");
    if (head.framing != Framing::length || is_bodiless(head.status)) return;
    append_field("content-length", std::to_string(head.length), out);
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
    auto const fold = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return std::ranges::equal(a, b, {}, fold, fold);
}

std::string_view reason_phrase(unsigned status) noexcept {
    switch (status) {
        case 200: return "OK";
        case 201: return "Created";
        case 202: return "Accepted";
        case 204: return "No Content";
        case 206: return "Partial Content";
        case 301: return "Moved Permanently";
        case 302: return "Found";
        case 303: return "See Other";
        case 304: return "Not Modified";
        case 307: return "Temporary Redirect";
        case 308: return "Permanent Redirect";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 406: return "Not Acceptable";
        case 408: return "Request Timeout";
        case 409: return "Conflict";
        case 410: return "Gone";
        case 412: return "Precondition Failed";
        case 413: return "Content Too Large";
        case 414: return "URI Too Long";
        case 415: return "Unsupported Media Type";
        case 417: return "Expectation Failed";
        case 422: return "Unprocessable Content";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 499: return "Client Closed Request";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 502: return "Bad Gateway";
        case 503: return "Service Unavailable";
        case 504: return "Gateway Timeout";
        case 505: return "HTTP Version Not Supported";
        case 507: return "Insufficient Storage";
        case 529: return "Overloaded";
        default: return "Status";
    }
}

bool is_bodiless(unsigned status) noexcept { return status < 200 || status == 204 || status == 304; }

void append_field(std::string_view name, std::string_view value, std::string& out) {
    append_harmless(name, out);
    out.append(": ");
    append_harmless(value, out);
    out.append("\r\n");
}

std::string format_head(AnswerHead const& head, std::string_view date) {
    std::string out;
    out.reserve(384);
    out.append("HTTP/1.1 ").append(std::to_string(head.status)).push_back(' ');
    out.append(reason_phrase(head.status)).append("\r\n");
    if (!head.content_type.empty() && !is_bodiless(head.status)) append_field("content-type", head.content_type, out);
    append_framing(head, out);
    append_field("x-request-id", head.request_id, out);
    append_field("date", date, out);
    bool const close = head.persistence == Persistence::close || head.framing == Framing::until_close;
    if (close) out.append("connection: close\r\n");
    else if (head.version == Version::http10) out.append("connection: keep-alive\r\n");
    out.append(head.extra);
    if (head.headers != nullptr) {
        for (auto const& [name, value] : *head.headers) {
            if (!is_ours(name)) append_field(name, value, out);
        }
    }
    out.append("\r\n");
    return out;
}

}  // namespace hearth::http
