// Server: HTTP/1.1 on Boost.Beast, one loop thread, every buffer bounded.
//
// A route is one line of one table and declares method, path, permission and
// limits; a route without a permission does not compile. A handler is a
// coroutine that gets an Exchange: it answers once with send(), or streams with
// start_stream(), write() and end_stream(). A route may take its body as a stream,
// too: its handler is called as soon as the head is read, and reads by read_body().
//
// The server owns sockets, parsing, keep-alive, time-outs, limits, Host and
// Origin checks, CORS, request ids, access log and HTTP metrics. It knows no
// dialect: errors it finds itself are rendered by the `render_error` hook, so
// that each path prefix speaks its own dialect. These are 400 (malformed), 403
// (Host, Origin), 404, 405 (with Allow), 408 (slow sender), 413, 414, 417, 431,
// 500 (a handler that threw or did not answer), 501 (transfer coding), 503
// (connections_max, with Retry-After), 505. The answer's status is the one given
// to the hook, whatever the hook says.
//
// A GET route answers HEAD too, without the body. OPTIONS is answered for every
// path. A client that closes its sending side during an exchange has left, as
// with nginx or Go: on_disconnect fires; an answer sent nevertheless still goes
// out. Requests sent ahead on one connection are answered in order.
//
// Threads: the loop's thread only. The log and the registry must outlive the
// loop, which ends connections still open; destroying the Server aborts what is left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::telemetry {
class Log;
class Registry;
}  // namespace hearth::telemetry

namespace hearth::http {

enum class Method : std::uint8_t { get, head, post, put, del, options, patch };

// What a caller must be allowed to do. Later issues put keys and roles behind it.
enum class Permission : std::uint8_t {
    anyone,    // liveness, version
    observe,   // metrics, state
    infer,     // run models
    administer // change the server
};

using Headers = std::vector<std::pair<std::string, std::string>>;

struct Request {
    Method method{};
    std::string path;                                             // percent-decoded, no query
    std::string query;                                            // raw
    std::vector<std::pair<std::string, std::string>>
        parameters;  // from {name} in the pattern; {name...} takes the rest with '/'
    Headers headers;                                              // as received
    std::string body;     // empty where the route takes it as a stream
    std::string id;       // x-request-id: the client's if it is 1-128 of [A-Za-z0-9._-], else ours
    std::string peer;     // address:port
    Instant received{};

    [[nodiscard]] std::string_view header(std::string_view name) const;     // case-insensitive; empty if absent
    [[nodiscard]] std::string_view parameter(std::string_view name) const;  // empty if absent
};

struct Response {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
    Headers headers;
    bool close = false;
};

struct StreamHead {
    std::string content_type = "text/event-stream";
    Headers headers;
};

// One request and its one answer. Lives as long as its handler runs.
class Exchange {
public:
    virtual ~Exchange() = default;
    [[nodiscard]] virtual Request const& request() const = 0;

    // The next piece of the body, 64 KiB at most; empty at its end. What the handler
    // does not read stays with the client: nothing is read ahead but as much again.
    // Fails with `cancelled` once the client is gone, `too_large` beyond the route's
    // limit, `invalid_argument` for malformed chunks, `deadline_exceeded` for a sender
    // that is too slow (Options::body_timeout); a handler that returns then without an
    // answer has the server tell the client why. An answer before the end of the body
    // is the connection's last one.
    // REQUIRES: the route takes its body as a stream
    virtual net::Task<Result<std::string>> read_body() = 0;

    // The whole answer. The server adds Content-Length, Date, Connection,
    // x-request-id and CORS fields; those of `response` by these names are dropped.
    // REQUIRES: nothing was sent yet
    virtual net::Task<void> send(Response response) = 0;

    // Status 200 and headers, chunked (HTTP/1.0: until the connection closes), and
    // not to be buffered or stored by proxies. `cancelled` if the client is gone.
    // REQUIRES: nothing was sent yet
    virtual net::Task<Status> start_stream(StreamHead head) = 0;

    // Sends `bytes`; resumes at once while less than Options::stream_buffer_max
    // wait for the client, else when the client has read. `cancelled` once the
    // client is gone.
    virtual net::Task<Status> write(std::string bytes) = 0;
    virtual net::Task<void> end_stream() = 0;

    // Called once, on the loop, when the client leaves before the answer is
    // complete or the server aborts the exchange (drain, stalled reader); at once
    // if that has happened already. At most one callback; setting replaces.
    virtual void on_disconnect(std::function<void()> callback) = 0;
    [[nodiscard]] virtual bool disconnected() const = 0;
    [[nodiscard]] virtual bool started() const = 0;  // bytes of the answer went out
};

using Handler = std::function<net::Task<void>(Exchange&)>;

// How a handler gets the body: whole, in Request::body, or by Exchange::read_body().
enum class BodyMode : std::uint8_t { whole, stream };

struct RouteLimits {
    std::size_t body_max;  // bytes; 0: a body is refused
    BodyMode body = BodyMode::whole;
};

// Patterns: literal segments, {name} for one segment, {name...} for the rest.
struct Route {
    Route(Method m, std::string_view p, Permission who, RouteLimits l, Handler h)
        : method(m), pattern(p), permission(who), limits(l), handler(std::move(h)) {}
    // Makes {} ambiguous: it would be Permission::anyone.
    Route(Method, std::string_view, int, RouteLimits, Handler) = delete;
    Method method;
    std::string pattern;
    Permission permission;
    RouteLimits limits;
    Handler handler;
};

struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 8080;  // 0: any free one, see Server::port()
    std::size_t connections_max = 1024;  // one more replaces the longest idle one, or is told 503
    std::size_t header_bytes_max = 32U << 10;
    std::size_t stream_buffer_max = 256U << 10;  // unsent bytes of one stream before write() suspends
    Duration header_timeout = std::chrono::seconds(10);  // request line to last header byte
    // Plus a second for each 8 KiB that came. Of a body that is a stream: without a byte, and in all
    // (with that second) as far as the handler waited for it.
    Duration body_timeout = std::chrono::seconds(30);
    Duration idle_timeout = std::chrono::seconds(75);  // keep-alive
    Duration write_timeout = std::chrono::seconds(60);  // a reader that takes nothing for so long is dropped
    // Besides localhost, loopback addresses and `host` (any address, when `host`
    // is 0.0.0.0 or ::). "name", "name:port", "*.domain"; "*" = any.
    std::vector<std::string> allowed_hosts;
    // "https://app.example", besides same-origin and loopback; one '*' stands for any text: "app://*"; "*" = any
    std::vector<std::string> allowed_origins;
};

// Error found by the server itself, to be dressed by the dialect of `path`.
using ErrorRenderer = std::function<Response(Request const& request, unsigned status, Error const& error)>;

// Whether a server on `host` (Options::host) is reached from this machine only.
[[nodiscard]] bool is_loopback(std::string const& host);

// `invalid_argument` for a pattern that would never match: Options::allowed_origins knows one '*' in each.
[[nodiscard]] Status check_origins(std::vector<std::string> const& patterns);

class Server {
public:
    // Binds and listens; fails with `io` naming host, port and the way out, or
    // with `invalid_argument` for a bad or repeated route or an origin that could never come.
    [[nodiscard]] static Result<std::unique_ptr<Server>> create(net::Loop& loop, Options options,
                                                                std::vector<Route> routes, ErrorRenderer render_error,
                                                                telemetry::Log& log, telemetry::Registry& metrics);
    virtual ~Server() = default;
    [[nodiscard]] virtual std::uint16_t port() const = 0;

    // Stops accepting; idle connections close; resumes when the last request that
    // has begun to arrive is answered or `grace` passed (the rest is aborted then,
    // and given up to a second to unwind). True if all finished. Once.
    virtual net::Task<bool> drain(Duration grace) = 0;
    [[nodiscard]] virtual std::size_t active_exchanges() const = 0;

    // Serves a stream socket that is connected already, e.g. one end of a
    // socketpair. Takes ownership of `fd`. Limits hold as for any connection.
    virtual void adopt(int fd) = 0;
};

}  // namespace hearth::http
