#include "api/ollama/times.h"

#include <gtest/gtest.h>

namespace hearth::api::ollama {
namespace {

TEST(Rfc3339, HasAFractionAndUtc) {
    EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00.000000Z");
    EXPECT_EQ(rfc3339(1'700'000'000'123'456'789), "2023-11-14T22:13:20.123456Z");
    EXPECT_EQ(rfc3339(951'827'696'000'000'000), "2000-02-29T12:34:56.000000Z");
    EXPECT_EQ(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
}

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

}  // namespace
}  // namespace hearth::api::ollama
