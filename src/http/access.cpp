#include "http/access.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "base/ascii.h"

namespace hearth::http {
namespace {

bool is_ipv4(std::string const& text) {
    in_addr address{};
    return ::inet_pton(AF_INET, text.c_str(), &address) == 1;
}

bool is_ipv6(std::string const& text) {
    in6_addr address{};
    return ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

bool is_port(std::string_view text) {
    return !text.empty() && text.size() <= 5 && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 253 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
    });
}

// 127.0.0.0/8, ::1 and the same mapped into IPv6.
bool is_loopback_ip(std::string const& host) {
    in_addr four{};
    if (::inet_pton(AF_INET, host.c_str(), &four) == 1) return (ntohl(four.s_addr) >> 24) == 127;
    in6_addr six{};
    if (::inet_pton(AF_INET6, host.c_str(), &six) != 1) return false;
    if (IN6_IS_ADDR_V4MAPPED(&six)) return six.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&six) != 0;
}

bool names_loopback(Authority const& host) {
    if (host.kind == Authority::Kind::ip) return is_loopback_ip(host.host);
    return host.host == "localhost" || host.host.ends_with(".localhost");
}

bool is_wildcard(std::string const& host) { return host.empty() || host == "0.0.0.0" || host == "::" || host == "*"; }

// "example.org", "example.org:8080" or "*.example.org".
bool fits(std::string const& pattern, Authority const& host) {
    if (pattern == host.host || (!host.port.empty() && pattern == host.host + ":" + host.port)) return true;
    return pattern.starts_with("*.") && host.host.ends_with(std::string_view(pattern).substr(1));
}

std::string_view port_or_default(Authority const& authority, std::string_view scheme) {
    if (!authority.port.empty()) return authority.port;
    return scheme == "https" ? "443" : "80";
}

}  // namespace

bool is_loopback(std::string const& host) { return host == "localhost" || is_loopback_ip(host); }

std::optional<Authority> parse_authority(std::string_view text) {
    Authority out;
    std::string_view port;
    if (text.starts_with('[')) {
        std::size_t const end = text.find(']');
        if (end == text.npos) return std::nullopt;
        out.host = ascii_lower(text.substr(1, end - 1));
        out.kind = Authority::Kind::ip;
        port = text.substr(end + 1);
        if (!is_ipv6(out.host)) return std::nullopt;
    } else {
        std::size_t const end = std::min(text.find(':'), text.size());
        out.host = ascii_lower(text.substr(0, end));
        port = text.substr(end);
        if (out.host.size() > 1 && out.host.ends_with('.')) out.host.pop_back();
        if (!is_name(out.host)) return std::nullopt;
        if (is_ipv4(out.host)) out.kind = Authority::Kind::ip;
    }
    if (port.empty()) return out;
    if (!port.starts_with(':') || !is_port(port.substr(1))) return std::nullopt;
    out.port = port.substr(1);
    return out;
}

// Browsers say scheme, host and port in an origin and nothing else, so a '*' reaches no further.
static bool is_like(std::string_view text, std::string_view pattern) {
    auto const star = pattern.find('*');
    if (star == std::string_view::npos) return text == pattern;
    auto const before = pattern.substr(0, star);
    auto const behind = pattern.substr(star + 1);
    return text.size() >= before.size() + behind.size() && text.starts_with(before) && text.ends_with(behind);
}

Status check_origins(std::vector<std::string> const& patterns) {
    for (auto const& pattern : patterns) {
        if (std::ranges::count(pattern, '*') <= 1) continue;
        return Error(Code::invalid_argument, "an allowed origin has one '*' at most, got '" + pattern + "'");
    }
    return ok();
}

AccessPolicy::AccessPolicy(Options const& options) : any_ip_(is_wildcard(options.host)) {
    for (auto const& host : options.allowed_hosts) {
        any_host_ = any_host_ || host == "*";
        hosts_.push_back(ascii_lower(host));
    }
    hosts_.push_back(ascii_lower(options.host));
    for (auto const& origin : options.allowed_origins) {
        any_origin_ = any_origin_ || origin == "*";
        origins_.push_back(ascii_lower(origin));
    }
}

bool AccessPolicy::allows_host(Authority const& host) const {
    if (any_host_ || names_loopback(host)) return true;
    if (any_ip_ && host.kind == Authority::Kind::ip) return true;
    return std::ranges::any_of(hosts_, [&](std::string const& pattern) { return fits(pattern, host); });
}

bool AccessPolicy::allows_origin(std::string_view origin, Authority const& host) const {
    if (any_origin_) return true;
    std::string const text = ascii_lower(origin);
    if (std::ranges::any_of(origins_, [&](std::string const& pattern) { return is_like(text, pattern); })) return true;
    std::size_t const separator = text.find("://");
    if (separator == text.npos) return false;  // "null" too: any sandboxed page can have it
    std::string_view const scheme = std::string_view(text).substr(0, separator);
    auto const authority = parse_authority(std::string_view(text).substr(separator + 3));
    if (!authority || (scheme != "http" && scheme != "https")) return false;
    if (names_loopback(*authority)) return true;
    return authority->host == host.host && port_or_default(*authority, scheme) == port_or_default(host, scheme);
}

std::string AccessPolicy::allowed_headers(std::string_view requested) {
    static constexpr std::array<std::string_view, 11> kNames = {
        "accept",      "authorization", "cache-control", "content-type", "http-referer", "idempotency-key",
        "traceparent", "user-agent",    "x-api-key",     "x-request-id", "x-title"};
    static constexpr std::array<std::string_view, 3> kPrefixes = {"anthropic-", "openai-", "x-stainless-"};
    std::string out;
    while (!requested.empty()) {
        std::string_view const item = requested.substr(0, requested.find(','));
        requested.remove_prefix(std::min(item.size() + 1, requested.size()));
        std::string name = ascii_lower(item);
        std::erase_if(name, [](char c) { return c == ' ' || c == '\t'; });
        bool const known =
            std::ranges::find(kNames, name) != kNames.end() ||
            std::ranges::any_of(kPrefixes, [&](std::string_view prefix) { return name.starts_with(prefix); });
        if (known) out.append(out.empty() ? "" : ", ").append(name);
    }
    return out;
}

}  // namespace hearth::http
