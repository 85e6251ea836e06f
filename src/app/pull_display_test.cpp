#include "app/pull_display.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hearth::app {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;
Instant const kStart{std::chrono::seconds(100)};

fetch::FileProgress fetching(std::uint64_t done, std::uint64_t total) {
    fetch::FileProgress progress;
    progress.stage = fetch::Stage::fetching;
    progress.done = done;
    progress.total = total;
    return progress;
}

TEST(PullDisplay, WritesALineATenthWithoutATerminal) {
    PullDisplay display(Screen::lines, 80);
    display.begin({"a.gguf"});
    EXPECT_EQ(display.update(0, fetching(0, 10 * kMiB), kStart), "a.gguf: 0% of 10.0 MiB, 0.0 s\n");
    EXPECT_EQ(display.update(0, fetching(kMiB / 2, 10 * kMiB), kStart), "");
    EXPECT_EQ(display.update(0, fetching(2 * kMiB, 10 * kMiB), kStart + std::chrono::seconds(3)),
              "a.gguf: 20% of 10.0 MiB, 3.0 s\n");
    EXPECT_EQ(display.finish(kStart), "");
}

TEST(PullDisplay, SaysOnceWhyItPauses) {
    PullDisplay display(Screen::lines, 80);
    display.begin({"a.gguf"});
    fetch::FileProgress progress;
    progress.stage = fetch::Stage::pausing;
    progress.note = "503; trying again in 1.0 s";
    EXPECT_EQ(display.update(0, progress, kStart), "a.gguf: 503; trying again in 1.0 s\n");
    EXPECT_EQ(display.update(0, progress, kStart), "");
}

TEST(PullDisplay, DrawsABarWithRateAndTimeLeft) {
    PullDisplay display(Screen::terminal, 100);
    display.begin({"a.gguf", "b.gguf"});
    EXPECT_NE(display.update(0, fetching(2 * kMiB, 10 * kMiB), kStart), "");
    EXPECT_EQ(display.update(0, fetching(3 * kMiB, 10 * kMiB), kStart + std::chrono::milliseconds(50)), "")
        << "ten times a second are enough";
    // What was there before counts for the bar, not for the rate: 4 MiB in 2 s, 4 MiB to go.
    auto const drawn = display.update(0, fetching(6 * kMiB, 10 * kMiB), kStart + std::chrono::seconds(2));
    EXPECT_NE(drawn.find("a.gguf ##############..........  60% 6.0 MiB of 10.0 MiB 2.0 MiB/s 0:02"), std::string::npos)
        << drawn;
    EXPECT_TRUE(drawn.starts_with("\x1b[2A")) << "the two lines are drawn over";
}

TEST(PullDisplay, NoLineIsWiderThanTheTerminal) {
    PullDisplay display(Screen::terminal, 40);
    display.begin({std::string(100, 'x')});
    auto const drawn = display.update(0, fetching(1, 2), kStart);
    EXPECT_LT(drawn.find("\x1b[K"), 40U) << drawn;
}

TEST(PullDisplay, OfManyFilesShowsThoseUnderWay) {
    PullDisplay display(Screen::terminal, 80);
    display.begin(std::vector<std::string>(100, "part"));
    auto const drawn = display.update(42, fetching(1, 2), kStart);
    EXPECT_EQ(std::count(drawn.begin(), drawn.end(), '\n'), 2);
    EXPECT_NE(drawn.find("0 of 100 files done"), std::string::npos) << drawn;
}

TEST(PullDisplay, NumbersAreForPeople) {
    EXPECT_EQ(human_bytes(1023), "1023 B");
    EXPECT_EQ(human_bytes(3 * kMiB / 2), "1.5 MiB");
    EXPECT_EQ(human_bytes(std::uint64_t{1} << 52), "4096.0 TiB");
    EXPECT_EQ(human_time(65), "1:05");
    EXPECT_EQ(human_time(3723), "1:02:03");
    EXPECT_EQ(human_time(1e300), "99:59:59");
}

}  // namespace
}  // namespace hearth::app
