#include "serving/completion_rate.h"

#include <gtest/gtest.h>

namespace hearth::serving {
namespace {

using namespace std::chrono_literals;

Instant at(Duration since) { return Instant{} + since; }

TEST(CompletionRate, SaysNothingBeforeARequestEnded) {
    CompletionRate rate;
    EXPECT_FALSE(rate.seconds_each(at(1s), std::nullopt));
    EXPECT_FALSE(rate.wait_s(3, at(1s), std::nullopt));
    EXPECT_EQ(rate.retry_s(at(1s), std::nullopt), CompletionRate::kRetryUnknown);
}

TEST(CompletionRate, StartsWithTheTimeOfOneSharedByThoseBesideIt) {
    CompletionRate rate;
    rate.completed(at(10s), 8s, 4, std::nullopt);
    EXPECT_DOUBLE_EQ(*rate.seconds_each(at(10s), std::nullopt), 2);
    EXPECT_DOUBLE_EQ(*rate.wait_s(4, at(10s), std::nullopt), 10);
}

TEST(CompletionRate, AnIdleNightSaysNothingAboutSpeed) {
    CompletionRate rate;
    for (int i = 1; i <= 8; ++i) rate.completed(at(i * 1h), 1s, 1, std::nullopt);
    EXPECT_DOUBLE_EQ(*rate.seconds_each(at(20h), std::nullopt), 1);
    // The first to wait after it, too.
    EXPECT_DOUBLE_EQ(*rate.seconds_each(at(20h), at(20h)), 1);
}

TEST(CompletionRate, FollowsWhatEndsWhileOthersWait) {
    CompletionRate rate;
    Instant const queued = at(0s);
    for (int i = 1; i <= 6; ++i) rate.completed(at(i * 500ms), 4s, 1, queued);
    EXPECT_DOUBLE_EQ(*rate.seconds_each(at(3s), queued), 0.5);
    EXPECT_DOUBLE_EQ(*rate.wait_s(9, at(3s), queued), 5);
    // An interval in which somebody came only later tells nothing.
    rate.completed(at(60s), 4s, 1, at(59s));
    EXPECT_DOUBLE_EQ(*rate.seconds_each(at(60s), std::nullopt), 0.5);
}

TEST(CompletionRate, FollowsAFallWithinTwoSeconds) {
    CompletionRate rate;
    Instant const queued = at(0s);
    Instant now = at(1s);
    for (int i = 0; i < 200; ++i) rate.completed(now += 50ms, 800ms, 16, queued);
    EXPECT_NEAR(*rate.seconds_each(now, queued), 0.05, 1e-9);
    for (int i = 0; i < 20; ++i) rate.completed(now += 100ms, 1600ms, 16, queued);
    EXPECT_NEAR(*rate.seconds_each(now, queued), 0.1, 1e-9);
    for (int i = 0; i < 16; ++i) rate.completed(now += 1s, 16s, 16, queued);
    EXPECT_NEAR(*rate.seconds_each(now, queued), 1, 1e-9);
}

// An overload begins: sixteen that were begun together end together, and many wait.
TEST(CompletionRate, WhatEndsTogetherPromisesNothing) {
    CompletionRate rate;
    for (int i = 1; i <= 60; ++i) rate.completed(at(i * 50ms), 800ms, 16, std::nullopt);
    EXPECT_NEAR(*rate.seconds_each(at(3s), std::nullopt), 0.05, 0.001);
    Instant const queued = at(3010ms);
    Instant now = at(3800ms);
    for (std::uint32_t left = 16; left > 0; --left) rate.completed(now += 1ms, 800ms, left, queued);
    EXPECT_GT(*rate.seconds_each(now, queued), 0.04);
    EXPECT_LT(*rate.seconds_each(now, queued), 0.07);
    // The last of them was not alone, though nobody is beside it any more.
    CompletionRate first;
    for (std::uint32_t left = 16; left > 0; --left) first.completed(now += 1ms, 800ms, left, std::nullopt);
    EXPECT_NEAR(*first.seconds_each(now, std::nullopt), 0.05, 0.02);
}

TEST(CompletionRate, AQueueThatStandsStillGetsLongerEstimates) {
    CompletionRate rate;
    rate.completed(at(1s), 1s, 1, std::nullopt);
    EXPECT_DOUBLE_EQ(*rate.seconds_each(at(31s), at(11s)), 20);
    EXPECT_DOUBLE_EQ(*rate.seconds_each(at(31s), std::nullopt), 1);
}

TEST(CompletionRate, CallersThatAreRefusedAreSpread) {
    CompletionRate rate;
    rate.completed(at(1s), 3s, 1, std::nullopt);
    EXPECT_EQ(rate.retry_s(at(1s), std::nullopt), 3U);
    rate.refused();
    EXPECT_EQ(rate.retry_s(at(1s), std::nullopt), 6U);
    for (int i = 0; i < 100; ++i) rate.refused();
    EXPECT_EQ(rate.retry_s(at(1s), std::nullopt), CompletionRate::kRetryMax);
    rate.completed(at(2s), 3s, 1, std::nullopt);
    EXPECT_EQ(rate.retry_s(at(2s), std::nullopt), 3U);
}

TEST(CompletionRate, OldIntervalsAreForgotten) {
    CompletionRate rate;
    Instant const queued = at(0s);
    Instant now = at(1s);
    rate.completed(now, 1s, 1, queued);
    for (int i = 0; i < 40; ++i) rate.completed(now += 10s, 1s, 1, queued);
    for (int i = 0; i < 32; ++i) rate.completed(now += 1s, 1s, 1, queued);
    EXPECT_DOUBLE_EQ(*rate.seconds_each(now, queued), 1);
}

}  // namespace
}  // namespace hearth::serving
