// LoadClient: many concurrent streaming requests on one thread, timed.
//
// It knows nothing of workloads: the caller decides when to start a request
// and with which body, polls, and reads the results. One epoll loop, one read
// per arrival, no allocation per token, because the client's CPU is taken from
// the server it measures.
//
// What is timed: `sent` is when start() was called (connecting included),
// `head` the arrival of the end of the response's headers, `first` and `last`
// the arrival of the first and last event that carries output, a gap the time
// between two reads with output. Events that arrive together have gaps of 0
// between them.
//
// Connections are kept and reused. When the server has closed a kept one
// before answering, the request is sent again on a fresh one, once.
//
// Threads: one. Limits: ClientOptions; a stream past one of them ends with an
// Outcome that says so. Nothing is dropped: every started request has a result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "bench/sse_scanner.h"

namespace hearth::bench {

inline constexpr std::uint32_t kStreamsMax = 4096;

// "http://host:port/prefix", split.
struct Target {
    std::string host;  // to resolve
    std::uint16_t port = 80;
    std::string authority;  // of the Host header: host and port, an IPv6 address in brackets
    std::string prefix;  // of every path; empty or "/x", no slash at the end
};
[[nodiscard]] Result<Target> parse_url(std::string_view url);

enum class Outcome : std::uint8_t {
    pending,
    completed,
    cancelled,  // by cancel()
    connect,  // the server did not accept the connection
    http_error,  // a status other than 200
    stream_error,  // an error event inside the stream
    disconnected,  // the stream ended before its end was announced
    malformed,  // not HTTP, or a line or head past its limit
    timeout,  // no end within the request timeout
    no_output,  // ended properly, without a single token
};
[[nodiscard]] std::string_view to_string(Outcome) noexcept;

struct RequestResult {
    Outcome outcome = Outcome::pending;
    int status = 0;  // HTTP's; 0 if none came
    std::optional<std::uint64_t> retry_after_s;  // what a refusal said
    std::string problem;  // what went wrong; empty if nothing did
    Instant sent{};
    std::optional<Instant> head;  // none if the headers never ended
    Instant first{};  // meaningful if chunks > 0
    Instant last{};  // likewise
    Instant end{};
    std::uint64_t chunks = 0;  // events with output
    std::vector<float> gaps_ms;
    std::optional<StreamUsage> usage;
    std::string finish_reason;
    std::string text;  // if kept
};

struct ClientOptions {
    Target target;
    std::uint32_t streams_max = 256;  // at once; 1 to kStreamsMax
    Duration request_timeout = std::chrono::seconds(120);
    std::size_t gaps_max = std::size_t{64} << 20;  // over all requests; later gaps are not kept and gaps_cut() says so
    KeepText keep_text = KeepText::no;
    std::string headers;  // further request header lines, each ending in \r\n
};

class LoadClient {
public:
    // Fails with not_found if the host has no address, with too_large when
    // streams_max descriptors cannot be had.
    [[nodiscard]] static Result<std::unique_ptr<LoadClient>> create(ClientOptions options);
    ~LoadClient();
    LoadClient(LoadClient const&) = delete;
    LoadClient& operator=(LoadClient const&) = delete;

    // Sends POST `path` with the JSON `body`; returns the index of its result.
    // REQUIRES: active() < streams_max
    std::size_t start(std::string_view path, std::string_view body);

    // Waits at most `max_wait` for something to happen and handles it.
    void poll(Duration max_wait);

    // Closes the connection of a running request; nothing if it has ended.
    void cancel(std::size_t index);

    [[nodiscard]] std::size_t active() const;
    [[nodiscard]] bool gaps_cut() const;
    [[nodiscard]] std::uint64_t reconnects() const;
    // Indexes of requests that ended since the last call, in order of ending.
    [[nodiscard]] std::vector<std::size_t> take_ended();
    // REQUIRES: index was returned by start()
    [[nodiscard]] RequestResult const& result(std::size_t index) const;
    // All results in order of starting; the client is empty afterwards.
    // REQUIRES: active() == 0
    [[nodiscard]] std::vector<RequestResult> take_results();

private:
    struct Impl;
    explicit LoadClient(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// One blocking GET; the body, if the status is 200. For set-up, not for load.
// Fails with unavailable when there is no answer within `timeout`.
[[nodiscard]] Result<std::string> http_get(Target const& target, std::string_view path, Duration timeout);

}  // namespace hearth::bench
