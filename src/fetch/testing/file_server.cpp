#include "fetch/testing/file_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <random>
#include <stdexcept>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::fetch::test {
namespace {

bool send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        auto const count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (count <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
}

Asked parse(std::string const& head) {
    Asked asked;
    auto const first = head.find(' ');
    asked.method = head.substr(0, first);
    asked.target = head.substr(first + 1, head.find(' ', first + 1) - first - 1);
    for (auto at = head.find("\r\n"); at != std::string::npos && at + 4 < head.size();) {
        auto const end = head.find("\r\n", at + 2);
        auto const line = head.substr(at + 2, end - at - 2);
        auto const colon = line.find(": ");
        if (colon != std::string::npos) asked.headers[ascii_lower(line.substr(0, colon))] = line.substr(colon + 2);
        at = end;
    }
    auto const range = asked.headers.find("range");
    if (range != asked.headers.end()) {
        std::uint64_t first_byte = 0, last_byte = 0;
        auto const text = range->second.substr(range->second.find('=') + 1);
        auto const dash = text.find('-');
        std::from_chars(text.data(), text.data() + dash, first_byte);
        std::from_chars(text.data() + dash + 1, text.data() + text.size(), last_byte);
        asked.range = {first_byte, last_byte};
    }
    return asked;
}

}  // namespace

FileServer::FileServer(std::string address, Handler handler)
    : address_(std::move(address)), handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    ::inet_pton(AF_INET, address_.c_str(), &where.sin_addr);
    socklen_t size = sizeof(where);
    auto* const name = reinterpret_cast<sockaddr*>(&where);
    if (::bind(listener_, name, size) != 0 || ::listen(listener_, 64) != 0 ||
        ::getsockname(listener_, name, &size) != 0)
        throw std::runtime_error("cannot listen on " + address_);
    port_ = ntohs(where.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
}

FileServer::~FileServer() {
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
        std::lock_guard const lock(mutex_);
        for (int const fd : sockets_) ::shutdown(fd, SHUT_RDWR);
    }
    for (auto& thread : threads_) thread.join();
    for (int const fd : sockets_) ::close(fd);
    ::close(listener_);
}

std::string FileServer::url(std::string_view target) const {
    return fmt::format("http://{}:{}{}", address_, port_, target);
}

std::vector<Asked> FileServer::asked() const {
    std::lock_guard const lock(mutex_);
    return asked_;
}

void FileServer::accept_all() {
    for (int i = 0; i < 1024; ++i) {
        int const fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) return;
        int const on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        ++connections_;
        std::lock_guard const lock(mutex_);
        sockets_.push_back(fd);
        threads_.emplace_back([this, fd] { serve(fd); });
    }
}

void FileServer::serve(int fd) {
    std::string input;
    std::string buffer(65536, '\0');
    for (;;) {
        auto const end = input.find("\r\n\r\n");
        if (end == std::string::npos) {
            auto const count = ::recv(fd, buffer.data(), buffer.size(), 0);
            if (count <= 0) break;
            input.append(buffer, 0, static_cast<std::size_t>(count));
            continue;
        }
        auto asked = parse(input.substr(0, end + 4));
        input.erase(0, end + 4);
        auto const length = asked.headers.contains("content-length") ? std::stoull(asked.headers["content-length"]) : 0;
        bool whole = true;
        while (whole && input.size() < std::min<std::size_t>(length, body_max)) {
            auto const count = ::recv(fd, buffer.data(), buffer.size(), 0);
            whole = count > 0;
            if (whole) input.append(buffer, 0, static_cast<std::size_t>(count));
        }
        if (!whole || length > body_max) break;
        asked.body = input.substr(0, length);
        input.erase(0, length);
        Reply reply;
        {
            std::lock_guard const lock(mutex_);
            asked_.push_back(asked);
            reply = handler_(asked);
        }
        if (!answer(fd, reply)) break;
    }
    ::shutdown(fd, SHUT_RDWR);
}

bool FileServer::answer(int fd, Reply const& reply) {
    if (reply.hang_up) return false;
    auto head = fmt::format("HTTP/1.1 {} X\r\n", reply.status);
    for (auto const& [name, value] : reply.headers) head += fmt::format("{}: {}\r\n", name, value);
    if (reply.chunked) head += "Transfer-Encoding: chunked\r\n";
    else head += fmt::format("Content-Length: {}\r\n", reply.announced.value_or(reply.body.size()));
    std::string_view body = reply.body;
    auto const some = reply.cut_after ? reply.cut_after : reply.stall_after;
    if (some) body = body.substr(0, *some);
    body_bytes_ += body.size();  // first: once the client has all, it may be asked for
    if (!send_all(fd, head + "\r\n")) return false;
    if (reply.chunked) {
        for (std::size_t at = 0; at < body.size(); at += 1000) {
            auto const part = body.substr(at, 1000);
            if (!send_all(fd, fmt::format("{:x}\r\n{}\r\n", part.size(), part))) return false;
        }
        if (!some && !send_all(fd, "0\r\n\r\n")) return false;
    } else if (!send_all(fd, body)) {
        return false;
    }
    if (reply.stall_after) {
        char ignored = 0;
        while (::recv(fd, &ignored, 1, 0) > 0) {}  // until the client gives up
        return false;
    }
    return !reply.cut_after;
}

Reply serve_file(Asked const& asked, std::string const& content, std::string const& etag) {
    Reply reply;
    if (!etag.empty()) reply.headers.emplace_back("ETag", etag);
    auto const if_range = asked.headers.find("if-range");
    bool const whole = !asked.range || (if_range != asked.headers.end() && if_range->second != etag);
    if (whole) {
        reply.body = content;
        return reply;
    }
    auto const [first, last] = *asked.range;
    if (first >= content.size()) {
        reply.status = 416;
        reply.headers.emplace_back("Content-Range", fmt::format("bytes */{}", content.size()));
        return reply;
    }
    reply.status = 206;
    reply.body = content.substr(first, last - first + 1);
    reply.headers.emplace_back("Content-Range",
                               fmt::format("bytes {}-{}/{}", first, first + reply.body.size() - 1, content.size()));
    return reply;
}

std::string some_bytes(std::size_t count, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() >> 33);
    return bytes;
}

}  // namespace hearth::fetch::test
