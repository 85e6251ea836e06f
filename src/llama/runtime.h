// Runtime: upstream's process-wide state, set up once.
//
// Registers one CPU variant, installs the lazy memory, and takes over what
// upstream would otherwise do to the process: print to stderr, and fork a
// debugger when something aborts.
//
// Threads: any. Private to the module.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::llama {

using LogSink = std::function<void(int level, std::string_view text)>;

// The variant in use. The first successful call decides on the variant and on
// the sink for upstream's log; a later one fails with `invalid_argument` when it
// asks for another variant.
[[nodiscard]] Result<std::string> start_runtime(std::string_view variant, LogSink const& log);

void capture_error(std::string_view line);  // the log callback's way to the captures below

// Collects what upstream logs as errors on this thread while it lives: upstream
// returns a null pointer and says the reason only there.
class ErrorCapture {
public:
    ErrorCapture();
    ~ErrorCapture();
    ErrorCapture(ErrorCapture const&) = delete;
    ErrorCapture& operator=(ErrorCapture const&) = delete;

    // The lines so far, joined by "; ", function names stripped. At most 1 KiB.
    [[nodiscard]] std::string const& text() const { return text_; }

private:
    friend void capture_error(std::string_view line);
    std::string text_;
    ErrorCapture* outer_;
};

// While it lives, an assertion of upstream's on this thread is thrown as a
// std::runtime_error instead of ending the process. Only for work that runs on
// one thread and whose objects are dropped afterwards: loading a model.
class AbortsThrow {
public:
    AbortsThrow();
    ~AbortsThrow();
    AbortsThrow(AbortsThrow const&) = delete;
    AbortsThrow& operator=(AbortsThrow const&) = delete;

private:
    bool outer_;
};

}  // namespace hearth::llama
