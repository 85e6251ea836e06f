// FileServer: an HTTP server on real sockets that answers as a test tells it,
// faults included.
//
// A body that comes with a request is read before it is answered, unless `body_max` of
// the server is passed: then the connection is closed there.
//
// Threads: one that accepts and one per connection, joined by the destructor; the
// handler is called on them, one call at a time. Limit: 1024 connections.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace hearth::fetch::test {

struct Asked {
    std::string method, target;
    std::string body;  // by Content-Length
    std::map<std::string, std::string> headers;  // names in lower case
    // Of "Range: bytes=A-B".
    std::optional<std::pair<std::uint64_t, std::uint64_t>> range;
};

struct Reply {
    unsigned status = 200;
    std::vector<std::pair<std::string, std::string>> headers = {};
    std::string body = {};
    bool chunked = false;                               // else with Content-Length
    std::optional<std::uint64_t> announced = {};        // another Content-Length than the body's
    std::optional<std::uint64_t> cut_after = {};        // close after so many bytes of the body
    std::optional<std::uint64_t> stall_after = {};      // send no more after them, but stay
    bool hang_up = false;                               // close without an answer
};

using Handler = std::function<Reply(Asked const&)>;

class FileServer {
public:
    // `address` is one of this machine's: 127.0.0.1, 127.0.0.2, ...
    FileServer(std::string address, Handler handler);
    ~FileServer();
    FileServer(FileServer const&) = delete;
    FileServer& operator=(FileServer const&) = delete;

    [[nodiscard]] std::string url(std::string_view target) const;
    [[nodiscard]] std::vector<Asked> asked() const;
    [[nodiscard]] std::uint64_t body_bytes() const { return body_bytes_; }  // of all answers so far
    [[nodiscard]] std::size_t connections() const { return connections_; }

    std::atomic<std::size_t> body_max = SIZE_MAX;

private:
    void accept_all();
    void serve(int fd);
    bool answer(int fd, Reply const& reply);

    std::string const address_;
    Handler const handler_;
    int listener_ = -1;
    std::uint16_t port_ = 0;
    mutable std::mutex mutex_;  // guards asked_, sockets_, threads_ and calls of handler_
    std::vector<Asked> asked_;
    std::vector<int> sockets_;
    std::vector<std::thread> threads_;
    std::atomic<std::uint64_t> body_bytes_ = 0;
    std::atomic<std::size_t> connections_ = 0;
    std::thread acceptor_;
};

// Serves `content` at every target, ranges and If-Range included.
[[nodiscard]] Reply serve_file(Asked const& asked, std::string const& content, std::string const& etag);

// Bytes that are the same every time and have no short period.
[[nodiscard]] std::string some_bytes(std::size_t count, std::uint64_t seed = 1);

}  // namespace hearth::fetch::test
