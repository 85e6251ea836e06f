#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "api/answer.h"
#include "api/event_source.h"
#include "api/testing/fake_exchange.h"
#include "api/testing/fake_pool.h"
#include "api/testing/fake_services.h"

namespace hearth::api {
namespace {

// What a pool and the requests in it know together.
struct House {
    std::uint32_t inside = 0, most = 0, cancelled = 0;
    bool holds = false;  // requests end by a cancel only
};

// A request whose one vector is its number.
class Part final : public serving::Generation {
public:
    Part(net::Loop& loop, std::shared_ptr<House> house, domain::RequestId id, float number)
        : signal_(loop), house_(std::move(house)), id_(id) {
        house_->most = std::max(house_->most, ++house_->inside);
        if (house_->holds) return;
        events_.emplace_back(domain::Started{10, 0});
        domain::Embedded embedded;
        embedded.vectors.push_back({number});
        events_.emplace_back(std::move(embedded));
        events_.emplace_back(domain::ChoiceDone{0, domain::FinishReason::stop, {}});
        events_.emplace_back(domain::Done{{10, 0, 0}, {}});
    }
    [[nodiscard]] domain::RequestId id() const override { return id_; }
    net::Task<domain::Event> next() override {
        while (events_.empty()) co_await signal_.wait();
        auto event = std::move(events_.front());
        events_.pop_front();
        if (domain::is_terminal(event)) --house_->inside;
        co_return event;
    }
    net::Task<std::optional<domain::Event>> next_within(Duration) override { co_return std::nullopt; }
    std::optional<domain::Event> try_next() override { return std::nullopt; }
    void cancel() override {
        if (std::exchange(cancelled_, true)) return;
        ++house_->cancelled;
        if (!house_->holds) return;
        events_.emplace_back(domain::ChoiceDone{0, domain::FinishReason::cancelled, {}});
        events_.emplace_back(domain::Done{});
        signal_.notify();
    }
    [[nodiscard]] serving::Waiting waiting() const override { return {}; }

private:
    net::Signal signal_;
    std::shared_ptr<House> house_;
    domain::RequestId id_;
    std::deque<domain::Event> events_;
    bool cancelled_ = false;
};

// Has room for so many requests, and says no when it is told to.
class RoomyPool final : public FakePool {
public:
    Result<std::unique_ptr<serving::Generation>> submit(domain::GenerateRequest request) override {
        ++asked;
        if (refusal && submitted.size() >= refused_from && refusals > 0) {
            --refusals;
            return *refusal;
        }
        if (house->inside >= room) return Error(Code::overloaded, "full");
        auto const& input = std::get<domain::EmbedPrompt>(request.prompt).inputs.front();
        auto const number = std::stoi(std::get<std::string>(input));
        submitted.push_back(number);
        kept_alive.push_back(request.keep_alive.has_value());
        std::unique_ptr<serving::Generation> part =
            std::make_unique<Part>(*loop, house, submitted.size(), static_cast<float>(number));
        return part;
    }
    [[nodiscard]] Result<serving::ModelStatus> status(std::string_view) const override {
        serving::ModelStatus status;
        status.path = submitted.size() >= swapped_from ? "b.gguf" : "a.gguf";
        return status;
    }

    net::Loop* loop = nullptr;
    std::shared_ptr<House> house = std::make_shared<House>();
    std::uint32_t room = 1000;
    std::optional<Error> refusal;
    std::size_t refused_from = 0, refusals = 1000, swapped_from = 1000;
    std::size_t asked = 0;
    std::vector<int> submitted;
    std::vector<bool> kept_alive;
};

class BatchTest : public WithServices<RoomyPool> {
protected:
    BatchTest() { pool.loop = &loop; }

    static std::vector<domain::GenerateRequest> requests(int count) {
        std::vector<domain::GenerateRequest> all(static_cast<std::size_t>(count));
        for (int i = 0; i < count; ++i) {
            auto& request = all[static_cast<std::size_t>(i)];
            request.model = "m";
            request.prompt = domain::EmbedPrompt{{std::to_string(i)}};
            request.keep_alive = std::chrono::seconds(0);
        }
        return all;
    }

    // Reads until `ends` requests have ended, or one failed or was cancelled.
    void read(std::vector<domain::GenerateRequest> all, std::size_t ends, bool cancel_first = false) {
        numbers.assign(all.size(), -1);
        auto batch = make_batch(services, std::move(all));
        ASSERT_TRUE(batch) << batch.error().message;
        first = batch->admitted.size();
        batch->source->on_admitted([this](domain::RequestId id) { later.push_back(id); });
        if (cancel_first) batch->source->cancel();
        loop.spawn(take(std::move(batch->source), ends));
        loop.run();
    }

    net::Task<void> take(std::shared_ptr<EventSource> source, std::size_t ends) {
        while (ended < ends) {
            auto sourced = source->try_next();
            if (!sourced) sourced = co_await source->next_within(std::chrono::seconds(5));
            if (!sourced) co_return;
            if (auto const* made = std::get_if<domain::Embedded>(&sourced->event))
                numbers[sourced->generation] = static_cast<int>(made->vectors.front().front());
            if (std::holds_alternative<domain::Done>(sourced->event)) ++ended;
            if (auto const* done = std::get_if<domain::ChoiceDone>(&sourced->event))
                cancelled += done->reason == domain::FinishReason::cancelled ? 1U : 0U;
            if (auto const* what = std::get_if<domain::Failed>(&sourced->event)) {
                failed = what->error;
                co_return;
            }
            if (cancelled > 0 && cancelled > pool.house->cancelled) co_return;
        }
    }

    static std::vector<int> up_to(int count) {
        std::vector<int> all;
        for (int i = 0; i < count; ++i) all.push_back(i);
        return all;
    }

    std::size_t first = 0, ended = 0;
    std::uint32_t cancelled = 0;
    std::vector<int> numbers;
    std::vector<domain::RequestId> later;
    std::optional<Error> failed;
};

TEST_F(BatchTest, HasAFewUnderWayAndAnswersAllInOrder) {
    read(requests(100), 100);
    EXPECT_EQ(ended, 100U);
    EXPECT_EQ(numbers, up_to(100));
    EXPECT_EQ(pool.submitted, up_to(100));
    EXPECT_EQ(first, kBatchUnderWay);
    EXPECT_EQ(pool.house->most, kBatchUnderWay);
    EXPECT_EQ(later.size(), 100U - kBatchUnderWay);
    EXPECT_EQ(pool.house->cancelled, 0U);
    EXPECT_EQ(std::ranges::count(pool.kept_alive, true), 1) << "the last one says how long the model stays";
    EXPECT_TRUE(pool.kept_alive.back());
}

TEST_F(BatchTest, GoesOnInTheRoomItHas) {
    pool.room = 2;
    read(requests(20), 20);
    EXPECT_EQ(numbers, up_to(20));
    EXPECT_EQ(first, 2U);
    EXPECT_EQ(pool.house->most, 2U);
    EXPECT_LE(pool.asked, 30U) << "it does not ask for more than one place where none was free";
}

TEST_F(BatchTest, IsRefusedWithItsFirst) {
    pool.room = 0;
    auto const batch = make_batch(services, requests(3));
    ASSERT_FALSE(batch);
    EXPECT_EQ(batch.error().code, Code::overloaded);
    EXPECT_TRUE(pool.submitted.empty());
}

TEST_F(BatchTest, WaitsWhereOthersTakeItsRoom) {
    pool.refusal = Error(Code::overloaded, "full");
    pool.refused_from = 1;
    pool.refusals = 3;
    read(requests(5), 5);
    EXPECT_EQ(numbers, up_to(5));
    EXPECT_FALSE(failed);
}

TEST_F(BatchTest, WaitsNoLongerThanItsQueueDeadline) {
    pool.refusal = Error(Code::overloaded, "full");
    pool.refused_from = 1;
    auto all = requests(5);
    for (auto& request : all) request.deadlines.queue_ms = 30;
    read(std::move(all), 5);
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->code, Code::overloaded);
    EXPECT_EQ(pool.submitted, up_to(1));
}

TEST_F(BatchTest, EndsWithAnyOtherRefusal) {
    pool.refusal = Error(Code::unavailable, "it cannot be loaded");
    pool.refused_from = 3;
    read(requests(5), 5);
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->message, "it cannot be loaded");
    EXPECT_EQ(pool.asked, 4U);
}

TEST_F(BatchTest, SaysThatTheServerGoesDown) {
    services.draining = [] { return true; };
    pool.refusal = Error(Code::unavailable, "draining");
    pool.refused_from = 1;
    read(requests(2), 2);
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->code, Code::cancelled);
}

TEST_F(BatchTest, DoesNotMixTheVectorsOfTwoModels) {
    pool.swapped_from = 20;
    read(requests(40), 40);
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->code, Code::unavailable);
    EXPECT_EQ(pool.submitted, up_to(20));
}

TEST_F(BatchTest, SubmitsNothingMoreOnceItIsCancelled) {
    pool.house->holds = true;
    read(requests(40), 40, true);
    EXPECT_EQ(pool.house->cancelled, kBatchUnderWay);
    EXPECT_EQ(pool.submitted.size(), kBatchUnderWay);
    EXPECT_GT(cancelled, 0U) << "its reader hears of it";
    EXPECT_EQ(pool.house->inside, 0U);
}

TEST_F(BatchTest, ItsUsageAddsUp) {
    FakeExchange exchange;
    auto batch = make_batch(services, requests(40));
    ASSERT_TRUE(batch);
    CallPlan plan;
    plan.generations = 40;
    plan.awaited = static_cast<std::uint32_t>(batch->admitted.size());
    plan.ping_interval = Duration::max();
    plan.render = [](Answer const& answer) {
        return std::to_string(answer.embedded.size()) + " " + std::to_string(answer.totals.usage.prompt_tokens);
    };
    auto const run = [](Services& on, FakeExchange& to, std::shared_ptr<EventSource> source,
                        CallPlan how) -> net::Task<void> {
        co_await run_call(on, to, std::move(source), std::move(how));
        to.callback_ = nullptr;  // it holds the source
    };
    loop.spawn(run(services, exchange, std::move(batch->source), std::move(plan)));
    loop.run();
    ASSERT_TRUE(exchange.response_);
    EXPECT_EQ(exchange.response_->body, "40 400");
}

}  // namespace
}  // namespace hearth::api
