#include "app/server_client.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace hearth::app {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kHeadEnd = "\r\n\r\n";

class Socket {
public:
    explicit Socket(int fd = -1) : fd_(fd) {}
    Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Socket() {
        if (fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }

    std::chrono::seconds patience = kAnswerTimeout;  // without a byte

private:
    int fd_;
};

bool wait_for(int fd, short what, milliseconds timeout) {
    pollfd source{.fd = fd, .events = what, .revents = 0};
    int got = 0;
    do got = ::poll(&source, 1, static_cast<int>(timeout.count()));
    while (got < 0 && errno == EINTR);
    return got > 0;
}

Result<Socket> try_address(addrinfo const& address) {
    Socket socket(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket.get() < 0) return Error(Code::unavailable, std::strerror(errno));
    if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return socket;
    if (errno != EINPROGRESS) return Error(Code::unavailable, std::strerror(errno));
    if (!wait_for(socket.get(), POLLOUT, kConnectTimeout)) return Error(Code::unavailable, "no answer");
    int problem = 0;
    socklen_t length = sizeof problem;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &problem, &length);
    if (problem != 0) return Error(Code::unavailable, std::strerror(problem));
    return socket;
}

Result<Socket> connect_to(Address const& address) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    auto host = address.host;
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    // A server that listens everywhere is reached here.
    if (host == "0.0.0.0") host = "127.0.0.1";
    if (host == "::") host = "::1";
    auto const port = std::to_string(address.port);
    if (int const failed = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); failed != 0)
        return Error(Code::unavailable, fmt::format("cannot find '{}': {}", host, ::gai_strerror(failed)));
    Result<Socket> socket = Error(Code::unavailable, "no address");
    for (auto const* each = found; each != nullptr && !socket; each = each->ai_next) socket = try_address(*each);
    ::freeaddrinfo(found);
    if (socket) return socket;
    return Error(socket.error().code, fmt::format("cannot reach {}:{}: {}", host, port, socket.error().message));
}

Status send_all(Socket const& socket, std::string_view bytes) {
    while (!bytes.empty()) {
        if (!wait_for(socket.get(), POLLOUT, socket.patience))
            return Error(Code::deadline_exceeded, "the server takes no request");
        auto const sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (sent < 0) return Error(Code::unavailable, fmt::format("the server has gone: {}", std::strerror(errno)));
        bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return ok();
}

// Some bytes appended; false at the end.
Result<bool> receive(Socket const& socket, std::string& into) {
    std::array<char, 16'384> chunk{};
    for (;;) {
        if (!wait_for(socket.get(), POLLIN, socket.patience))
            return Error(Code::deadline_exceeded,
                         fmt::format("the server said nothing for {} s", socket.patience.count()));
        auto const got = ::recv(socket.get(), chunk.data(), chunk.size(), 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (got < 0) return Error(Code::unavailable, fmt::format("the server has gone: {}", std::strerror(errno)));
        into.append(chunk.data(), static_cast<std::size_t>(got));
        if (into.size() > kAnswerBytesMax)
            return Error(Code::too_large, fmt::format("the server's answer has more than {} bytes", kAnswerBytesMax));
        return got > 0;
    }
}

// The status of "HTTP/1.x NNN ..."; 0 for anything else.
int status_of(std::string_view head) {
    int status = 0;
    if (head.starts_with("HTTP/1.") && head.size() > 12) std::from_chars(head.data() + 9, head.data() + 12, status);
    return status;
}

struct Opened {
    Socket socket;
    int status = 0;
    std::string rest;  // of the body, what came with the head
};

Result<Opened> read_head(Socket socket) {
    Opened opened;
    std::string text;
    while (text.find(kHeadEnd) == std::string::npos) {
        HEARTH_TRY(bool const more, receive(socket, text));
        if (!more) return Error(Code::corrupt, "what answers is no HTTP server");
    }
    opened.status = status_of(text);
    if (opened.status == 0) return Error(Code::corrupt, "what answers is no HTTP server");
    opened.rest = text.substr(text.find(kHeadEnd) + kHeadEnd.size());
    opened.socket = std::move(socket);
    return opened;
}

std::string head_of(std::string_view method, std::string_view path, std::string_view type, std::uint64_t bytes) {
    auto const kind = type.empty() ? std::string() : fmt::format("Content-Type: {}\r\n", type);
    return fmt::format("{} {} HTTP/1.0\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n", method, path, kind, bytes);
}

Result<Opened> open(Address const& address, std::string_view method, std::string_view path, std::string_view body,
                    std::chrono::seconds patience) {
    HEARTH_TRY(auto socket, connect_to(address));
    socket.patience = patience;
    auto const type = body.empty() ? "" : "application/json";
    HEARTH_CHECK(send_all(socket, head_of(method, path, type, body.size()) + std::string(body)));
    return read_head(std::move(socket));
}

// What has gone is told after every piece.
Status send_file(Socket const& socket, std::string const& path, std::uint64_t bytes,
                 std::function<void(std::uint64_t)> const& on_sent) {
    std::ifstream file(path, std::ios::binary);
    std::string piece(256U << 10, '\0');
    for (std::uint64_t done = 0; done < bytes;) {
        auto const wanted = std::min<std::uint64_t>(piece.size(), bytes - done);
        file.read(piece.data(), static_cast<std::streamsize>(wanted));
        auto const count = static_cast<std::uint64_t>(file.gcount());
        if (count == 0) return Error(Code::io, fmt::format("cannot read '{}' at byte {} of {}", path, done, bytes));
        HEARTH_CHECK(send_all(socket, std::string_view(piece).substr(0, count)));
        done += count;
        if (on_sent) on_sent(done);
    }
    return ok();
}

Result<ServerAnswer> read_rest(Opened opened) {
    for (bool more = true; more;) {
        HEARTH_TRY(more, receive(opened.socket, opened.rest));
    }
    return ServerAnswer{opened.status, std::move(opened.rest)};
}

Result<ServerAnswer> read_lines(Opened opened, std::function<bool(std::string_view)> const& on_line) {
    if (opened.status != 200) return read_rest(std::move(opened));
    auto& text = opened.rest;
    for (bool more = true; more;) {
        for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
            if (!on_line(std::string_view(text).substr(0, end))) return ServerAnswer{opened.status, {}};
            text.erase(0, end + 1);
        }
        if (text.size() > kLineBytesMax)
            return Error(Code::too_large, fmt::format("a line of the server has more than {} bytes", kLineBytesMax));
        HEARTH_TRY(more, receive(opened.socket, text));
    }
    return ServerAnswer{opened.status, {}};
}

}  // namespace

std::string ServerClient::url() const { return fmt::format("http://{}:{}", address_.host, address_.port); }

bool ServerClient::answers() const {
    auto const answer = ask("GET", "/version");
    if (!answer || answer->status != 200) return false;
    auto const json = nlohmann::json::parse(answer->body, nullptr, false);
    return json.is_object() && json.contains("name") && json["name"] == "hearth";
}

Result<ServerAnswer> ServerClient::ask(std::string_view method, std::string_view path, std::string_view body,
                                       std::chrono::seconds patience) const {
    HEARTH_TRY(auto opened, open(address_, method, path, body, patience));
    return read_rest(std::move(opened));
}

Result<ServerAnswer> ServerClient::stream(std::string_view path,
                                          std::function<bool(std::string_view)> const& on_line) const {
    HEARTH_TRY(auto opened, open(address_, "GET", path, {}, kAnswerTimeout));
    return read_lines(std::move(opened), on_line);
}

Result<ServerAnswer> ServerClient::post_stream(std::string_view path, std::string_view body,
                                               std::function<bool(std::string_view)> const& on_line) const {
    HEARTH_TRY(auto opened, open(address_, "POST", path, body, kWorkTimeout));
    return read_lines(std::move(opened), on_line);
}

Result<ServerAnswer> ServerClient::upload(std::string_view path, std::string const& file, std::uint64_t bytes,
                                          std::function<void(std::uint64_t)> const& on_sent) const {
    HEARTH_TRY(auto socket, connect_to(address_));
    // It answers once the file is on the medium.
    socket.patience = kWorkTimeout;
    HEARTH_CHECK(send_all(socket, head_of("POST", path, "application/octet-stream", bytes)));
    auto const sent = send_file(socket, file, bytes, on_sent);
    // A server that takes no more says why.
    if (!sent && sent.error().code != Code::unavailable) return sent.error();
    auto opened = read_head(std::move(socket));
    if (!opened) return sent ? opened.error() : sent.error();
    return read_rest(*std::move(opened));
}

std::string encode_segment(std::string_view text) {
    std::string out;
    for (char const c : text) {
        bool const plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                           std::string_view("-._~").find(c) != std::string_view::npos;
        if (plain) out += c;
        else out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out;
}

std::string message_of(ServerAnswer const& answer) {
    auto const json = nlohmann::json::parse(answer.body, nullptr, false);
    bool const said = json.is_object() && json.contains("error");
    if (said && json["error"].is_string()) return json["error"].get<std::string>();
    bool const ours =
        said && json["error"].is_object() && json["error"].contains("message") && json["error"]["message"].is_string();
    return ours ? json["error"]["message"].get<std::string>() : fmt::format("the server answered {}", answer.status);
}

}  // namespace hearth::app
