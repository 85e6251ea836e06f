#include "fetch/url.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kShownMax = 200;  // of a bad address, in a message
constexpr std::uint16_t kHttpPort = 80, kHttpsPort = 443;

Error bad(std::string_view text, std::string_view why) {
    std::string shown;
    for (char const c : text.substr(0, kShownMax)) shown += c >= ' ' && c < 0x7f ? c : '?';
    return {Code::invalid_argument, fmt::format("'{}' is no usable address: {}", shown, why), "url"};
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_unreserved(char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~'; }

bool is_clean(std::string_view text) {
    return std::ranges::all_of(
        text, [](char c) { return c > ' ' && c < 0x7f && c != '\\' && c != '"' && c != '<' && c != '>'; });
}

bool is_ipv4(std::string const& host) {
    in_addr ignored{};
    return ::inet_pton(AF_INET, host.c_str(), &ignored) == 1;
}

// Names, and IPv4 in its one usual form: resolvers also take 0x7f.1 and 2130706433.
bool is_host_name(std::string const& host) {
    if (host.empty() || host.size() > 253 || host.front() == '.' || host.find("..") != std::string::npos) return false;
    auto const fits = [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_'; };
    if (!std::ranges::all_of(host, fits)) return false;
    auto const last = host.substr(host.find_last_of('.', host.size() - 2) + 1);
    bool const numeric = is_digit(last.front());
    return !numeric || is_ipv4(host);
}

Result<std::uint16_t> parse_port(std::string_view text, std::string_view digits) {
    unsigned port = 0;
    auto const [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (failed != std::errc{} || end != digits.data() + digits.size() || port == 0 || port > 65535)
        return bad(text, fmt::format("the port must be 1 to 65535, it is '{}'", digits.substr(0, 16)));
    return static_cast<std::uint16_t>(port);
}

Status parse_authority(std::string_view text, std::string_view authority, Url& url) {
    if (authority.find('@') != std::string_view::npos) return bad(text, "user names and passwords are not taken");
    std::string_view port;
    if (authority.starts_with('[')) {
        auto const close = authority.find(']');
        if (close == std::string_view::npos) return bad(text, "the host's bracket is not closed");
        url.host = ascii_lower(authority.substr(1, close - 1));
        in6_addr ignored{};
        if (::inet_pton(AF_INET6, url.host.c_str(), &ignored) != 1) return bad(text, "no IPv6 address in its brackets");
        auto const rest = authority.substr(close + 1);
        if (!rest.empty() && !rest.starts_with(':')) return bad(text, "something follows the host's bracket");
        if (!rest.empty()) port = rest.substr(1);
        if (!rest.empty() && port.empty()) return bad(text, "the port is empty");
    } else {
        auto const colon = authority.find(':');
        url.host = ascii_lower(authority.substr(0, colon));
        if (!is_host_name(url.host)) return bad(text, "the host is neither a name nor an address");
        if (colon != std::string_view::npos) port = authority.substr(colon + 1);
        if (colon != std::string_view::npos && port.empty()) return bad(text, "the port is empty");
    }
    url.port = url.tls ? kHttpsPort : kHttpPort;
    if (!port.empty()) {
        HEARTH_TRY(url.port, parse_port(text, port));
    }
    return ok();
}

// RFC 3986, 5.2.4, on the path of a target.
std::string without_dots(std::string_view target) {
    auto const query = target.find('?');
    auto const path = target.substr(0, query);
    std::string out;
    for (std::size_t at = 0; at < path.size();) {
        auto const next = std::min(path.find('/', at + 1), path.size());
        auto const part = path.substr(at, next - at);
        bool const last = next == path.size();
        if (part == "/..") {
            auto const cut = out.rfind('/');
            out.resize(cut == std::string::npos ? 0 : cut);
            if (last) out += '/';
        } else if (part == "/.") {
            if (last) out += '/';
        } else {
            out += part;
        }
        at = next;
    }
    if (out.empty()) out = "/";
    if (query != std::string_view::npos) out += target.substr(query);
    return out;
}

std::string encode(std::string_view text, std::string_view kept) {
    std::string out;
    for (char const c : text) {
        if (is_unreserved(c) || kept.find(c) != std::string_view::npos) {
            out += c;
        } else {
            out += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        }
    }
    return out;
}

}  // namespace

std::string Url::authority() const {
    auto const name = host.find(':') == std::string::npos ? host : "[" + host + "]";
    return port == (tls ? kHttpsPort : kHttpPort) ? name : fmt::format("{}:{}", name, port);
}

std::string Url::origin() const {
    auto const name = host.find(':') == std::string::npos ? host : "[" + host + "]";
    return fmt::format("{}://{}:{}", tls ? "https" : "http", name, port);
}

std::string Url::text() const { return fmt::format("{}://{}{}", tls ? "https" : "http", authority(), target); }

std::string Url::text_without_query() const {
    return fmt::format("{}://{}{}", tls ? "https" : "http", authority(), target.substr(0, target.find('?')));
}

std::string Url::file_name() const {
    auto const path = target.substr(0, target.find('?'));
    auto const name = path.substr(path.rfind('/') + 1);
    std::string out;
    for (std::size_t i = 0; i < name.size(); ++i) {
        bool const escape =
            name[i] == '%' && i + 2 < name.size() && hex_digit(name[i + 1]) >= 0 && hex_digit(name[i + 2]) >= 0;
        out += escape ? static_cast<char>(hex_digit(name[i + 1]) * 16 + hex_digit(name[i + 2])) : name[i];
        if (escape) i += 2;
    }
    return out;
}

Result<Url> parse_url(std::string_view text) {
    if (text.size() > kUrlBytesMax)
        return bad(text, fmt::format("it has {} bytes, the limit is {}", text.size(), kUrlBytesMax));
    if (!is_clean(text)) return bad(text, "it holds spaces, quotes, backslashes, control or non-ASCII bytes");
    Url url;
    auto const separator = text.find("://");
    if (separator == std::string_view::npos) return bad(text, "it does not begin with https:// or http://");
    auto const scheme = ascii_lower(text.substr(0, separator));
    if (scheme != "http" && scheme != "https") return bad(text, "it does not begin with https:// or http://");
    url.tls = scheme == "https";
    auto rest = text.substr(separator + 3);
    rest = rest.substr(0, rest.find('#'));
    auto const slash = rest.find_first_of("/?");
    HEARTH_CHECK(parse_authority(text, rest.substr(0, slash), url));
    std::string target(slash == std::string_view::npos ? std::string_view("/") : rest.substr(slash));
    if (target.front() == '?') target.insert(0, "/");
    url.target = without_dots(target);
    return url;
}

Result<Url> resolve_url(Url const& base, std::string_view reference) {
    if (reference.empty()) return bad(reference, "it is empty");
    auto const colon = reference.find(':');
    if (colon != std::string_view::npos && colon < reference.find_first_of("/?#")) return parse_url(reference);
    std::string const scheme = base.tls ? "https:" : "http:";
    if (reference.starts_with("//")) return parse_url(scheme + std::string(reference));
    auto const start = scheme + "//" + base.authority();
    if (reference.starts_with('/')) return parse_url(start + std::string(reference));
    auto const path = base.target.substr(0, base.target.find('?'));
    if (reference.starts_with('?')) return parse_url(start + path + std::string(reference));
    return parse_url(start + path.substr(0, path.rfind('/') + 1) + std::string(reference));
}

std::string encode_path(std::string_view path) { return encode(path, "/"); }
std::string encode_component(std::string_view text) { return encode(text, ""); }

bool names_loopback(Url const& url) {
    if (url.host == "localhost" || url.host.ends_with(".localhost") || url.host == "::1") return true;
    return is_ipv4(url.host) && url.host.starts_with("127.");
}

}  // namespace hearth::fetch
