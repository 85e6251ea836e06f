// Connection: one TCP or TLS connection to one origin, one exchange at a time.
// Private to fetch. Beast reads heads and chunks; a body of known length goes
// from the socket straight to the caller's buffer.
//
// Threads: the loop's.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/clock.h"
#include "fetch/client.h"
#include "fetch/throttle.h"

namespace hearth::fetch {

struct Head {
    unsigned status = 0;
    HeaderList headers;  // names in lower case
    std::optional<std::uint64_t> content_length;
};

struct Exchange {
    std::string const& head;
    RequestBody const* body = nullptr;  // what is sent behind the head
    bool no_body = false;               // the answer has none: HEAD
};

class Connection {
public:
    Connection(net::Loop& loop, boost::asio::ssl::context& tls, ClientOptions const& options, Pace& pace, Url url);
    Connection(Connection const&) = delete;
    Connection& operator=(Connection const&) = delete;

    // Connects. Only to addresses that `led_from` may lead to, if it is set.
    net::Task<Status> open(std::optional<AddressClass> led_from);

    // Sends a request and reads the answer's head; a 1xx is passed over. An answer
    // that comes before all was sent counts, and is the connection's last one.
    net::Task<Result<Head>> exchange(Exchange exchange);

    // Some of the body, 0 at its end.
    net::Task<Result<std::size_t>> read(std::span<std::byte> into);

    void close();

    [[nodiscard]] AddressClass reached() const { return reached_; }
    // The answer was read to its end and the other side keeps the connection.
    [[nodiscard]] bool reusable() const { return framing_ == Framing::done && keep_alive_ && !closed_; }
    [[nodiscard]] std::string origin() const { return url_.origin(); }
    [[nodiscard]] Url const& url() const { return url_; }
    Instant idle_since{};

private:
    using Parser = boost::beast::http::response_parser<boost::beast::http::buffer_body>;
    using Endpoint = boost::asio::ip::tcp::endpoint;
    enum class Framing : std::uint8_t { done, length, parser };

    [[nodiscard]] boost::beast::tcp_stream& tcp() { return stream_.next_layer(); }
    net::Task<Result<std::vector<Endpoint>>> resolve(Url const& url);
    net::Task<Status> connect(Url const& url, std::optional<AddressClass> led_from, bool is_proxy);
    net::Task<Status> connect_through_proxy();
    net::Task<Status> handshake();
    net::Task<Status> write(std::span<char const> bytes);
    net::Task<Status> write_body(RequestBody const& body);
    net::Task<void> keep_pace(std::uint64_t sent);
    net::Task<Status> read_head(bool no_body);
    net::Task<Result<std::size_t>> read_parsed(std::span<std::byte> into);
    Status check_class(AddressClass to, std::optional<AddressClass> led_from) const;
    Result<Head> take_head();
    Error failure(std::string_view doing, boost::system::error_code const& why) const;

    net::Loop& loop_;
    ClientOptions const& options_;
    Pace& pace_;
    SteadyClock clock_;
    Url url_;
    boost::beast::ssl_stream<boost::beast::tcp_stream> stream_;
    boost::beast::flat_buffer buffer_;
    std::optional<Parser> parser_;
    std::uint64_t remaining_ = 0;  // of a body of known length
    AddressClass reached_ = AddressClass::everywhere;
    Framing framing_ = Framing::done;
    bool keep_alive_ = false, closed_ = false;
};

}  // namespace hearth::fetch
