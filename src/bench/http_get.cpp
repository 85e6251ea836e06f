// parse_url() and http_get(): the small, blocking part of the client.
#include <poll.h>

#include <array>
#include <cerrno>
#include <charconv>

#include <fmt/format.h>

#include "bench/load_client.h"
#include "bench/response_parser.h"
#include "bench/socket.h"

namespace hearth::bench {

namespace {

constexpr std::size_t kBodyBytesMax = 4U << 20;

Error bad_url(std::string_view url) {
    return {Code::invalid_argument, fmt::format("\"{}\" is no URL like http://127.0.0.1:8080", url.substr(0, 200)),
            "url"};
}

// Waits until `fd` is ready for `events`; false when `deadline` passed first.
bool wait_ready(int fd, short events, Instant deadline) {
    for (;;) {
        auto const left = to_ms(deadline - std::chrono::steady_clock::now());
        if (left <= 0) return false;
        pollfd p{fd, events, 0};
        int const n = ::poll(&p, 1, static_cast<int>(left) + 1);
        if (n > 0) return true;
        if (n < 0 && errno != EINTR) return false;
    }
}

}  // namespace

Result<Target> parse_url(std::string_view url) {
    constexpr std::string_view kScheme = "http://";
    if (!url.starts_with(kScheme)) return bad_url(url);
    auto rest = url.substr(kScheme.size());
    auto const slash = rest.find('/');
    Target target;
    if (slash != std::string_view::npos) target.prefix = rest.substr(slash);
    while (target.prefix.ends_with('/')) target.prefix.pop_back();
    auto authority = rest.substr(0, slash);
    auto const bracket = authority.find(']');
    auto const colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
    auto host = authority.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    target.host = host;
    if (target.host.empty() || target.host.find_first_of(" \r\n@") != std::string::npos ||
        target.prefix.find_first_of(" \r\n") != std::string::npos) {
        return bad_url(url);
    }
    if (colon != std::string_view::npos) {
        auto const port = authority.substr(colon + 1);
        auto const [end, error] = std::from_chars(port.data(), port.data() + port.size(), target.port);
        if (error != std::errc{} || end != port.data() + port.size() || target.port == 0) return bad_url(url);
    }
    bool const six = target.host.find(':') != std::string::npos;
    target.authority = fmt::format("{}{}{}:{}", six ? "[" : "", target.host, six ? "]" : "", target.port);
    return target;
}

Result<std::string> http_get(Target const& target, std::string_view path, Duration timeout) {
    auto const deadline = std::chrono::steady_clock::now() + timeout;
    auto const failed = [&](std::string_view why) {
        return Error{Code::unavailable, fmt::format("GET {}{} of {}: {}", target.prefix, path, target.authority, why)};
    };
    HEARTH_TRY(auto const address, resolve(target.host, target.port));
    HEARTH_TRY(auto const fd, begin_connect(address));
    auto const request = fmt::format("GET {}{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.prefix, path,
                                     target.authority);
    if (!wait_ready(fd.get(), POLLOUT, deadline)) return failed("no connection in time");
    if (::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
        return failed(system_message(errno));
    }
    ResponseParser parser;
    std::string body;
    std::array<char, 16384> buffer{};
    while (!parser.done()) {
        if (!wait_ready(fd.get(), POLLIN, deadline)) return failed("no answer in time");
        auto const n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n < 0) return failed(system_message(errno));
        if (n == 0 && !parser.finish()) return failed("the answer was cut short");
        std::string_view input(buffer.data(), static_cast<std::size_t>(n));
        for (auto piece = parser.take_body(input); !piece.empty(); piece = parser.take_body(input)) body.append(piece);
        if (parser.failed()) return failed(parser.problem());
        if (body.size() > kBodyBytesMax) return failed(fmt::format("the answer exceeds {} bytes", kBodyBytesMax));
    }
    if (parser.status() != 200) return failed(fmt::format("HTTP {}: {}", parser.status(), body.substr(0, 200)));
    return body;
}

}  // namespace hearth::bench
