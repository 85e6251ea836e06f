#include "app/pull_display.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include <fmt/format.h>

#include "library/pull_job.h"

namespace hearth::app {
namespace {

constexpr std::size_t kColumnsDefault = 80;
constexpr std::size_t kRowsMax = 8;
constexpr Duration kRedraw = std::chrono::milliseconds(100);
constexpr std::size_t kBar = 24;

double fraction(fetch::FileProgress const& progress) {
    if (progress.stage == fetch::Stage::done) return 1;
    return progress.total == 0 ? 0 : static_cast<double>(progress.done) / static_cast<double>(progress.total);
}

}  // namespace

PullDisplay display_on_stderr() {
    winsize size{};
    bool const said = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return {::isatty(STDERR_FILENO) != 0 ? Screen::terminal : Screen::lines, said ? size.ws_col : kColumnsDefault};
}

void show_on_stderr(std::string const& text) {
    if (!text.empty()) fmt::print(stderr, "{}", text);
}

std::string human_bytes(std::uint64_t bytes) {
    constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
    return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_time(double seconds) {
    auto const whole = static_cast<std::uint64_t>(std::clamp(seconds, 0.0, 359'999.0));
    if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
    return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

void PullDisplay::begin(std::vector<std::string> names) {
    for (auto& name : names) {
        Row row;
        row.name = std::move(name);
        rows_.push_back(std::move(row));
    }
}

std::string PullDisplay::update(std::size_t row, fetch::FileProgress const& progress, Instant now) {
    auto& shown = rows_.at(row);
    bool const first = progress.stage == fetch::Stage::fetching && shown.progress.stage != fetch::Stage::fetching;
    shown.progress = progress;
    shown.seen = true;
    if (first && shown.began == Instant{}) {
        shown.began = now;
        shown.began_at = progress.done;
    }
    if (screen_ == Screen::lines) return line(shown, now);
    if (now - drawn_at_ < kRedraw) return "";
    return draw(now);
}

std::string PullDisplay::finish(Instant now) { return screen_ == Screen::terminal && !rows_.empty() ? draw(now) : ""; }

std::string PullDisplay::draw(Instant now) {
    drawn_at_ = now;
    std::string out = drawn_ > 0 ? fmt::format("\x1b[{}A", drawn_) : "";
    std::vector<Row const*> shown;
    std::size_t done = 0;
    for (auto const& row : rows_) done += row.progress.stage == fetch::Stage::done ? 1U : 0U;
    bool const all = rows_.size() <= kRowsMax;
    for (auto const& row : rows_) {
        bool const active = row.seen && row.progress.stage != fetch::Stage::done;
        if ((all || active) && shown.size() < kRowsMax) shown.push_back(&row);
    }
    for (auto const* row : shown) out += bar_line(*row, now) + "\x1b[K\n";
    auto lines = shown.size();
    if (!all) {
        out += fmt::format("{} of {} files done\x1b[K\n", done, rows_.size());
        ++lines;
    }
    // Rows that went leave nothing behind.
    for (auto i = lines; i < drawn_; ++i) out += "\x1b[K\n";
    if (drawn_ > lines) out += fmt::format("\x1b[{}A", drawn_ - lines);
    drawn_ = lines;
    return out;
}

std::string PullDisplay::bar_line(Row const& row, Instant now) const {
    auto const& progress = row.progress;
    auto const part = fraction(progress);
    auto const full = static_cast<std::size_t>(part * kBar);
    auto text = fmt::format("{}{} {:3.0f}% {}", std::string(full, '#'), std::string(kBar - full, '.'), part * 100,
                            human_bytes(progress.stage == fetch::Stage::done ? progress.total : progress.done));
    if (progress.total > 0 && progress.stage != fetch::Stage::done) text += " of " + human_bytes(progress.total);
    auto const seconds = std::chrono::duration<double>(now - row.began).count();
    auto const come = progress.done - std::min(progress.done, row.began_at);
    if (progress.stage == fetch::Stage::fetching && seconds > 0.5 && come > 0) {
        auto const rate = static_cast<double>(come) / seconds;
        text += fmt::format(" {}/s", human_bytes(static_cast<std::uint64_t>(rate)));
        if (progress.total > 0) text += " " + human_time(static_cast<double>(progress.total - progress.done) / rate);
    } else if (row.seen) {
        text += fmt::format(" {}", library::stage_word(progress.stage));
        if (!progress.note.empty()) text += ": " + progress.note;
    }
    auto const name_max = std::max<std::size_t>(columns_ / 3, 12);
    auto name = row.name.size() > name_max ? "~" + row.name.substr(row.name.size() - name_max + 1) : row.name;
    auto whole = name + " " + text;
    if (whole.size() >= columns_) whole.resize(columns_ > 0 ? columns_ - 1 : 0);  // a wrapped line could not be redrawn
    return whole;
}

std::string PullDisplay::line(Row& row, Instant now) const {
    auto const& progress = row.progress;
    bool const waits = progress.stage == fetch::Stage::pausing || progress.stage == fetch::Stage::locked;
    if (waits) {
        if (row.note == progress.note) return "";
        row.note = progress.note;
        return fmt::format("{}: {}\n", row.name, progress.note);
    }
    if (progress.stage == fetch::Stage::done)
        return fmt::format("{}: done, {}\n", row.name, human_bytes(progress.total));
    if (progress.stage != fetch::Stage::fetching || progress.total == 0) return "";
    auto const tenths = static_cast<int>(fraction(progress) * 10);
    if (tenths <= row.tenths) return "";
    row.tenths = tenths;
    auto const seconds = std::chrono::duration<double>(now - row.began).count();
    return fmt::format("{}: {}% of {}, {:.1f} s\n", row.name, tenths * 10, human_bytes(progress.total), seconds);
}

}  // namespace hearth::app
