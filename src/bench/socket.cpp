#include "bench/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include <fmt/format.h>

namespace hearth::bench {

void Fd::reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

std::string system_message(int error) { return std::system_category().message(error); }

Result<Address> resolve(std::string const& host, std::uint16_t port) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    auto const service = std::to_string(port);
    int const error = ::getaddrinfo(host.c_str(), service.c_str(), &hints, &found);
    if (error != 0)
        return Error{Code::unavailable, fmt::format("no address for {}: {}", host, ::gai_strerror(error)), "url"};
    std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> const owner(found, &::freeaddrinfo);
    // "localhost" may list ::1 first although servers listen on 127.0.0.1 only.
    auto const* chosen = found;
    for (auto const* a = found; a != nullptr; a = a->ai_next) {
        if (a->ai_family == AF_INET) {
            chosen = a;
            break;
        }
    }
    Address address;
    address.size = chosen->ai_addrlen;
    std::memcpy(&address.storage, chosen->ai_addr, chosen->ai_addrlen);
    return address;
}

Result<Fd> begin_connect(Address const& address) {
    Fd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return Error{Code::io, fmt::format("socket: {}", system_message(errno))};
    int const on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto const* to = reinterpret_cast<sockaddr const*>(&address.storage);
    if (::connect(fd.get(), to, address.size) != 0 && errno != EINPROGRESS) {
        return Error{Code::unavailable, fmt::format("connect: {}", system_message(errno))};
    }
    return fd;
}

}  // namespace hearth::bench
