#include "api/keep_alive.h"

#include <string>

#include <gtest/gtest.h>

namespace hearth::api {
namespace {

std::int64_t ns(std::string_view text) {
    auto const duration = parse_go_duration(text);
    EXPECT_TRUE(duration.has_value()) << text;
    return duration ? duration->count() : INT64_MIN;
}

TEST(GoDuration, ReadsWhatGoReads) {
    EXPECT_EQ(ns("0"), 0);
    EXPECT_EQ(ns("-0"), 0);
    EXPECT_EQ(ns("5m"), 300'000'000'000);
    EXPECT_EQ(ns("1h30m"), 5'400'000'000'000);
    EXPECT_EQ(ns("1.5s"), 1'500'000'000);
    EXPECT_EQ(ns(".5s"), 500'000'000);
    EXPECT_EQ(ns("+300ms"), 300'000'000);
    EXPECT_EQ(ns("-1s"), -1'000'000'000);
    EXPECT_EQ(ns("7us"), 7000);
    EXPECT_EQ(ns("7\xc2\xb5s"), 7000);
    EXPECT_EQ(ns("7\xce\xbcs"), 7000);
    EXPECT_EQ(ns("3ns"), 3);
    EXPECT_EQ(ns("2562047h"), 2562047LL * 3'600'000'000'000);
}

TEST(GoDuration, RefusesWhatGoRefuses) {
    for (std::string_view const text : {"", "-", "5", "5 m", "m", "1x", "1d", "h1", "1e3s", "infs", "nans", "1..5s",
                                        "--1s", "1s-", "3000000h", "1h5"})
        EXPECT_FALSE(parse_go_duration(text).has_value()) << text;
}

// What a body {"x": VALUE} says; nothing if it is refused.
std::optional<Duration> read(std::string const& value) {
    auto const document = JsonDocument::parse("{\"x\": " + value + "}");
    if (!document) return std::nullopt;
    auto const field = document->root().find("x");
    std::optional<Duration> out;
    if (!field || read_keep_alive("x", *field, out)) return std::nullopt;
    return out;
}

TEST(KeepAlive, IsADurationOrSeconds) {
    using namespace std::chrono_literals;
    EXPECT_EQ(read("\"5m\""), 5min);
    EXPECT_EQ(read("1.5"), 1500ms);
    EXPECT_EQ(read("0"), 0s);
    EXPECT_LT(read("-1").value_or(0s), 0s);
    EXPECT_LT(read("-1e308").value_or(0s), 0s);
    EXPECT_GT(read("1e308").value_or(0s), 24h * 365 * 290);
    for (auto const* const bad : {"true", "[]", "{}", "\"soon\"", "\"\""}) EXPECT_FALSE(read(bad)) << bad;
}

}  // namespace
}  // namespace hearth::api
