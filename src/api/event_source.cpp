#include "api/event_source.h"

#include <cstddef>
#include <deque>
#include <utility>

#include "base/assert.h"

namespace hearth::api {
namespace {

constexpr std::size_t kReadyMax = 64;  // events held for the reader of several generations

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

}  // namespace

std::shared_ptr<EventSource> make_event_source(net::Loop& loop,
                                               std::vector<std::unique_ptr<serving::Generation>> generations) {
    HEARTH_ASSERT(!generations.empty(), "a call has at least one generation");
    if (generations.size() == 1) return std::make_shared<Single>(std::move(generations.front()));
    return std::make_shared<Several>(loop, std::move(generations));
}

}  // namespace hearth::api
