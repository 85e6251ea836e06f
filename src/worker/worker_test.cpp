#include "worker/worker.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <limits>

#include <gtest/gtest.h>

#include "worker/testing/front_end.h"

namespace hearth::worker {
namespace {

using namespace testing;
using namespace domain;

constexpr RequestId kFirst = 11;
constexpr RequestId kSecond = 12;

TEST(EngineOptions, FollowTheSpecWhereItSaysSomething) {
    engine::Options base;
    base.requests_max = 7;
    base.credit = 9;
    serving::ModelSpec spec;
    EXPECT_EQ(engine_options(base, spec).requests_max, 7U);
    EXPECT_EQ(engine_options(base, spec).credit, 9U);
    spec.requests_max = 300;
    spec.credit_tokens = 64;
    EXPECT_EQ(engine_options(base, spec).requests_max, 300U);
    EXPECT_EQ(engine_options(base, spec).credit, 64U);
}

TEST(Worker, GeneratesWhatItIsAskedFor) {
    FrontEnd front;
    front.start(scripted(script({"Hel", "lo", "!"})));
    auto const ready = front.expect<ReadyFrame>();
    EXPECT_EQ(ready.info.isolation, "none, a test");
    EXPECT_EQ(ready.info.context_request, 4096U);
    front.submit(kFirst);
    EXPECT_EQ(front.text(kFirst), "Hello!");
    front.send(CloseFrame{});
    EXPECT_EQ(front.next(), std::nullopt);
    EXPECT_TRUE(front.join());
}

TEST(Worker, RunsRequestsTogetherAndReportsThemInOneFramePerStep) {
    FrontEnd front;
    front.start(scripted(script({"a", "b", "c"})));
    for (RequestId id = 1; id <= 8; ++id) front.submit(id, "prompt " + std::to_string(id), 2);
    for (RequestId id = 1; id <= 8; ++id) {
        std::string by_choice[2];
        for (auto event = front.event(id); !is_terminal(event); event = front.event(id)) {
            if (auto const* delta = std::get_if<Delta>(&event)) by_choice[delta->choice] += delta->text;
        }
        EXPECT_EQ(by_choice[0], "abc");
        EXPECT_EQ(by_choice[1], "abc");
    }
}

TEST(Worker, AnswersPingsWhileItLoads) {
    Gate loading;
    FrontEnd front;
    front.options.statm_fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    front.start([&](Progress const& progress) {
        progress(0.5F);
        loading.pass();
        return scripted(script({"x"}))(progress);
    });
    EXPECT_EQ(front.expect<LoadingFrame>().progress, 0.5F);
    front.send(PingFrame{77});
    auto const pong = front.expect<PongFrame>();
    EXPECT_EQ(pong.nonce, 77U);
    EXPECT_EQ(pong.heartbeat, 0U);
    EXPECT_GT(pong.stats.rss_bytes, 1U << 20);
    loading.open();
    front.expect<ReadyFrame>();
    front.submit(kFirst);
    EXPECT_EQ(front.text(kFirst), "x");
    front.send(PingFrame{78});
    auto const later = front.expect<PongFrame>();
    EXPECT_GT(later.heartbeat, 0U);
    EXPECT_EQ(later.stats.kv_cells, 16384U);
    EXPECT_EQ(later.stats.generated_tokens_total, 2U) << "x and the end token";
    ::close(front.options.statm_fd);
}

TEST(Worker, ParksAndAnswersAgainWhenItIsWoken) {
    FrontEnd front;
    front.options.statm_fd = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    front.start(scripted(script({"Hel", "lo", "!"})));
    auto const first = front.expect<ReadyFrame>();
    for (RequestId id = 1; id <= 3; ++id) {
        front.submit(id);
        EXPECT_EQ(front.text(id), "Hello!");
        front.send(ParkFrame{});
        EXPECT_GT(front.expect<ParkedFrame>().bytes, 1U << 20);
        front.send(PingFrame{id});
        auto const pong = front.expect<PongFrame>();
        EXPECT_EQ(pong.nonce, id);
        EXPECT_EQ(pong.stats.kv_cells, 0U) << "there is no engine";
        front.send(WakeFrame{});
        EXPECT_EQ(front.expect<ReadyFrame>(), first);
    }
    front.submit(kFirst);
    EXPECT_EQ(front.text(kFirst), "Hello!");
    ::close(front.options.statm_fd);
}

TEST(Worker, LeavesWhenItIsClosedWhileItIsParked) {
    FrontEnd front;
    front.start(scripted(script({"x"})));
    front.expect<ReadyFrame>();
    front.send(ParkFrame{});
    front.expect<ParkedFrame>();
    front.send(CloseFrame{});
    EXPECT_EQ(front.next(), std::nullopt);
    EXPECT_TRUE(front.join());
}

TEST(Worker, EndsWhereItsBackendCannotBeParked) {
    auto options = script({"x"});
    options.can_park = false;
    FrontEnd front;
    front.start(scripted(options));
    front.expect<ReadyFrame>();
    front.send(ParkFrame{});
    EXPECT_NE(front.expect<LogFrame>().text.find("loaded"), std::string::npos);
    EXPECT_NE(front.expect<LogFrame>().text.find("not parked"), std::string::npos);
    EXPECT_EQ(front.next(), std::nullopt);
    EXPECT_TRUE(front.join()) << "as after Close";
}

TEST(Worker, EndsWithTheReasonWhenItCannotBeWoken) {
    auto options = script({"x"});
    options.can_wake = false;
    FrontEnd front;
    front.start(scripted(options));
    front.expect<ReadyFrame>();
    front.send(ParkFrame{});
    front.expect<ParkedFrame>();
    front.send(WakeFrame{});
    EXPECT_NE(front.expect<LogFrame>().text.find("told not to wake"), std::string::npos);
    EXPECT_EQ(front.next(), std::nullopt);
    auto const outcome = front.join();
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Code::overloaded);
}

TEST(Worker, EndsWhenItIsWokenThoughItIsNotParked) {
    FrontEnd front;
    front.start(scripted(script({"x"})));
    front.expect<ReadyFrame>();
    front.send(WakeFrame{});
    while (front.next()) {}
    auto const outcome = front.join();
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Code::corrupt);
}

TEST(Worker, RequestsThatRunEndWhenItIsParked) {
    auto options = script({"tick "});
    options.repeat = true;
    FrontEnd front;
    front.start(scripted(options));
    front.expect<ReadyFrame>();
    front.submit(kFirst);
    EXPECT_TRUE(std::holds_alternative<Started>(front.event(kFirst)));
    front.send(ParkFrame{});
    auto last = front.event(kFirst);
    while (!is_terminal(last)) last = front.event(kFirst);
    EXPECT_TRUE(std::holds_alternative<Done>(last)) << "no front does that, and none is left without an end";
    front.expect<ParkedFrame>();
}

TEST(Worker, SendsProgressAtMostTwentyTimesASecond) {
    FrontEnd front;
    front.start([&](Progress const& progress) {
        for (int i = 0; i <= 10'000; ++i) progress(static_cast<float>(i) / 10'000);
        progress(std::numeric_limits<float>::quiet_NaN());
        progress(7);
        return scripted(script({"x"}))(progress);
    });
    std::vector<float> seen;
    for (auto frame = front.next(); frame && !std::holds_alternative<ReadyFrame>(*frame); frame = front.next()) {
        if (auto const* loading = std::get_if<LoadingFrame>(&*frame)) seen.push_back(loading->progress);
    }
    ASSERT_GE(seen.size(), 2U);
    EXPECT_LE(seen.size(), 200U);
    EXPECT_EQ(seen.front(), 0);
    EXPECT_EQ(seen.back(), 1);
    EXPECT_TRUE(std::ranges::is_sorted(seen));
}

TEST(Worker, PassesLogLinesOnCutAndAsText) {
    std::optional<Progress> kept;
    FrontEnd front;
    front.start([&](Progress const& progress) {
        kept = progress;
        progress.log(2, "careful \xff");
        progress.log(9, std::string(kLogBytesMax - 1, 'x') + "\xc3\xa9");
        progress.log(0, std::string(3 * kLogBytesMax, '\xfe'));
        return scripted(script({"x"}))(progress);
    });
    EXPECT_EQ(front.expect<LogFrame>(), (LogFrame{2, "careful \xef\xbf\xbd"}));
    auto const cut = front.expect<LogFrame>();
    EXPECT_EQ(cut.level, 3);
    EXPECT_EQ(cut.text, std::string(kLogBytesMax - 1, 'x'));
    EXPECT_LE(front.expect<LogFrame>().text.size(), kLogBytesMax);
    front.send(CloseFrame{});
    EXPECT_TRUE(front.join());
    kept->log(1, "nobody listens any more");
    (*kept)(0.5F);
}

TEST(Worker, ReportsALoadThatFails) {
    FrontEnd front;
    std::atomic<bool> abandoned = false;
    front.options.on_abandoned = [&] { abandoned = true; };
    front.start(
        [](Progress const&) -> Result<std::unique_ptr<llama::Backend>> { return Error(Code::corrupt, "bad tensor"); });
    EXPECT_EQ(front.expect<LoadFailedFrame>().error, Error(Code::corrupt, "bad tensor"));
    auto const status = front.join();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().message, "bad tensor");
    EXPECT_FALSE(abandoned);
}

TEST(Worker, AnEngineThatCannotBeMadeIsALoadThatFailed) {
    FrontEnd front;
    front.options.engine.credit = 0;
    front.start(scripted(script({"x"})));
    EXPECT_EQ(front.expect<LoadFailedFrame>().error.code, Code::invalid_argument);
    EXPECT_FALSE(front.join());
}

TEST(Worker, ARequestThatDoesNotFitFailsAlone) {
    FrontEnd front;
    front.start(scripted(script({"x"})));
    front.submit(kFirst, std::string(5000, 'a'));
    front.submit(kSecond);
    auto const event = front.event(kFirst);
    ASSERT_TRUE(std::holds_alternative<Failed>(event));
    EXPECT_EQ(std::get<Failed>(event).error.code, Code::context_overflow);
    EXPECT_EQ(front.text(kSecond), "x");
}

TEST(Worker, KeepsRequestsWhileItLoadsAndForgetsCancelledOnes) {
    Gate loading;
    FrontEnd front;
    front.options.engine.requests_max = 2;
    front.start([&](Progress const& progress) {
        loading.pass();
        return scripted(script({"x"}))(progress);
    });
    front.submit(kFirst, "a", 2);
    front.submit(kSecond);
    front.submit(13);
    auto const refused = front.event(13);
    ASSERT_TRUE(std::holds_alternative<Failed>(refused));
    EXPECT_EQ(std::get<Failed>(refused).error.code, Code::overloaded);
    front.send(CancelFrame{kFirst});
    EXPECT_EQ(front.event(kFirst), Event(ChoiceDone{0, FinishReason::cancelled, {}}));
    EXPECT_EQ(front.event(kFirst), Event(ChoiceDone{1, FinishReason::cancelled, {}}));
    EXPECT_EQ(front.event(kFirst), Event(Done{}));
    front.send(CancelFrame{999});
    loading.open();
    EXPECT_EQ(front.text(kSecond), "x");
}

TEST(Worker, CancelEndsARunningRequest) {
    auto endless = script({"tick "});
    endless.repeat = true;
    FrontEnd front;
    front.start(scripted(endless));
    front.submit(kFirst);
    while (!std::holds_alternative<Delta>(front.event(kFirst))) {}
    front.send(CancelFrame{kFirst});
    bool cancelled = false;
    for (auto event = front.event(kFirst); !is_terminal(event); event = front.event(kFirst)) {
        if (auto const* done = std::get_if<ChoiceDone>(&event)) cancelled = done->reason == FinishReason::cancelled;
    }
    EXPECT_TRUE(cancelled);
}

TEST(Worker, EmitsNoMoreThanItWasGranted) {
    auto endless = script({"t"});
    endless.repeat = true;
    FrontEnd front;
    front.options.engine.credit = 10;
    front.start(scripted(endless));
    front.submit(kFirst);
    std::uint32_t tokens = 0;
    auto const take = [&](std::uint32_t limit) {
        while (tokens < limit) {
            auto const event = front.event(kFirst);
            if (auto const* delta = std::get_if<Delta>(&event)) tokens += delta->tokens;
            ASSERT_FALSE(is_terminal(event));
        }
    };
    take(10);
    front.send(PingFrame{1});
    front.expect<PongFrame>();
    front.send(GrantFrame{kFirst, 5});
    take(15);
    EXPECT_EQ(tokens, 15U);
    front.send(CancelFrame{kFirst});
    for (auto event = front.event(kFirst); !is_terminal(event); event = front.event(kFirst)) {
        EXPECT_FALSE(std::holds_alternative<Delta>(event)) << "a sixteenth token";
    }
}

TEST(Worker, CloseEndsWhatRunsAsCancelled) {
    auto endless = script({"t"});
    endless.repeat = true;
    FrontEnd front;
    std::atomic<bool> abandoned = false;
    front.options.on_abandoned = [&] { abandoned = true; };
    front.start(scripted(endless));
    front.submit(kFirst);
    while (!std::holds_alternative<Delta>(front.event(kFirst))) {}
    front.send(CloseFrame{});
    auto event = front.event(kFirst);
    while (std::holds_alternative<Delta>(event)) event = front.event(kFirst);
    EXPECT_EQ(event, Event(ChoiceDone{0, FinishReason::cancelled, {}}));
    EXPECT_TRUE(std::holds_alternative<Done>(front.event(kFirst)));
    EXPECT_TRUE(front.join());
    EXPECT_FALSE(abandoned);
}

TEST(Worker, SaysWhenItIsFinishedAndHow) {
    FrontEnd front;
    std::atomic<int> finished = 0;
    front.options.on_finished = [&](Status const& outcome) { finished = outcome ? 1 : 2; };
    front.start(scripted(script({"t"})));
    front.send(CloseFrame{});
    EXPECT_TRUE(front.join());
    EXPECT_EQ(finished, 1);
}

TEST(Worker, AFrontThatIsGoneAbandonsItInTheMiddleOfAStep) {
    Gate decoding;
    Gate abandoned;
    auto slow = script({"t"});
    slow.before_decode = [&](std::uint64_t) {
        decoding.pass();
        return ok();
    };
    FrontEnd front;
    front.options.on_abandoned = [&] {
        abandoned.open();
        decoding.open();  // what _exit() does for a process
    };
    front.start(scripted(slow));
    front.submit(kFirst);
    decoding.wait_until_reached();
    front.close();
    abandoned.pass();
    EXPECT_TRUE(front.join());
}

TEST(Worker, CloseBeforeTheEngineIsThereAbandonsTheLoad) {
    Gate loading;
    FrontEnd front;
    front.options.on_abandoned = [&] { loading.open(); };
    front.start([&](Progress const& progress) {
        loading.pass();
        return scripted(script({"x"}))(progress);
    });
    loading.wait_until_reached();
    front.send(CloseFrame{});
    EXPECT_TRUE(front.join());
}

TEST(Worker, ABrokenFrameEndsItAsCorrupt) {
    for (auto const& bytes : {std::string(16, '\xee'), *encode(StepFrame{{{1, Started{}}}}), *encode(PongFrame{})}) {
        FrontEnd front;
        std::atomic<int> abandoned = 0;
        front.options.on_abandoned = [&] { ++abandoned; };
        front.start(scripted(script({"x"})));
        front.expect<ReadyFrame>();
        front.send_bytes(bytes);
        auto const status = front.join();
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, Code::corrupt);
        EXPECT_LE(abandoned, 1) << "none when run() was faster";
    }
}

TEST(Worker, AFrontThatTakesNothingCountsAsGone) {
    auto endless = script({std::string(200, 'x')});
    endless.repeat = true;
    endless.context_request = 100'000;
    endless.kv_cells = 100'000;
    FrontEnd front;
    front.options.engine.credit = 100'000;
    front.options.write_timeout = std::chrono::milliseconds(20);
    Gate abandoned;
    front.options.on_abandoned = [&] { abandoned.open(); };
    front.start(scripted(endless));
    front.submit(kFirst);
    abandoned.pass();  // the socket is full, and nobody reads
    EXPECT_TRUE(front.join());
}

}  // namespace
}  // namespace hearth::worker
