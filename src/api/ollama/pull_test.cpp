#include "api/ollama/pull.h"

#include <gtest/gtest.h>

namespace hearth::api::ollama {
namespace {

jobs::Job job(jobs::State state, std::string text, std::uint64_t done = 0, std::uint64_t total = 0) {
    jobs::Job out;
    out.state = state;
    out.progress = {done, total, std::move(text)};
    return out;
}

std::string const kDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

TEST(JobLines, TellsAPullAsOllamaDoes) {
    JobLines lines(kPullWords);
    using enum jobs::State;
    EXPECT_EQ(lines.next(job(queued, "")), "{\"status\":\"pulling manifest\"}\n");
    EXPECT_EQ(lines.next(job(running, "pulling manifest")), "") << "said already";
    EXPECT_EQ(lines.next(job(running, "pulling " + kDigest, 0, 100)),
              "{\"status\":\"pulling 0123456789ab\",\"digest\":\"" + kDigest + "\",\"total\":100}\n");
    EXPECT_EQ(lines.next(job(running, "pulling " + kDigest, 7, 100)),
              "{\"status\":\"pulling 0123456789ab\",\"digest\":\"" + kDigest + "\",\"total\":100,\"completed\":7}\n");
    EXPECT_EQ(lines.next(job(running, "pulling " + kDigest, 7, 100)), "") << "nothing changed";
    EXPECT_EQ(lines.next(job(running, "pulling plain.gguf", 8, 100)),
              "{\"status\":\"pulling plain.gguf\",\"total\":100,\"completed\":8}\n");
    EXPECT_EQ(lines.next(job(running, "verifying sha256 digest", 100, 100)),
              "{\"status\":\"verifying sha256 digest\"}\n");
    EXPECT_EQ(lines.next(job(running, "success", 100, 100)), "") << "not before it is written down";
    EXPECT_EQ(lines.next(job(done, "success", 100, 100)),
              "{\"status\":\"writing manifest\"}\n{\"status\":\"success\"}\n");
}

TEST(JobLines, WhatWasTooFastIsToldAtTheEnd) {
    JobLines lines(kPullWords);
    EXPECT_EQ(lines.next(job(jobs::State::done, "success")),
              "{\"status\":\"pulling manifest\"}\n{\"status\":\"verifying sha256 digest\"}\n"
              "{\"status\":\"writing manifest\"}\n{\"status\":\"success\"}\n");
}

TEST(JobLines, FailuresAreErrors) {
    JobLines failed(kPullWords);
    auto broken = job(jobs::State::failed, "pulling manifest");
    broken.error = "no such \"model\"";
    EXPECT_EQ(failed.next(broken), "{\"status\":\"pulling manifest\"}\n{\"error\":\"no such \\\"model\\\"\"}\n");
    JobLines cancelled(kPullWords);
    EXPECT_EQ(cancelled.next(job(jobs::State::cancelled, "")),
              "{\"status\":\"pulling manifest\"}\n{\"error\":\"the pull was cancelled\"}\n");
    JobLines paused(kPullWords);
    EXPECT_EQ(paused.next(job(jobs::State::paused, "")),
              "{\"status\":\"pulling manifest\"}\n{\"status\":\"paused\"}\n");
}

TEST(JobLines, APushHasWordsOfItsOwn) {
    JobLines lines(kPushWords);
    using enum jobs::State;
    EXPECT_EQ(lines.next(job(queued, "")), "{\"status\":\"retrieving manifest\"}\n");
    EXPECT_EQ(lines.next(job(running, "pushing " + kDigest, 7, 100)),
              "{\"status\":\"pushing 0123456789ab\",\"digest\":\"" + kDigest + "\",\"total\":100,\"completed\":7}\n");
    EXPECT_EQ(lines.next(job(running, "pushing manifest", 100, 100)), "{\"status\":\"pushing manifest\"}\n");
    EXPECT_EQ(lines.next(job(done, "success", 100, 100)), "{\"status\":\"success\"}\n");
    JobLines stopped(kPushWords);
    EXPECT_EQ(stopped.next(job(jobs::State::cancelled, "")),
              "{\"status\":\"retrieving manifest\"}\n{\"error\":\"the push was cancelled\"}\n");
}

}  // namespace
}  // namespace hearth::api::ollama
