// SseScanner: counts output in the event stream of an OpenAI-dialect server.
//
// It does not build a JSON tree per event: that would cost the load generator
// more than many servers spend per token. An event is searched for a non-empty
// "content", "reasoning_content" or "text" string, which is exact because a
// quote inside a JSON string is escaped and so never ends a key. Only the few
// events with usage or an error are parsed.
//
// Threads: one. Limits: kLineBytesMax per line, kTextBytesMax of kept text.
// Past the first the stream fails, past the second text_cut() says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hearth::bench {

enum class KeepText : std::uint8_t { no, yes };

struct StreamUsage {
    std::uint64_t prompt_tokens = 0;
    std::uint64_t completion_tokens = 0;
    std::uint64_t cached_tokens = 0;
};

class SseScanner {
public:
    static constexpr std::size_t kLineBytesMax = 4U << 20;
    static constexpr std::size_t kTextBytesMax = 4U << 20;

    explicit SseScanner(KeepText keep = KeepText::no) : keep_(keep) {}

    // The number of events in `body` (and what was left over from before) that
    // carry output.
    std::uint32_t feed(std::string_view body);

    [[nodiscard]] bool done() const { return done_; }      // "[DONE]" was read
    [[nodiscard]] bool failed() const { return failed_; }  // a line passed the limit
    [[nodiscard]] std::optional<StreamUsage> const& usage() const { return usage_; }
    [[nodiscard]] std::string const& finish_reason() const { return finish_reason_; }
    [[nodiscard]] std::string const& error() const { return error_; }  // an error sent inside the stream
    [[nodiscard]] std::string const& text() const { return text_; }    // decoded; empty unless kept
    [[nodiscard]] bool text_cut() const { return text_cut_; }

private:
    bool on_line(std::string_view line);
    bool on_data(std::string_view data);
    void on_usage(std::string_view data);
    void on_error(std::string_view data);

    KeepText keep_;
    bool done_ = false;
    bool failed_ = false;
    bool text_cut_ = false;
    std::string line_;  // a line that began in an earlier piece
    std::optional<StreamUsage> usage_;
    std::string finish_reason_;
    std::string error_;
    std::string text_;
};

// Appends the JSON string whose first byte follows the opening quote; stops at
// the closing one. Lone surrogates become U+FFFD.
void append_json_string(std::string_view json, std::string& out);

}  // namespace hearth::bench
