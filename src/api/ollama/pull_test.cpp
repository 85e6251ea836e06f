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

TEST(JobLines, EachLayerIsToldWhenItIsWholeHoweverFastItWas) {
    JobLines lines(kPullWords);
    auto const small = "sha256:" + std::string(64, 'b');
    auto const line = [](std::string const& digest, std::string const& numbers) {
        return R"({"status":"pulling )" + digest.substr(7, 12) + R"(","digest":")" + digest + '"' + numbers + "}\n";
    };
    using enum jobs::State;
    auto now = job(running, "pulling " + kDigest, 5, 105);
    now.progress.parts = {{kDigest, 0, 100}, {small, 5, 5}};
    EXPECT_EQ(lines.next(now), R"({"status":"pulling manifest"})"
                               "\n" +
                                   line(kDigest, R"(,"total":100)") + line(small, R"(,"total":5,"completed":5)"));
    now.progress.parts[0].done = 60;
    now.progress.done = 65;
    EXPECT_EQ(lines.next(now), line(kDigest, R"(,"total":100,"completed":60)")) << "the other one was told";
    now.progress.text = "verifying sha256 digest";
    EXPECT_EQ(lines.next(now), "") << "not before all have come";
    now.state = done;
    now.progress.text = "success";
    EXPECT_EQ(lines.next(now), line(kDigest, R"(,"total":100,"completed":100)") +
                                   "{\"status\":\"verifying sha256 digest\"}\n{\"status\":\"writing manifest\"}\n"
                                   "{\"status\":\"success\"}\n");

    JobLines late(kPullWords);
    EXPECT_EQ(late.next(now), R"({"status":"pulling manifest"})"
                              "\n" +
                                  line(kDigest, R"(,"total":100,"completed":100)") +
                                  line(small, R"(,"total":5,"completed":5)") +
                                  "{\"status\":\"verifying sha256 digest\"}\n{\"status\":\"writing manifest\"}\n"
                                  "{\"status\":\"success\"}\n")
        << "to who came when all was over";
}

TEST(JobLines, AFailedLayerIsNotToldToBeWhole) {
    JobLines lines(kPullWords);
    auto broken = job(jobs::State::failed, "pulling " + kDigest, 5, 100);
    broken.progress.parts = {{kDigest, 5, 100}};
    broken.error = "cut";
    EXPECT_EQ(lines.next(broken), "{\"status\":\"pulling manifest\"}\n{\"error\":\"cut\"}\n");
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
