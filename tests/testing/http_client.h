// HttpClient: a blocking HTTP/1 client that can misbehave, for tests.
//
// It sends exactly the bytes it is given and reads answers by the letter of
// RFC 9112. Whatever goes wrong, 20 s of silence or the end of the time given
// by allow() included, is a std::runtime_error, which fails the test.
//
// Threads: one per object.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hearth::test {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct HttpAnswer {
    unsigned status = 0;
    std::string version;
    HeaderList headers;  // names in lower case
    std::string body;    // chunks joined

    [[nodiscard]] std::string header(std::string_view name) const {
        for (auto const& [key, value] : headers) {
            if (key == name) return value;
        }
        return {};
    }
    [[nodiscard]] std::size_t count(std::string_view name) const {
        return static_cast<std::size_t>(
            std::count_if(headers.begin(), headers.end(), [&](auto const& h) { return h.first == name; }));
    }
};

class HttpClient {
public:
    // `receive_buffer` bounds what the kernel takes for a client that does not
    // read; 0 leaves the system's choice.
    explicit HttpClient(std::uint16_t port, int receive_buffer = 0)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        timeval const silence{.tv_sec = 20, .tv_usec = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence));
        ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof(silence));
        int const on = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(fd_, reinterpret_cast<sockaddr const*>(&address), sizeof(address)) != 0) fail("connect");
    }
    ~HttpClient() { close(); }
    HttpClient(HttpClient const&) = delete;
    HttpClient& operator=(HttpClient const&) = delete;
    HttpClient(HttpClient&& other) noexcept
        : fd_(std::exchange(other.fd_, -1)), give_up_(other.give_up_), input_(std::move(other.input_)) {}

    // Whatever is read from now on must have come when `time` is over, however
    // lively the server is meanwhile.
    void allow(std::chrono::milliseconds time) { give_up_ = std::chrono::steady_clock::now() + time; }

    void send(std::string_view bytes) {
        while (!bytes.empty()) {
            ssize_t const count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count <= 0) fail("send");
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
    }

    // Like send(), but a connection the server has closed is no error.
    void send_what_is_taken(std::string_view bytes) {
        try {
            send(bytes);
        } catch (std::runtime_error const&) {}
    }

    static std::string format(std::string_view method, std::string_view target, std::string_view body = {},
                              HeaderList const& headers = {}) {
        std::string out(method);
        out.append(" ").append(target).append(" HTTP/1.1\r\n");
        bool host = false;
        for (auto const& [name, value] : headers) {
            out.append(name).append(": ").append(value).append("\r\n");
            host = host || lower(name) == "host";
        }
        if (!host) out.append("host: localhost\r\n");
        if (!body.empty()) out.append("content-length: ").append(std::to_string(body.size())).append("\r\n");
        return out.append("\r\n").append(body);
    }

    HttpAnswer request(std::string_view method, std::string_view target, std::string_view body = {},
                       HeaderList const& headers = {}) {
        send(format(method, target, body, headers));
        HttpAnswer answer = read_head();
        if (method != "HEAD") read_body(answer);
        return answer;
    }
    HttpAnswer get(std::string_view target, HeaderList const& headers = {}) {
        return request("GET", target, {}, headers);
    }
    HttpAnswer post(std::string_view target, std::string_view body, HeaderList const& headers = {}) {
        return request("POST", target, body, headers);
    }

    HttpAnswer read_answer() {
        HttpAnswer answer = read_head();
        read_body(answer);
        return answer;
    }

    // Status line and headers, of a final or an interim (1xx) answer.
    HttpAnswer read_head() {
        HttpAnswer answer;
        std::string line = read_line();
        if (line.size() < 12 || !line.starts_with("HTTP/1.")) throw std::runtime_error("no status line: " + line);
        answer.version = line.substr(0, 8);
        answer.status = static_cast<unsigned>(number(std::string_view(line).substr(9, 3), 10));
        for (line = read_line(); !line.empty(); line = read_line()) {
            std::size_t const colon = line.find(':');
            if (colon == std::string::npos) throw std::runtime_error("no header line: " + line);
            std::size_t const value = line.find_first_not_of(' ', colon + 1);
            answer.headers.emplace_back(lower(line.substr(0, colon)),
                                        value == std::string::npos ? "" : line.substr(value));
        }
        return answer;
    }

    // The next chunk's data; nothing after the last one.
    std::optional<std::string> read_chunk() {
        std::size_t const size = number(read_line(), 16);
        std::string data = read_bytes(size);
        if (!read_line().empty()) throw std::runtime_error("a chunk is longer than it says");
        if (size == 0) return std::nullopt;
        return data;
    }

    void read_body(HttpAnswer& answer) {
        bool const bodiless = answer.status < 200 || answer.status == 204 || answer.status == 304;
        if (answer.header("transfer-encoding") == "chunked") {
            while (auto chunk = read_chunk()) answer.body += *chunk;
        } else if (auto const length = answer.header("content-length"); !length.empty()) {
            answer.body = read_bytes(number(length, 10));
        } else if (!bodiless) {
            answer.body = read_all();
        }
    }

    std::string read_bytes(std::size_t count) {
        while (input_.size() < count) {
            if (!receive()) throw std::runtime_error("the connection ended early");
        }
        std::string out = input_.substr(0, count);
        input_.erase(0, count);
        return out;
    }

    // Until the server closes.
    std::string read_all() {
        while (receive()) {}
        return std::exchange(input_, {});
    }

    // True when the server closes or resets the connection without another byte.
    bool is_closed() {
        try {
            return read_all().empty();
        } catch (std::runtime_error const&) {
            return input_.empty() && error_ == ECONNRESET;
        }
    }

    void shut_sending() { ::shutdown(fd_, SHUT_WR); }

    void close() {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

    // Closes with a reset.
    void reset() {
        linger const at_once{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        close();
    }

    [[nodiscard]] int fd() const { return fd_; }

private:
    [[noreturn]] void fail(char const* what) {
        error_ = errno;
        throw std::runtime_error(std::string(what) + ": " + std::strerror(error_));
    }

    static std::size_t number(std::string_view text, int base) {
        std::size_t value = 0;
        auto const [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, base);
        if (failure != std::errc() || end != text.data() + text.size())
            throw std::runtime_error("no number: " + std::string(text));
        return value;
    }

    static std::string lower(std::string_view text) {
        std::string out(text);
        for (char& c : out) {
            if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
        }
        return out;
    }

    // False at the end.
    bool receive() {
        await_input();
        char chunk[16384];
        ssize_t const count = ::recv(fd_, chunk, sizeof(chunk), 0);
        if (count < 0) fail("recv");
        input_.append(chunk, static_cast<std::size_t>(count));
        return count > 0;
    }

    void await_input() {
        if (give_up_ == std::chrono::steady_clock::time_point::max()) return;
        auto const left = std::chrono::ceil<std::chrono::milliseconds>(give_up_ - std::chrono::steady_clock::now());
        pollfd readable{fd_, POLLIN, 0};
        if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) == 0)
            throw std::runtime_error("time is over; not read yet: '" + input_ + "'");
    }

    std::string read_line() {
        for (;;) {
            std::size_t const end = input_.find("\r\n");
            if (end != std::string::npos) {
                std::string line = input_.substr(0, end);
                input_.erase(0, end + 2);
                return line;
            }
            if (!receive()) throw std::runtime_error("the connection ended in a line: '" + input_ + "'");
        }
    }

    int fd_;
    int error_ = 0;
    std::chrono::steady_clock::time_point give_up_ = std::chrono::steady_clock::time_point::max();
    std::string input_;
};

}  // namespace hearth::test
