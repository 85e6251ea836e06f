#include "serving/flight.h"

#include "base/assert.h"
#include "serving/model.h"

namespace hearth::serving {
namespace {

struct Ends {
    std::shared_ptr<Flight> flight;
    std::weak_ptr<Model> model;
    bool over = false;  // the terminal event was taken

    domain::Event take() {
        auto event = std::move(flight->events.front());
        flight->events.pop_front();
        over = domain::is_terminal(event);
        if (auto const* delta = std::get_if<domain::Delta>(&event)) {
            auto const owner = model.lock();
            if (owner) owner->taken(*flight, delta->tokens);
        }
        return event;
    }
};

// Free functions, so that a caller that goes away while one of them is about to
// resume leaves nothing dangling.
net::Task<domain::Event> next_of(std::shared_ptr<Ends> ends) {
    while (ends->flight->events.empty()) co_await ends->flight->arrived.wait();
    co_return ends->take();
}

net::Task<std::optional<domain::Event>> next_of_within(std::shared_ptr<Ends> ends, Duration timeout) {
    if (!ends->flight->events.empty()) co_return ends->take();
    Instant const deadline = std::chrono::steady_clock::now() + timeout;
    for (Duration left = timeout; ends->flight->events.empty(); left = deadline - std::chrono::steady_clock::now()) {
        if (left <= Duration::zero()) co_return std::nullopt;
        co_await ends->flight->arrived.wait_for(left);
    }
    co_return ends->take();
}

class GenerationOfFlight final : public Generation {
public:
    GenerationOfFlight(std::shared_ptr<Flight> flight, std::weak_ptr<Model> model)
        : ends_(std::make_shared<Ends>(std::move(flight), std::move(model))) {}
    ~GenerationOfFlight() override {
        ends_->flight->consumed = false;
        cancel();
    }
    GenerationOfFlight(GenerationOfFlight const&) = delete;
    GenerationOfFlight& operator=(GenerationOfFlight const&) = delete;

    [[nodiscard]] RequestId id() const override { return ends_->flight->id; }
    net::Task<domain::Event> next() override {
        HEARTH_ASSERT(!ends_->over, "nothing follows a terminal event");
        return next_of(ends_);
    }
    net::Task<std::optional<domain::Event>> next_within(Duration timeout) override {
        HEARTH_ASSERT(!ends_->over, "nothing follows a terminal event");
        return next_of_within(ends_, timeout);
    }
    std::optional<domain::Event> try_next() override {
        if (ends_->flight->events.empty()) return std::nullopt;
        return ends_->take();
    }
    void cancel() override {
        auto const owner = ends_->model.lock();
        if (owner) owner->cancel(*ends_->flight);
    }
    [[nodiscard]] Waiting waiting() const override {
        auto const owner = ends_->model.lock();
        return owner ? owner->waiting(*ends_->flight) : Waiting{};
    }

private:
    std::shared_ptr<Ends> const ends_;
};

}  // namespace

std::unique_ptr<Generation> make_generation(std::shared_ptr<Flight> flight, std::weak_ptr<Model> model) {
    return std::make_unique<GenerationOfFlight>(std::move(flight), std::move(model));
}

}  // namespace hearth::serving
