#include "app/ollama_host.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "http/server.h"

namespace hearth::app {
namespace {

// Without blanks and quotes around it, which shells and service files leave there.
std::string_view trim(std::string_view text) {
    constexpr std::string_view kAround = " \t\r\n\"'";
    auto const first = text.find_first_not_of(kAround);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(kAround) - first + 1);
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    return true;
}

// What stands before the port; the rest, with its ':', stays in `text`.
std::string_view take_host(std::string_view& text) {
    auto const bracket = text.starts_with('[') ? text.find(']') : std::string_view::npos;
    auto const first = text.find(':');
    // A bare IPv6 address has colons of its own and no port.
    bool const bare_ipv6 = bracket == std::string_view::npos && first != text.rfind(':');
    auto const end = bracket != std::string_view::npos ? bracket + 1 : bare_ipv6 ? text.size() : first;
    auto host = text.substr(0, end);
    text.remove_prefix(host.size());
    if (bracket != std::string_view::npos) host = host.substr(1, host.size() - 2);
    return host;
}

}  // namespace

Result<Address> parse_ollama_host(std::string_view text) {
    Address address;
    auto rest = trim(text);
    if (take_prefix(rest, "http://")) address.port = 80;
    else if (take_prefix(rest, "https://")) address.port = 443;
    rest = rest.substr(0, rest.find('/'));
    auto const host = take_host(rest);
    if (!host.empty()) address.host = host;
    if (rest.empty()) return address;
    char const* const end = rest.data() + rest.size();
    auto const parsed = std::from_chars(rest.data() + 1, end, address.port);
    if (rest.front() == ':' && parsed.ec == std::errc{} && parsed.ptr == end) return address;
    return Error(Code::invalid_argument,
                 fmt::format("OLLAMA_HOST must be [http://]HOST[:PORT] with a port from 0 to 65535, got '{}'",
                             text.substr(0, 256)),
                 "OLLAMA_HOST");
}

Result<std::vector<std::string>> parse_ollama_origins(std::string_view text) {
    std::vector<std::string> origins{"app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"};
    auto const own = origins.size();
    for (auto rest = trim(text); !rest.empty();) {
        auto const comma = std::min(rest.find(','), rest.size());
        auto const origin = trim(rest.substr(0, comma));
        if (!origin.empty()) origins.emplace_back(origin);
        rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    if (origins.size() - own > kOllamaOriginsMax)
        return Error(
            Code::invalid_argument,
            fmt::format("OLLAMA_ORIGINS has {} origins, the limit is {}", origins.size() - own, kOllamaOriginsMax),
            "OLLAMA_ORIGINS");
    if (auto const checked = http::check_origins(origins); !checked)
        return Error(checked.error().code, fmt::format("OLLAMA_ORIGINS: {}", checked.error().message),
                     "OLLAMA_ORIGINS");
    return origins;
}

}  // namespace hearth::app
