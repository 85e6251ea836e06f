// ResponseParser: the bytes of one HTTP/1.1 response, read as they arrive.
//
// Hands out the body in place, without copying, whatever its framing (chunked,
// Content-Length, until close). Cheap per byte: the load generator shares the
// machine with the server it measures.
//
// Threads: one. Limits: kHeadBytesMax for status line plus headers plus
// trailers; a response beyond it, or one that breaks the format, fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth::bench {

class ResponseParser {
public:
    static constexpr std::size_t kHeadBytesMax = 32U << 10;

    // Consumes from the front of `input` and returns the next piece of body
    // found there (a view into `input`). Empty means that all of `input` was
    // consumed without more body, or that done() or failed() is now true.
    std::string_view take_body(std::string_view& input);

    // The connection ended: completes a body that runs until close. False if
    // the response was cut short.
    bool finish();

    [[nodiscard]] bool head_complete() const { return state_ > State::headers && state_ != State::failed; }
    [[nodiscard]] bool done() const { return state_ == State::done; }
    [[nodiscard]] bool failed() const { return state_ == State::failed; }
    [[nodiscard]] int status() const { return status_; }
    // Of the Retry-After header; none if there was none, or one that is no number of seconds.
    [[nodiscard]] std::optional<std::uint64_t> retry_after_s() const { return retry_after_s_; }
    // True if the server will take another request on this connection.
    [[nodiscard]] bool reusable() const { return done() && keep_alive_; }
    [[nodiscard]] std::string const& problem() const { return problem_; }

private:
    enum class State : std::uint8_t {
        status_line,
        headers,
        chunk_size,
        chunk_data,
        chunk_end,
        trailers,
        length_data,
        until_close,
        done,
        failed
    };

    void on_line(std::string_view line);
    void on_status_line(std::string_view line);
    void on_header(std::string_view line);
    void on_headers_end();
    void on_chunk_size(std::string_view line);
    void fail(std::string problem);
    std::string_view take_data(std::string_view& input);

    State state_ = State::status_line;
    int status_ = 0;
    bool keep_alive_ = true;
    bool chunked_ = false;
    bool has_length_ = false;
    std::optional<std::uint64_t> retry_after_s_;
    std::uint64_t left_ = 0;  // bytes left of this chunk or of the body
    std::size_t head_bytes_ = 0;
    std::string line_;  // a line that began in an earlier read
    std::string problem_;
};

}  // namespace hearth::bench
