// TestServer: a scripted HTTP server on a loopback port chosen by the system.
//
// Each connection has a thread; each request is handed to the script with a
// Peer to answer through, byte by byte if the test wants it so.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace hearth::bench::testing {

struct TestRequest {
    std::string method;
    std::string path;
    std::string head;  // everything before the body
    std::string body;
    int connection = 0;  // counted from 1
};

class Peer {
public:
    explicit Peer(int fd) : fd_(fd) {}

    // False when the client is gone.
    bool write(std::string_view bytes) const {
        while (!bytes.empty()) {
            auto const n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n <= 0) return false;
            bytes.remove_prefix(static_cast<std::size_t>(n));
        }
        return true;
    }
    bool write_chunk(std::string_view data) const {
        char size[32];
        auto const n = std::snprintf(size, sizeof size, "%zx\r\n", data.size());
        return write(std::string(size, static_cast<std::size_t>(n)) + std::string(data) + "\r\n");
    }
    // One SSE event in a chunk of its own.
    bool write_event(std::string_view json) const { return write_chunk("data: " + std::string(json) + "\n\n"); }
    // Blocks until the client has closed the connection.
    void wait_for_close() const {
        char byte = 0;
        while (::recv(fd_, &byte, 1, 0) > 0) {}
    }
    // Ends the connection with a reset instead of an orderly close.
    void reset() const {
        linger const now{1, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }

private:
    int fd_;
};

enum class After { keep, close };  // what becomes of the connection

class TestServer {
public:
    using Script = std::function<After(TestRequest const&, Peer const&)>;

    static constexpr std::string_view kStreamHead =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

    explicit TestServer(Script script) : script_(std::move(script)) {
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_, 1024) != 0 ||
            ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
            std::abort();
        }
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] { accept_all(); });
    }
    ~TestServer() {
        ::shutdown(listener_, SHUT_RDWR);
        acceptor_.join();
        ::close(listener_);
        {
            std::lock_guard const lock(mutex_);
            for (int fd : open_) ::shutdown(fd, SHUT_RDWR);
        }
        for (auto& t : threads_) t.join();
    }
    TestServer(TestServer const&) = delete;
    TestServer& operator=(TestServer const&) = delete;

    [[nodiscard]] std::uint16_t port() const { return port_; }
    [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
    [[nodiscard]] int connections() const { return connections_; }

private:
    void accept_all() {
        for (;;) {
            int const fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd < 0) return;
            int const number = ++connections_;
            int const on = 1;
            ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            std::lock_guard const lock(mutex_);
            open_.push_back(fd);
            threads_.emplace_back([this, fd, number] { serve(fd, number); });
        }
    }
    void serve(int fd, int number) {
        std::string pending;
        TestRequest request;
        while (read_request(fd, pending, request)) {
            request.connection = number;
            if (script_(request, Peer(fd)) == After::close) break;
        }
        std::lock_guard const lock(mutex_);
        std::erase(open_, fd);
        ::close(fd);
    }
    static bool read_request(int fd, std::string& pending, TestRequest& request) {
        char buffer[65536];
        std::size_t body_at = std::string::npos, length = 0;
        for (;;) {
            if (body_at == std::string::npos && pending.find("\r\n\r\n") != std::string::npos) {
                body_at = pending.find("\r\n\r\n") + 4;
                auto const header = pending.find("Content-Length: ");
                if (header < body_at) length = std::strtoul(pending.c_str() + header + 16, nullptr, 10);
            }
            if (body_at != std::string::npos && pending.size() >= body_at + length) break;
            auto const n = ::recv(fd, buffer, sizeof buffer, 0);
            if (n <= 0) return false;
            pending.append(buffer, static_cast<std::size_t>(n));
        }
        request.head = pending.substr(0, body_at);
        request.body = pending.substr(body_at, length);
        request.method = request.head.substr(0, request.head.find(' '));
        auto const path = request.method.size() + 1;
        request.path = request.head.substr(path, request.head.find(' ', path) - path);
        pending.erase(0, body_at + length);
        return true;
    }

    Script script_;
    int listener_ = -1;
    std::uint16_t port_ = 0;
    std::atomic<int> connections_{0};
    std::thread acceptor_;
    std::mutex mutex_;  // guards what follows, except threads_ after the acceptor ended
    std::vector<int> open_;
    std::vector<std::thread> threads_;
};

}  // namespace hearth::bench::testing
