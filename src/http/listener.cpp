#include "http/listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

namespace hearth::http {
namespace {

namespace asio = boost::asio;
using Descriptor = asio::posix::stream_descriptor;

constexpr int kAcceptsPerTurn = 64;  // so that a flood of connections does not starve those inside
constexpr auto kPause = std::chrono::milliseconds(100);  // after a failed accept
constexpr int kUnsentInKernelMax = 128 << 10;

void set(int fd, int level, int name, int value) { ::setsockopt(fd, level, name, &value, sizeof(value)); }

// On Linux an accepted socket inherits these from the listening one.
void set_options(int fd, Duration write_timeout) {
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    // Probes and unacknowledged data tell of a peer that vanished without a word.
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    auto const patience = std::chrono::duration_cast<std::chrono::milliseconds>(write_timeout).count();
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(std::clamp<std::int64_t>(patience, 1, 86'400'000)));
    // Without it a slow reader's stream would fill megabytes of kernel memory
    // before write() noticed.
    set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsentInKernelMax);
}

std::string name_of(sockaddr const* address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (address->sa_family == AF_INET) {
        sockaddr_in four{};
        std::memcpy(&four, address, sizeof(four));
        ::inet_ntop(AF_INET, &four.sin_addr, text.data(), text.size());
        return std::string(text.data()) + ":" + std::to_string(ntohs(four.sin_port));
    }
    if (address->sa_family == AF_INET6) {
        sockaddr_in6 six{};
        std::memcpy(&six, address, sizeof(six));
        ::inet_ntop(AF_INET6, &six.sin6_addr, text.data(), text.size());
        return "[" + std::string(text.data()) + "]:" + std::to_string(ntohs(six.sin6_port));
    }
    return "local";
}

std::uint16_t port_of(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof(address);
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
    return ntohs(reinterpret_cast<sockaddr_in const*>(&address)->sin_port);  // same place in sockaddr_in6
}

Error cannot_listen(std::string const& host, std::uint16_t port, int number) {
    std::string const where = (host.find(':') == host.npos ? host : "[" + host + "]") + ":" + std::to_string(port);
    std::string text = "cannot listen on " + where + ": " + std::strerror(number);
    if (number == EADDRINUSE) text += "; another program uses this port: stop it, or choose another with --port";
    if (number == EACCES) text += "; ports below 1024 need privileges: choose another with --port";
    if (number == EADDRNOTAVAIL) text += "; this machine has no such address: choose another with --host";
    return {Code::io, text, "port"};
}

// Nothing for an address this machine does not have: a name may resolve to some.
// Any other failure is one, lest another program answer at the address we name.
Result<std::optional<int>> listen_on(addrinfo const& address, Listener::Options const& options) {
    auto const& [host, port, write_timeout] = options;
    int const fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 && errno == EAFNOSUPPORT) return std::optional<int>();
    if (fd < 0) return cannot_listen(host, port, errno);
    set_options(fd, write_timeout);
    // "::" alone takes IPv4 as well; no name does, it lists both.
    if (address.ai_family == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, host == "::" ? 0 : 1);
    if (::bind(fd, address.ai_addr, address.ai_addrlen) != 0 || ::listen(fd, SOMAXCONN) != 0) {
        int const number = errno;
        ::close(fd);
        if (number == EADDRNOTAVAIL) return std::optional<int>();
        return cannot_listen(host, port, number);
    }
    return std::optional(fd);
}

class SocketListener final : public Listener, public std::enable_shared_from_this<SocketListener> {
public:
    SocketListener(net::Loop& loop, telemetry::Log& log, Callbacks callbacks)
        : loop_(loop), log_(log), callbacks_(std::move(callbacks)) {}

    void add(int fd) { sockets_.push_back(std::make_unique<Socket>(loop_.context(), fd)); }
    void start() {
        for (auto const& socket : sockets_) watch(*socket);
    }

    std::uint16_t port() const override { return port_of(sockets_.front()->descriptor.native_handle()); }

    void close() override {
        closed_ = true;
        for (auto const& socket : sockets_) {
            boost::system::error_code ignored;
            socket->pause.cancel();
            socket->descriptor.close(ignored);
        }
    }

private:
    struct Socket {
        Socket(asio::io_context& context, int fd) : descriptor(context, fd), pause(context) {}
        Descriptor descriptor;
        asio::steady_timer pause;
    };

    void watch(Socket& socket) {
        socket.descriptor.async_wait(Descriptor::wait_read,
                                     [self = shared_from_this(), &socket](boost::system::error_code const& failure) {
                                         if (!failure && !self->closed_) self->accept_some(socket);
                                     });
    }

    void accept_some(Socket& socket) {
        for (int i = 0; i < kAcceptsPerTurn && !closed_; ++i) {
            sockaddr_storage address{};
            socklen_t size = sizeof(address);
            auto* const generic = reinterpret_cast<sockaddr*>(&address);
            int const fd = ::accept4(socket.descriptor.native_handle(), generic, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (fd >= 0) {
                last_failure_ = 0;
                callbacks_.on_accept(fd, name_of(generic));
                continue;
            }
            if (errno == EAGAIN || errno == EWOULDBLOCK) break;
            if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
            int const number = errno;
            bool const none_left = number == EMFILE || number == ENFILE;
            if (none_left && callbacks_.free_descriptor()) continue;
            pause(socket, number);
            return;
        }
        if (!closed_) watch(socket);
    }

    // Out of descriptors or memory: the kernel keeps who waits, a busy loop would
    // only make it worse.
    void pause(Socket& socket, int number) {
        if (number != last_failure_) log_.error("cannot accept connections", {{"problem", std::strerror(number)}});
        last_failure_ = number;
        socket.pause.expires_after(kPause);
        socket.pause.async_wait([self = shared_from_this(), &socket](boost::system::error_code const& failure) {
            if (!failure && !self->closed_) self->watch(socket);
        });
    }

    net::Loop& loop_;
    telemetry::Log& log_;
    Callbacks callbacks_;
    std::vector<std::unique_ptr<Socket>> sockets_;
    int last_failure_ = 0;  // logged once, until accepting works again
    bool closed_ = false;
};

// Shared with pending operations, so the owner holds this in its place.
class ListenerHandle final : public Listener {
public:
    explicit ListenerHandle(std::shared_ptr<SocketListener> listener) : listener_(std::move(listener)) {}
    ~ListenerHandle() override { listener_->close(); }
    std::uint16_t port() const override { return port_; }
    void close() override { listener_->close(); }

private:
    std::shared_ptr<SocketListener> listener_;
    std::uint16_t const port_ = listener_->port();  // still known once closed
};

struct FreeAddresses {
    void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

}  // namespace

std::string peer_name(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    return ::getpeername(fd, generic, &size) == 0 ? name_of(generic) : "local";
}

Result<std::unique_ptr<Listener>> Listener::create(net::Loop& loop, Options const& options, telemetry::Log& log,
                                                   Callbacks callbacks) {
    std::string const& host = options.host;
    std::uint16_t const port = options.port;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    int const failure =
        ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (failure != 0) {
        return Error(Code::io,
                     "cannot listen on '" + host + "': " + ::gai_strerror(failure) +
                         "; give an address of this machine with --host",
                     "host");
    }
    std::unique_ptr<addrinfo, FreeAddresses> const addresses(found);
    auto listener = std::make_shared<SocketListener>(loop, log, std::move(callbacks));
    std::size_t count = 0;
    for (addrinfo const* address = found; address != nullptr; address = address->ai_next) {
        HEARTH_TRY(auto const fd, listen_on(*address, options));
        if (!fd) continue;
        listener->add(*fd);
        ++count;
        if (port == 0) break;
    }
    if (count == 0) return cannot_listen(host, port, EADDRNOTAVAIL);
    listener->start();
    return std::unique_ptr<Listener>(std::make_unique<ListenerHandle>(std::move(listener)));
}

}  // namespace hearth::http
