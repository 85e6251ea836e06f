#include "api/event_source.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "api/routes.h"
#include "base/assert.h"

namespace hearth::api {
namespace {

constexpr std::size_t kReadyMax = 64;  // events held for the reader of several generations

// How soon a request of a batch that found no room asks again; longer each time in a row.
constexpr Duration kAgainMin = std::chrono::milliseconds(20);
constexpr Duration kAgainMax = std::chrono::milliseconds(320);

class Single final : public EventSource {
public:
    explicit Single(std::unique_ptr<serving::Generation> generation) : generation_(std::move(generation)) {}

    net::Task<std::optional<SourcedEvent>> next_within(Duration timeout) override {
        auto event = co_await generation_->next_within(timeout);
        co_return sourced(std::move(event));
    }
    std::optional<SourcedEvent> try_next() override { return sourced(generation_->try_next()); }
    void cancel() override { generation_->cancel(); }
    [[nodiscard]] serving::Waiting waiting() const override { return generation_->waiting(); }

private:
    static std::optional<SourcedEvent> sourced(std::optional<domain::Event> event) {
        if (!event) return std::nullopt;
        return SourcedEvent{0, *std::move(event)};
    }

    std::unique_ptr<serving::Generation> generation_;
};

// What the reader of several generations shares with the coroutines that pull
// them, one each. A puller outlives the reader until its generation ends, which
// the cancel brings about.
struct Hub {
    explicit Hub(net::Loop& loop) : readable(loop), writable(loop) {}
    std::deque<SourcedEvent> ready;
    net::Signal readable;
    net::Signal writable;
    bool closed = false;
};

net::Task<void> pull(std::shared_ptr<Hub> hub, std::shared_ptr<serving::Generation> generation, std::uint32_t index) {
    for (;;) {
        auto event = co_await generation->next();
        if (hub->closed) co_return;
        bool const last = domain::is_terminal(event);
        hub->ready.push_back(SourcedEvent{index, std::move(event)});
        hub->readable.notify();
        if (last) co_return;
        while (hub->ready.size() >= kReadyMax && !hub->closed) co_await hub->writable.wait();
        if (hub->closed) co_return;
    }
}

class Several final : public EventSource {
public:
    Several(net::Loop& loop, std::vector<std::unique_ptr<serving::Generation>> generations)
        : hub_(std::make_shared<Hub>(loop)) {
        for (auto& generation : generations) generations_.emplace_back(std::move(generation));
        std::uint32_t index = 0;
        for (auto const& generation : generations_) loop.spawn(pull(hub_, generation, index++));
    }

    Several(Several const&) = delete;
    Several& operator=(Several const&) = delete;
    ~Several() override {
        hub_->closed = true;
        hub_->writable.notify();
        for (auto const& generation : generations_) generation->cancel();
    }

    net::Task<std::optional<SourcedEvent>> next_within(Duration timeout) override {
        // A notification may be left over from an event that try_next() took: then wait again.
        while (hub_->ready.empty()) {
            bool const notified = co_await hub_->readable.wait_for(timeout);
            if (!notified) break;
        }
        co_return try_next();
    }

    std::optional<SourcedEvent> try_next() override {
        if (hub_->ready.empty()) return std::nullopt;
        auto event = std::move(hub_->ready.front());
        hub_->ready.pop_front();
        hub_->writable.notify();
        return event;
    }

    void cancel() override {
        for (auto const& generation : generations_) generation->cancel();
    }

    [[nodiscard]] serving::Waiting waiting() const override {
        auto first = generations_.front()->waiting();
        for (auto const& generation : generations_) {
            auto const other = generation->waiting();
            if (other.ahead < first.ahead) first = other;
        }
        return first;
    }

private:
    std::shared_ptr<Hub> hub_;
    std::vector<std::shared_ptr<serving::Generation>> generations_;
};

class BatchSource final : public EventSource {
public:
    BatchSource(Services& services, std::vector<domain::GenerateRequest> requests)
        : services_(services), requests_(std::move(requests)), hub_(std::make_shared<Hub>(services.loop)) {
        auto const status = services_.pool.status(model());
        if (status) path_ = status->path;
        // Else a keep_alive of 0 could let the model go between two of them.
        for (auto& request : requests_)
            if (&request != &requests_.back()) request.keep_alive.reset();
    }

    BatchSource(BatchSource const&) = delete;
    BatchSource& operator=(BatchSource const&) = delete;
    ~BatchSource() override {
        hub_->closed = true;
        hub_->writable.notify();
        for (auto const& [_, generation] : under_way_) generation->cancel();
    }

    // Submits as many as may be under way; why not even the first was admitted.
    Status begin() {
        HEARTH_CHECK(submit_next());
        submit_more(kBatchUnderWay);
        return ok();
    }

    [[nodiscard]] std::vector<domain::RequestId> admitted() const {
        std::vector<domain::RequestId> ids;
        ids.reserve(under_way_.size());
        for (auto const& [_, generation] : under_way_) ids.push_back(generation->id());
        return ids;
    }

    net::Task<std::optional<SourcedEvent>> next_within(Duration timeout) override {
        // A notification may be left over from an event that try_next() took: then wait again.
        while (hub_->ready.empty() && timeout > Duration::zero()) {
            auto const wait = lacks_room_ ? std::min(timeout, again_in_) : timeout;
            bool const notified = co_await hub_->readable.wait_for(wait);
            if (notified) continue;
            timeout -= wait;
            if (lacks_room_) ask_again(wait);
        }
        co_return try_next();
    }

    std::optional<SourcedEvent> try_next() override {
        if (hub_->ready.empty()) return std::nullopt;
        auto sourced = std::move(hub_->ready.front());
        hub_->ready.pop_front();
        hub_->writable.notify();
        if (domain::is_terminal(sourced.event)) {
            under_way_.erase(sourced.generation);
            if (std::holds_alternative<domain::Failed>(sourced.event)) stopped_ = true;
            // Where there was no room for more, its own is what got free.
            submit_more(lacks_room_ ? std::size_t{1} : kBatchUnderWay);
        }
        return sourced;
    }

    void cancel() override {
        for (auto const& [_, generation] : under_way_) generation->cancel();
        if (std::exchange(stopped_, true)) return;
        // The reader waits for what is not submitted any more, and maybe for nothing else.
        if (next_ < requests_.size()) say(domain::ChoiceDone{0, domain::FinishReason::cancelled, {}});
    }

    [[nodiscard]] serving::Waiting waiting() const override {
        std::optional<serving::Waiting> first;
        for (auto const& [_, generation] : under_way_) {
            auto const other = generation->waiting();
            if (!first || other.ahead < first->ahead) first = other;
        }
        return first.value_or(serving::Waiting{});
    }

    void on_admitted(std::function<void(domain::RequestId)> const& tell) override { tell_ = tell; }

private:
    [[nodiscard]] std::string const& model() const { return requests_.back().model; }

    // An event of the first request that is not submitted.
    void say(domain::Event event) {
        hub_->ready.push_back(SourcedEvent{static_cast<std::uint32_t>(next_), std::move(event)});
        hub_->readable.notify();
    }

    Status submit_next() {
        auto const status = services_.pool.status(model());
        if (status && status->path != path_)
            return Error(Code::unavailable, fmt::format("model '{}' was exchanged while this request was computed: "
                                                        "send it again",
                                                        model()));
        // A copy: one that finds no room is submitted again.
        HEARTH_TRY(auto generation, services_.pool.submit(requests_[next_]));
        // What it holds may be large; the last one still says whose they all are.
        requests_[next_].prompt = domain::TextPrompt{};
        auto const index = static_cast<std::uint32_t>(next_++);
        auto const id = generation->id();
        std::shared_ptr<serving::Generation> const shared = std::move(generation);
        under_way_.emplace(index, shared);
        services_.loop.spawn(pull(hub_, shared, index));
        waited_ = Duration::zero();
        if (tell_) tell_(id);
        return ok();
    }

    // At most `most` of those that are left.
    void submit_more(std::size_t most) {
        while (!stopped_ && next_ < requests_.size() && under_way_.size() < kBatchUnderWay) {
            if (most-- == 0) return;
            auto const submitted = submit_next();
            if (!submitted) return refused(submitted.error());
        }
        lacks_room_ = false;
    }

    void ask_again(Duration waited) {
        waited_ += waited;
        auto const later = std::min(again_in_ * 2, kAgainMax);
        auto const before = next_;
        submit_more(kBatchUnderWay);
        if (next_ == before) again_in_ = later;
    }

    void refused(Error const& error) {
        auto const queue_ms = requests_[next_].deadlines.queue_ms;
        bool const late = queue_ms && waited_ >= std::chrono::milliseconds(*queue_ms);
        if (error.code == Code::overloaded && !late) {
            lacks_room_ = true;
            again_in_ = kAgainMin;
            return;
        }
        stopped_ = true;
        lacks_room_ = false;
        bool const ending = error.code == Code::unavailable && services_.draining();
        if (ending) say(domain::Failed{Error(Code::cancelled, "The server is shutting down and ended this request.")});
        else say(domain::Failed{error});
    }

    Services& services_;
    std::vector<domain::GenerateRequest> requests_;
    std::shared_ptr<Hub> hub_;
    std::map<std::uint32_t, std::shared_ptr<serving::Generation>> under_way_;  // by the request's index
    std::function<void(domain::RequestId)> tell_;
    std::string path_;       // of the model's file when it began
    std::size_t next_ = 0;   // of the requests, to be submitted
    bool stopped_ = false;   // nothing more is submitted
    bool lacks_room_ = false;  // the next one was refused for want of it
    Duration again_in_ = kAgainMin;
    Duration waited_{};  // by the next one, for room
};

}  // namespace

void EventSource::on_admitted(std::function<void(domain::RequestId)> const&) {}

std::shared_ptr<EventSource> make_event_source(net::Loop& loop,
                                               std::vector<std::unique_ptr<serving::Generation>> generations) {
    HEARTH_ASSERT(!generations.empty(), "a call has at least one generation");
    if (generations.size() == 1) return std::make_shared<Single>(std::move(generations.front()));
    return std::make_shared<Several>(loop, std::move(generations));
}

Result<Batch> make_batch(Services& services, std::vector<domain::GenerateRequest> requests) {
    HEARTH_ASSERT(!requests.empty(), "a batch has at least one request");
    auto source = std::make_shared<BatchSource>(services, std::move(requests));
    HEARTH_CHECK(source->begin());
    auto admitted = source->admitted();
    return Batch{std::move(source), std::move(admitted)};
}

}  // namespace hearth::api
