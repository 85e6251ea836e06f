#include "api/answer.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/testing/fake_exchange.h"
#include "api/testing/fake_pool.h"
#include "api/testing/fake_services.h"

namespace hearth::api {
namespace {

using Json = nlohmann::json;

// Plays a script: events, and pauses between them in which time passes.
class FakeSource final : public EventSource {
public:
    struct Step {
        std::optional<SourcedEvent> event;  // else a silence
        Duration silence{};
    };

    explicit FakeSource(ManualClock& clock) : clock_(clock) {}

    net::Task<std::optional<SourcedEvent>> next_within(Duration timeout) override {
        ++waits_;
        if (on_wait_) on_wait_();
        if (cancelled_) co_return SourcedEvent{0, domain::ChoiceDone{0, domain::FinishReason::cancelled, {}}};
        if (steps_.empty()) {  // for ever
            clock_.advance(timeout);
            co_return std::nullopt;
        }
        auto& step = steps_.front();
        if (!step.event) {
            auto const passed = std::min(timeout, step.silence);
            clock_.advance(passed);
            step.silence -= passed;
            if (step.silence == Duration::zero()) steps_.pop_front();
            if (passed == timeout) co_return std::nullopt;
        }
        co_return try_next();
    }
    std::optional<SourcedEvent> try_next() override {
        if (steps_.empty() || !steps_.front().event) return std::nullopt;
        auto event = std::move(steps_.front().event);
        steps_.pop_front();
        return event;
    }
    void cancel() override { cancelled_ = true; }
    [[nodiscard]] serving::Waiting waiting() const override { return waiting_; }

    void add(domain::Event event, std::uint32_t generation = 0) {
        steps_.push_back({SourcedEvent{generation, std::move(event)}, {}});
    }
    void pause(Duration silence) { steps_.push_back({std::nullopt, silence}); }

    ManualClock& clock_;
    std::deque<Step> steps_;
    std::function<void()> on_wait_;
    serving::Waiting waiting_;
    int waits_ = 0;
    bool cancelled_ = false;
};

// A dialect that is easy to read.
class PlainStream final : public StreamAnswer {
public:
    static constexpr std::uint32_t kSilent = 99;  // to who has so many ahead pings say nothing

    void begin(std::string& out) override { out += "begin;"; }
    void progress(std::string& out, std::uint32_t, domain::PromptProgress const& p) override {
        out += "progress " + std::to_string(p.processed) + ";";
    }
    void delta(std::string& out, std::uint32_t choice, domain::Delta const& delta) override {
        out += std::to_string(choice) + ":" + delta.text + ";";
    }
    void choice_done(std::string& out, std::uint32_t choice, domain::FinishReason) override {
        out += "done " + std::to_string(choice) + ";";
    }
    void end(std::string& out, Totals const& totals) override {
        out += "end " + std::to_string(totals.usage.completion_tokens) + ";";
    }
    void fail(std::string& out, Problem const& problem) override {
        out += "fail " + std::string(entry(problem.kind).code) + ";";
    }
    void ping(std::string& out, serving::Waiting const& waiting) override {
        if (waiting.ahead == kSilent) return;
        out += "ping " + std::to_string(waiting.ahead) + ";";
    }
};

domain::Delta delta(std::string text, std::uint32_t choice = 0) { return {choice, 1, std::move(text), {}}; }
domain::ChoiceDone choice_done(std::uint32_t choice = 0, domain::FinishReason reason = domain::FinishReason::stop) {
    return {choice, reason, {}};
}
domain::Done done(std::uint32_t tokens) { return {{10, 0, tokens}, {}}; }

class RunCall : public WithServices<FakePool> {
protected:
    RunCall() : source(std::make_shared<FakeSource>(clock)) {
        services.options.request_timeout = std::chrono::seconds(100);
        plan.ping_interval = std::chrono::seconds(15);
    }

    void run(bool stream) {
        if (stream) plan.stream = std::make_unique<PlainStream>();
        plan.render = [](Answer const& answer) {
            std::string body;
            for (auto const& choice : answer.choices) body += choice.text + "|";
            return body + std::to_string(answer.totals.usage.completion_tokens);
        };
        loop.spawn(run_call(services, exchange, source, std::move(plan)));
        loop.run();
    }

    FakeExchange exchange;
    std::shared_ptr<FakeSource> source;
    CallPlan plan;
};

using Streaming = RunCall;
using Whole = RunCall;

TEST_F(Streaming, WritesWhatIsReadyInOneWrite) {
    source->add(domain::Started{10, 0});
    source->add(delta("a"));
    source->add(delta("b"));
    source->pause(std::chrono::milliseconds(1));
    source->add(delta("c"));
    source->add(choice_done());
    source->add(done(3));
    run(true);
    EXPECT_EQ(exchange.writes_, (std::vector<std::string>{"begin;0:a;0:b;", "0:c;done 0;end 3;"}));
    EXPECT_TRUE(exchange.ended_);
    EXPECT_EQ(exchange.head_.content_type, "text/event-stream");
}

TEST_F(Streaming, BoundsOneWrite) {
    for (int i = 0; i < 10; ++i) source->add(delta(std::string(10'000, 'x')));
    source->add(choice_done());
    source->add(done(10));
    run(true);
    EXPECT_GE(exchange.writes_.size(), 3U);
    for (auto const& bytes : exchange.writes_) EXPECT_LE(bytes.size(), 45'000U);
}

TEST_F(Streaming, AnswersAnEarlyFailureWithItsStatus) {
    source->add(domain::Failed{Error(Code::context_overflow, "too long")});
    run(true);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 400U);
    EXPECT_FALSE(exchange.started_);
    EXPECT_TRUE(source->cancelled_);
}

TEST_F(Streaming, AnswersAFailureRightAfterTheStartWithItsStatusWhileNothingWasWritten) {
    source->add(domain::Started{10, 0});
    source->add(domain::Failed{Error(Code::internal, "secret")});
    run(true);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 500U);
    EXPECT_EQ(exchange.response_->body.find("secret"), std::string::npos);
}

TEST_F(Streaming, ReportsALateFailureInBand) {
    source->add(delta("a"));
    source->pause(std::chrono::milliseconds(1));
    source->add(domain::Failed{Error(Code::engine_lost, "signal 11")});
    run(true);
    EXPECT_EQ(exchange.written(), "begin;0:a;fail engine_lost;");
    EXPECT_TRUE(exchange.ended_);
    EXPECT_FALSE(exchange.response_);
}

TEST_F(Streaming, PingsWhileItWaitsAndTellsThePosition) {
    source->waiting_.ahead = 3;
    source->pause(std::chrono::seconds(31));
    source->add(delta("a"));
    source->add(choice_done());
    source->add(done(1));
    run(true);
    EXPECT_EQ(exchange.writes_, (std::vector<std::string>{"ping 3;", "ping 3;", "begin;0:a;done 0;end 1;"}));
}

TEST_F(Streaming, PingsInLongSilencesLater) {
    source->add(domain::Started{10, 0});
    source->pause(std::chrono::seconds(16));
    source->add(delta("a"));
    source->add(choice_done());
    source->add(done(1));
    run(true);
    EXPECT_EQ(exchange.written(), "begin;ping 0;0:a;done 0;end 1;");
}

TEST_F(Streaming, APingThatSaysNothingIsNotAskedForAgainAtOnce) {
    source->waiting_.ahead = PlainStream::kSilent;
    source->pause(std::chrono::seconds(60));
    source->add(delta("x"));
    source->add(choice_done());
    source->add(done(1));
    run(true);
    EXPECT_EQ(exchange.written(), "begin;0:x;done 0;end 1;");
    EXPECT_LE(source->waits_, 6);
}

TEST_F(Streaming, NeverPingsWhenToldSo) {
    plan.ping_interval = Duration::max();
    source->pause(std::chrono::seconds(90));
    source->add(delta("a"));
    source->add(choice_done());
    source->add(done(1));
    run(true);
    EXPECT_EQ(exchange.written(), "begin;0:a;done 0;end 1;");
}

TEST_F(Streaming, TimesOutWithAStatusBeforeTheFirstByte) {
    clock.advance(std::chrono::seconds(60));  // since it arrived: its model had to be loaded
    plan.ping_interval = Duration::max();
    run(true);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 504U);
    EXPECT_EQ(Json::parse(exchange.response_->body)["error"]["message"],
              "The answer was not complete within 100 s, the limit of this server.");
    EXPECT_TRUE(source->cancelled_);
    EXPECT_EQ(clock.now(), Instant{} + std::chrono::seconds(100));
}

TEST_F(Streaming, TimesOutInBandAfterIt) {
    source->add(delta("a"));
    run(true);
    EXPECT_TRUE(exchange.written().ends_with("ping 0;fail request_timeout;")) << exchange.written();
    EXPECT_TRUE(exchange.ended_);
    EXPECT_TRUE(source->cancelled_);
}

TEST_F(Streaming, TimesOutEvenIfTheModelNeverStopsTalking) {
    source->on_wait_ = [this] {
        clock.advance(std::chrono::seconds(1));
        source->add(delta("x"));
    };
    run(true);
    EXPECT_TRUE(exchange.written().ends_with("fail request_timeout;"));
    EXPECT_LE(clock.now(), Instant{} + std::chrono::seconds(102));
}

TEST_F(Streaming, GivesUpWhatDoesNotBeginInTime) {
    plan.ping_interval = Duration::max();
    plan.queue_timeout = std::chrono::seconds(5);
    run(true);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 429U);
    EXPECT_EQ(Json::parse(exchange.response_->body)["error"]["code"], "queue_timeout");
    EXPECT_TRUE(
        std::ranges::count(exchange.response_->headers, std::pair<std::string, std::string>("Retry-After", "7")));
    EXPECT_TRUE(source->cancelled_);
    EXPECT_EQ(clock.now(), Instant{} + std::chrono::seconds(5));
}

TEST_F(Streaming, GivesUpInBandAfterAPing) {
    plan.ping_interval = std::chrono::seconds(2);
    plan.queue_timeout = std::chrono::seconds(5);
    run(true);
    EXPECT_EQ(exchange.written(), "ping 0;ping 0;fail queue_timeout;");
}

TEST_F(Streaming, TheQueueDeadlineEndsWhereComputingBegins) {
    plan.queue_timeout = std::chrono::seconds(5);
    plan.ping_interval = Duration::max();
    source->pause(std::chrono::seconds(4));
    source->add(domain::Started{10, 0});
    source->pause(std::chrono::seconds(40));
    source->add(delta("a"));
    source->add(choice_done());
    source->add(done(1));
    run(true);
    EXPECT_EQ(exchange.written(), "begin;0:a;done 0;end 1;");
}

TEST_F(Streaming, ACancelledCallEndsWithItsOwnError) {
    services.calls = std::make_shared<CallList>();
    plan.info.request_id = "r";
    source->add(delta("a"));
    source->on_wait_ = [this] {
        EXPECT_TRUE(services.calls->cancel("r", ""));
        source->add(choice_done(0, domain::FinishReason::cancelled));
    };
    run(true);
    EXPECT_EQ(exchange.written(), "begin;0:a;fail request_cancelled;");
    EXPECT_FALSE(services.calls->cancel("r", "")) << "it is over";
}

TEST_F(Whole, ACancelledCallIsA499) {
    services.calls = std::make_shared<CallList>();
    plan.info.answer_id = "chatcmpl-1";
    source->on_wait_ = [this] {
        EXPECT_FALSE(services.calls->cancel("chatcmpl-1", "another tenant"));
        EXPECT_TRUE(services.calls->cancel("chatcmpl-1", ""));
        source->add(choice_done(0, domain::FinishReason::cancelled));
    };
    run(false);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 499U);
    EXPECT_EQ(Json::parse(exchange.response_->body)["error"]["code"], "request_cancelled");
}

TEST_F(Whole, GivesUpWhatDoesNotBeginInTime) {
    plan.queue_timeout = std::chrono::seconds(5);
    run(false);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 429U);
    EXPECT_TRUE(source->cancelled_);
}

TEST_F(Streaming, CancelsWhenTheClientLeavesWhileWaiting) {
    source->add(delta("a"));
    source->on_wait_ = [this] { exchange.leave(); };
    run(true);
    EXPECT_TRUE(source->cancelled_);
    EXPECT_EQ(exchange.written(), "begin;0:a;");
    EXPECT_FALSE(exchange.ended_);
    EXPECT_FALSE(exchange.response_);
}

TEST_F(Streaming, StopsWhenAWriteFindsTheClientGone) {
    source->add(delta("a"));
    exchange.gone_ = true;
    run(true);
    EXPECT_EQ(exchange.written(), "");
    EXPECT_FALSE(exchange.ended_);
}

TEST_F(Streaming, BeginsOnceWhenAGenerationIsReplayed) {
    source->add(domain::Started{10, 0});
    source->pause(std::chrono::milliseconds(1));
    source->add(domain::Started{10, 0});
    source->add(domain::PromptProgress{10, 0, 5, 1});
    source->add(delta("a"));
    source->add(choice_done());
    source->add(done(1));
    run(true);
    EXPECT_EQ(exchange.written(), "begin;progress 5;0:a;done 0;end 1;");
}

TEST_F(Streaming, NumbersChoicesOverAllGenerations) {
    plan.generations = 2;
    plan.choices = 2;
    source->add(delta("a", 1), 0);
    source->add(delta("b", 0), 1);
    source->add(choice_done(0), 0);
    source->add(choice_done(1), 1);
    source->add(done(2), 1);
    source->add(done(3), 0);
    run(true);
    EXPECT_EQ(exchange.written(), "begin;1:a;2:b;done 0;done 3;end 5;");
}

TEST_F(Streaming, RefusesToIndexByWhatAWorkerMadeUp) {
    source->add(delta("a", 1));
    run(true);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 500U);
}

TEST_F(Streaming, CallsAChoiceTheServerEndedAnError) {
    source->add(delta("a"));
    source->pause(std::chrono::milliseconds(1));
    source->add(choice_done(0, domain::FinishReason::cancelled));
    source->add(done(1));
    run(true);
    EXPECT_EQ(exchange.written(), "begin;0:a;fail shutting_down;");
}

TEST_F(Whole, CollectsEveryChoiceInOrder) {
    plan.choices = 2;
    source->add(domain::Started{10, 0});
    source->add(delta("b", 1));
    source->pause(std::chrono::milliseconds(1));
    source->add(delta("a", 0));
    source->add(delta("c", 1));
    source->add(choice_done(1));
    source->add(choice_done(0));
    source->add(done(3));
    run(false);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 200U);
    EXPECT_EQ(exchange.response_->body, "a|bc|3");
}

TEST_F(Whole, TimesOut) {
    clock.advance(std::chrono::seconds(60));  // since it arrived: its model had to be loaded
    source->add(delta("a"));
    run(false);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 504U);
    EXPECT_TRUE(source->cancelled_);
}

TEST_F(Whole, SaysNothingToAClientThatLeft) {
    source->on_wait_ = [this] { exchange.leave(); };
    run(false);
    EXPECT_FALSE(exchange.response_);
    EXPECT_TRUE(source->cancelled_);
}

TEST_F(Whole, ReportsFailures) {
    source->add(delta("a"));
    source->add(domain::Failed{Error(Code::unsupported, "The model has no chat template")});
    run(false);
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->status, 400U);
    EXPECT_EQ(Json::parse(exchange.response_->body)["error"]["code"], "unsupported_by_model");
}

// --- several generations ---

class FakeGeneration final : public serving::Generation {
public:
    FakeGeneration(net::Loop& loop, std::deque<domain::Event> events, int& alive)
        : signal_(loop), events_(std::move(events)), alive_(alive) {
        ++alive_;
    }
    ~FakeGeneration() override { --alive_; }
    [[nodiscard]] domain::RequestId id() const override { return 1; }
    net::Task<domain::Event> next() override {
        while (events_.empty() && !cancelled_) co_await signal_.wait();
        if (events_.empty()) co_return domain::Done{};
        auto event = std::move(events_.front());
        events_.pop_front();
        co_return event;
    }
    net::Task<std::optional<domain::Event>> next_within(Duration) override { co_return std::nullopt; }
    std::optional<domain::Event> try_next() override { return std::nullopt; }
    void cancel() override {
        cancelled_ = true;
        signal_.notify();
    }
    [[nodiscard]] serving::Waiting waiting() const override { return {}; }

private:
    net::Signal signal_;
    std::deque<domain::Event> events_;
    int& alive_;
    bool cancelled_ = false;
};

TEST(EventSource, InterleavesSeveralGenerationsAndLosesNothing) {
    net::Loop loop;
    int alive = 0;
    std::vector<std::unique_ptr<serving::Generation>> generations;
    constexpr int kEvents = 500;  // far more than are held at once
    for (int g = 0; g < 3; ++g) {
        std::deque<domain::Event> events;
        for (int i = 0; i < kEvents; ++i) events.emplace_back(delta(std::to_string(i)));
        events.emplace_back(done(kEvents));
        generations.push_back(std::make_unique<FakeGeneration>(loop, std::move(events), alive));
    }
    std::vector<int> seen(3, 0);
    auto read = [](net::Loop& on, auto all, std::vector<int>& heard) -> net::Task<void> {
        auto const source = make_event_source(on, std::move(all));
        for (int ended = 0; ended < 3;) {
            auto sourced = source->try_next();
            if (!sourced) sourced = co_await source->next_within(std::chrono::seconds(5));
            if (!sourced) break;
            if (auto const* d = std::get_if<domain::Delta>(&sourced->event)) {
                EXPECT_EQ(d->text, std::to_string(heard[sourced->generation]++));
            } else {
                ++ended;
            }
        }
    };
    loop.spawn(read(loop, std::move(generations), seen));
    loop.run();
    EXPECT_EQ(seen, (std::vector<int>{kEvents, kEvents, kEvents}));
    EXPECT_EQ(alive, 0);
}

TEST(EventSource, FreesSeveralGenerationsWhenItsReaderLeaves) {
    net::Loop loop;
    int alive = 0;
    std::vector<std::unique_ptr<serving::Generation>> generations;
    for (int g = 0; g < 2; ++g) {
        std::deque<domain::Event> events;
        for (int i = 0; i < 500; ++i) events.emplace_back(delta("x"));
        generations.push_back(
            std::make_unique<FakeGeneration>(loop, g == 0 ? std::move(events) : std::deque<domain::Event>{}, alive));
    }
    auto read = [](net::Loop& on, auto all) -> net::Task<void> {
        auto const source = make_event_source(on, std::move(all));
        auto const sourced = co_await source->next_within(std::chrono::seconds(5));
        EXPECT_TRUE(sourced);
    };
    loop.spawn(read(loop, std::move(generations)));
    loop.run();
    EXPECT_EQ(alive, 0) << "the one that was full and the one that was silent";
}

TEST(EventSource, ReportsSilence) {
    net::Loop loop;
    int alive = 0;
    std::vector<std::unique_ptr<serving::Generation>> generations;
    for (int g = 0; g < 2; ++g)
        generations.push_back(std::make_unique<FakeGeneration>(loop, std::deque<domain::Event>{}, alive));
    bool silent = false;
    auto read = [](net::Loop& on, auto all, bool& is_silent) -> net::Task<void> {
        auto const source = make_event_source(on, std::move(all));
        auto const sourced = co_await source->next_within(std::chrono::milliseconds(1));
        is_silent = !sourced;
    };
    loop.spawn(read(loop, std::move(generations), silent));
    loop.run();
    EXPECT_TRUE(silent);
    EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace hearth::api
