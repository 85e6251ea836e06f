// Client: HTTP/1.1 over TCP and TLS, for downloads and for what is given to registries.
//
// It follows redirects, keeps connections for the next request to the same
// origin, and is strict where a download can be turned against its user: see
// address.h for where a redirect may lead, and Request::authorization.
//
// Threads:   all on the loop's thread. Names are resolved by a thread of Asio's. Files
//            that requests carry are read on the loop's: for loops that serve nobody else.
// Ownership: a Response owns its connection until its body was read to the end;
//            then the client has it back. The client outlives its responses.
// Limits:    ClientOptions; kIdleMax idle connections, kept for kIdleTime.
// Errors:    `unavailable`, `deadline_exceeded`: the other side or the way there
//            failed, another try may succeed. `cancelled`: by an Abort.
//            Everything else stays as it is: `invalid_argument` (an address that
//            may not be asked), `io` (certificates), `corrupt`, `too_large`.
// Source:    RFC 9110, RFC 9112.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "fetch/address.h"
#include "fetch/url.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::fetch {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

// Error::param of what a server refuses to whoever asks (401, 403), with `unsupported`: it is no failure of ours.
inline constexpr std::string_view kRefused = "refused";

inline constexpr std::size_t kIdleMax = 16;
inline constexpr Duration kIdleTime = std::chrono::seconds(10);

class Throttle;

// Where requests may go without TLS.
enum class PlainHttp : std::uint8_t { this_machine, anywhere };

struct ClientOptions {
    std::string user_agent = "hearth";
    // Asked to CONNECT to everything but this machine and `no_proxy`. It resolves names itself, so the
    // addresses of redirects can be checked only where they are numbers.
    std::optional<Url> proxy;
    std::string no_proxy{};  // machines that are asked without it, see proxy_exceptions.h
    std::string ca_file;  // certificates to trust; empty: the system's
    PlainHttp plain_http = PlainHttp::this_machine;
    Duration connect_timeout = std::chrono::seconds(15);  // each of TCP and TLS, and per address
    Duration stall_timeout = std::chrono::seconds(30);    // without a byte
    unsigned redirects_max = 10;
    std::size_t header_bytes_max = 64U << 10;
    std::uint64_t bytes_per_second = 0;  // of all bodies of the client together, there and back; 0: as fast as it goes
    std::shared_ptr<Throttle> throttle{};  // what all clients with it share beside that; may be null
    std::function<AddressClass(std::span<std::uint8_t const>)> classify = &fetch::classify;
};

class Connection;

// Ends what waits for the network on behalf of its owner: each request that was
// given it, from connecting to the last byte of the body, ends with `cancelled`.
class Abort {
public:
    void request();
    [[nodiscard]] bool requested() const { return requested_; }

private:
    friend class Client;
    void watch(std::shared_ptr<Connection> const& connection);
    std::vector<std::weak_ptr<Connection>> connections_;
    bool requested_ = false;
};

enum class Verb : std::uint8_t { get, head, post, put, patch };
[[nodiscard]] std::string_view to_string(Verb) noexcept;

// What a request carries: bytes, or `size` bytes of a file from `offset` on, read as
// they are sent. A file that is shorter is `io`.
struct RequestBody {
    std::string type;  // Content-Type; empty: none is said
    std::string bytes;
    std::string path;  // of the file; empty: `bytes`
    std::uint64_t offset = 0, size = 0;
    std::function<void(std::uint64_t)> sent{};  // called with what has gone so far; may be empty
};

struct Request {
    Url url;
    HeaderList headers;  // beside Host, User-Agent and Accept-Encoding
    std::string authorization;  // sent to the origin of `url` and to no other
    // Set where `url` is what a former answer was redirected to (Response::reached).
    std::optional<AddressClass> led_from;
    std::shared_ptr<Abort> abort;  // may be null
    Verb verb = Verb::get;
    RequestBody body{};  // of post, put and patch
};

class Client;

class Response {
public:
    ~Response();
    Response(Response const&) = delete;
    Response& operator=(Response const&) = delete;

    [[nodiscard]] unsigned status() const { return status_; }
    // The first one of this name, in any case; empty if there is none.
    [[nodiscard]] std::string_view header(std::string_view name) const;
    // The same of the first redirect on the way here.
    [[nodiscard]] std::string_view redirect_header(std::string_view name) const;
    [[nodiscard]] std::optional<std::uint64_t> content_length() const { return content_length_; }
    // Where the answer came from, and the most public class of address on the way.
    [[nodiscard]] Url const& url() const { return url_; }
    [[nodiscard]] AddressClass reached() const { return reached_; }

    // Some of the body, 0 at its end. A body shorter than announced is `unavailable`.
    net::Task<Result<std::size_t>> read(std::span<std::byte> into);
    // The whole body; `too_large` above `bytes_max`.
    net::Task<Result<std::string>> read_all(std::size_t bytes_max);

private:
    friend class Client;
    Response(Client& client, std::shared_ptr<Connection> connection)
        : client_(client), connection_(std::move(connection)) {}

    Client& client_;
    std::shared_ptr<Connection> connection_;  // null when read to the end
    unsigned status_ = 0;
    HeaderList headers_, redirect_headers_;  // names in lower case
    std::optional<std::uint64_t> content_length_;
    Url url_;
    AddressClass reached_ = AddressClass::everywhere;
};

class Client {
public:
    // Fails when `ca_file` cannot be read.
    [[nodiscard]] static Result<std::unique_ptr<Client>> create(net::Loop& loop, ClientOptions options);
    ~Client();
    Client(Client const&) = delete;
    Client& operator=(Client const&) = delete;

    // The answer's head, of whatever status but a redirect. What was sent with a body is
    // sent again only to where 307 and 308 say; other redirects of it are `invalid_argument`.
    net::Task<Result<std::unique_ptr<Response>>> send(Request request);
    net::Task<Result<std::unique_ptr<Response>>> get(Request request) { return send(std::move(request)); }

    struct Impl;  // private to the module

private:
    friend class Response;
    explicit Client(std::unique_ptr<Impl> impl);
    net::Task<Result<std::unique_ptr<Response>>> ask(Request const& request, Url const& url,
                                                     std::optional<AddressClass> led_from);
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::fetch
