// ServerClient: what commands ask a server that runs.
//
// HTTP/1.0 over one connection a request: an answer ends with its connection, so
// there is nothing to frame. Plain HTTP only: the server is this machine's, or one
// whose address the user gave.
//
// Threads: one; blocks. Limits: kAnswerBytesMax, kLineBytesMax, time-outs below.
// Errors: `unavailable` where no server answers, `deadline_exceeded`, `corrupt` for
// what is no answer; a server's own errors come as `ServerAnswer`.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "app/ollama_host.h"
#include "base/result.h"

namespace hearth::app {

inline constexpr std::size_t kAnswerBytesMax = 64U << 20;
inline constexpr std::size_t kLineBytesMax = 1U << 20;
inline constexpr std::chrono::seconds kConnectTimeout{2};
inline constexpr std::chrono::seconds kWorkTimeout{3600};   // where a model is made or sent meanwhile
inline constexpr std::chrono::seconds kAnswerTimeout{60};  // without a byte; streams ping more often

struct ServerAnswer {
    int status = 0;
    std::string body;
};

class ServerClient {
public:
    explicit ServerClient(Address address) : address_(std::move(address)) {}

    // Whether a Hearth server is there.
    [[nodiscard]] bool answers() const;

    // `patience`: how long it may say nothing.
    [[nodiscard]] Result<ServerAnswer> ask(std::string_view method, std::string_view path, std::string_view body = {},
                                           std::chrono::seconds patience = kAnswerTimeout) const;

    // Calls `on_line` with every line of the answer, without its end, until it says false
    // or the answer ends. A status other than 200 is given back with its body instead.
    [[nodiscard]] Result<ServerAnswer> stream(std::string_view path,
                                              std::function<bool(std::string_view)> const& on_line) const;
    // The same of a POST, whose work may take long without a word.
    [[nodiscard]] Result<ServerAnswer> post_stream(std::string_view path, std::string_view body,
                                                   std::function<bool(std::string_view)> const& on_line) const;

    // POSTs a file as it is, `bytes` long; `on_sent`, if it is one, is called with what has gone.
    [[nodiscard]] Result<ServerAnswer> upload(std::string_view path, std::string const& file, std::uint64_t bytes,
                                              std::function<void(std::uint64_t)> const& on_sent = {}) const;

    [[nodiscard]] std::string url() const;

private:
    Address address_;
};

// One path segment: what is no letter, digit or one of "-._~" percent-encoded.
[[nodiscard]] std::string encode_segment(std::string_view text);

// `error.message` of a server's error, or Ollama's `error`, or its status.
[[nodiscard]] std::string message_of(ServerAnswer const& answer);

}  // namespace hearth::app
