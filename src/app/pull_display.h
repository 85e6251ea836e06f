// PullDisplay: what `hearth pull` shows on stderr while files come.
//
// On a terminal a line per file with a bar, redrawn ten times a second at most;
// elsewhere a line when a file begins, pauses, has another tenth, or ends.
//
// Threads: one. Time is a parameter.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "fetch/downloader.h"

namespace hearth::app {

enum class Screen : std::uint8_t { terminal, lines };

class PullDisplay {
public:
    // `columns`: of the terminal.
    PullDisplay(Screen screen, std::size_t columns) : screen_(screen), columns_(columns) {}

    // One row a file, at most kRowsMax of them on a terminal: those that are not done.
    void begin(std::vector<std::string> names);

    // What to write to stderr now; often nothing.
    [[nodiscard]] std::string update(std::size_t row, fetch::FileProgress const& progress, Instant now);
    // The last state, to be followed by other output.
    [[nodiscard]] std::string finish(Instant now);

private:
    struct Row {
        std::string name;
        fetch::FileProgress progress;
        Instant began{};
        std::uint64_t began_at = 0;  // bytes that were there before
        int tenths = -1;             // said so far, off terminals
        std::string note;            // said last
        bool seen = false;
    };
    [[nodiscard]] std::string draw(Instant now);
    [[nodiscard]] std::string line(Row& row, Instant now) const;
    [[nodiscard]] std::string bar_line(Row const& row, Instant now) const;

    Screen screen_;
    std::size_t columns_;
    std::vector<Row> rows_;
    std::size_t drawn_ = 0;  // lines on the terminal that are ours
    Instant drawn_at_{};
};

// The one of this process, and what it says now.
[[nodiscard]] PullDisplay display_on_stderr();
void show_on_stderr(std::string const& text);

// "1.2 GiB"
[[nodiscard]] std::string human_bytes(std::uint64_t bytes);
// "4:05", "1:02:03"
[[nodiscard]] std::string human_time(double seconds);

}  // namespace hearth::app
