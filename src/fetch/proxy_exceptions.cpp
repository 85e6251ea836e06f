#include "fetch/proxy_exceptions.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <system_error>

#include "base/ascii.h"

namespace hearth::fetch {
namespace {

constexpr std::string_view kBetween = ", \t";
constexpr unsigned kByteBits = 8;

struct Ip {
    std::array<unsigned char, sizeof(in6_addr)> bytes{};
    std::size_t size = 0;  // 4 or 16
};

std::optional<Ip> parse_ip(std::string const& text) {
    Ip ip;
    if (::inet_pton(AF_INET, text.c_str(), ip.bytes.data()) == 1) {
        ip.size = sizeof(in_addr);
        return ip;
    }
    if (::inet_pton(AF_INET6, text.c_str(), ip.bytes.data()) != 1) return std::nullopt;
    ip.size = sizeof(in6_addr);
    return ip;
}

std::optional<unsigned> parse_number(std::string_view text) {
    unsigned value = 0;
    auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

bool is_inside(Ip const& address, Ip const& network, unsigned bits) {
    if (address.size != network.size || bits > network.size * kByteBits) return false;
    for (unsigned bit = 0; bit < bits; ++bit) {
        unsigned const mask = 0x80U >> (bit % kByteBits);
        if ((address.bytes[bit / kByteBits] & mask) != (network.bytes[bit / kByteBits] & mask)) return false;
    }
    return true;
}

// example.com and example.com. are one name.
std::string_view without_last_dot(std::string_view name) {
    if (name.ends_with('.')) name.remove_suffix(1);
    return name;
}

bool is_name_of(std::string_view host, std::string_view name) {
    if (name.starts_with('.')) name.remove_prefix(1);
    host = without_last_dot(host);
    name = without_last_dot(name);
    if (name.empty() || !host.ends_with(name)) return false;
    return host.size() == name.size() || host[host.size() - name.size() - 1] == '.';
}

struct Exception {
    std::string_view host;
    std::string_view port;  // empty: every one
};

// NAME, NAME:PORT, IPV6, [IPV6], [IPV6]:PORT; none where something else follows the bracket.
std::optional<Exception> take_apart(std::string_view entry) {
    if (entry.starts_with('[')) {
        auto const close = entry.find(']');
        if (close == std::string_view::npos) return std::nullopt;
        auto const rest = entry.substr(close + 1);
        if (rest.empty()) return Exception{entry.substr(1, close - 1), {}};
        if (rest.size() < 2 || rest.front() != ':') return std::nullopt;
        return Exception{entry.substr(1, close - 1), rest.substr(1)};
    }
    auto const colon = entry.find(':');
    // More than one colon: an IPv6 address.
    if (colon == std::string_view::npos || entry.find(':', colon + 1) != std::string_view::npos)
        return Exception{entry, {}};
    if (colon + 1 == entry.size()) return std::nullopt;
    return Exception{entry.substr(0, colon), entry.substr(colon + 1)};
}

bool is_meant(std::string_view entry, Url const& url, std::optional<Ip> const& address) {
    if (entry == "*") return true;
    auto const exception = take_apart(entry);
    if (!exception) return false;
    if (!exception->port.empty() && parse_number(exception->port) != url.port) return false;
    auto const slash = exception->host.find('/');
    auto const network = parse_ip(std::string(exception->host.substr(0, slash)));
    if (!network) return !address && is_name_of(url.host, exception->host);
    if (!address) return false;
    auto const whole = static_cast<unsigned>(network->size) * kByteBits;
    auto const bits = slash == std::string_view::npos ? whole : parse_number(exception->host.substr(slash + 1));
    return bits && is_inside(*address, *network, *bits);
}

}  // namespace

bool goes_past_proxy(std::string_view exceptions, Url const& url) {
    auto const address = parse_ip(url.host);
    auto const lower = ascii_lower(exceptions);
    for (std::string_view rest = lower; !rest.empty();) {
        auto const end = std::min(rest.find_first_of(kBetween), rest.size());
        if (end > 0 && is_meant(rest.substr(0, end), url, address)) return true;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return false;
}

}  // namespace hearth::fetch
