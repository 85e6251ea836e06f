// ProgressLine: how far something is, on stderr: one line of a terminal, or a line for
// every word where nobody looks at it.
//
// Threads: one. Private to app.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace hearth::app {

class ProgressLine {
public:
    // `total` 0: a word, not a way.
    void show(std::string const& text, std::uint64_t done = 0, std::uint64_t total = 0) {
        auto const percent = terminal_ && total > 0 ? fmt::format(" {}%", done * 100 / total) : std::string();
        auto line = text + percent;
        if (line == last_) return;
        last_ = std::move(line);
        fmt::print(stderr, "{}{}{}", terminal_ ? "\r\x1b[K" : "", last_, terminal_ ? "" : "\n");
        std::fflush(stderr);
    }
    void end() const {
        if (terminal_ && !last_.empty()) fmt::print(stderr, "\n");
    }

private:
    bool const terminal_ = ::isatty(STDERR_FILENO) != 0;
    std::string last_;
};

}  // namespace hearth::app
