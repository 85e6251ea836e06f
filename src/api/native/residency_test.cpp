#include "api/native/residency.h"

#include <chrono>
#include <deque>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/library.h"
#include "api/testing/fake_exchange.h"
#include "api/testing/fake_pool.h"
#include "api/testing/fake_services.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::api::native {
namespace {

using Json = nlohmann::json;
using serving::ModelState;
using serving::ModelStatus;

// Has one model, which is at each look as it is said to be next, and stays as it was said last.
class OneModel final : public FakePool {
public:
    explicit OneModel(ManualClock& clock) : clock_(clock) {}

    [[nodiscard]] Result<ModelStatus> status(std::string_view) const override {
        clock_.advance(time_of_a_look);
        auto now = next.front();
        if (next.size() > 1) next.pop_front();
        return now;
    }

    net::Task<Status> swap(std::string, serving::ModelSpec, Duration) override {
        ++swaps;
        co_return ok();
    }

    mutable std::deque<ModelStatus> next;
    int swaps = 0;
    Duration time_of_a_look{};

private:
    ManualClock& clock_;
};

ModelStatus model(ModelState state, std::vector<std::pair<ModelState, std::int64_t>> const& workers = {}) {
    ModelStatus status;
    status.id = "m";
    status.state = state;
    for (auto const& [each, pid] : workers) {
        serving::InstanceStatus instance;
        instance.state = each;
        instance.pid = pid;
        status.instances.push_back(instance);
        if (each == state) status.pid = pid;
    }
    return status;
}

class Residency : public WithServices<OneModel> {
protected:
    Residency() {
        services.options.request_timeout = std::chrono::seconds(100);
        exchange.request_.parameters.emplace_back("name", "m");
    }

    using Handler = net::Task<void> (*)(Services&, http::Exchange&);
    Json answer_of(Handler handler) {
        loop.spawn(handler(services, exchange));
        loop.run();
        return exchange.response_ ? Json::parse(exchange.response_->body) : Json();
    }

    FakeExchange exchange;
};

TEST_F(Residency, AModelIsGoneWhenEachOfItsWorkersIs) {
    using enum ModelState;
    pool.next = {model(ready, {{ready, 11}, {ready, 12}}), model(unloading, {{cold, 0}, {unloading, 12}}),
                 model(unloading, {{cold, 0}, {unloading, 12}}), model(cold, {{cold, 0}, {cold, 0}})};
    EXPECT_EQ(answer_of(unload_model)["state"], "cold");
}

TEST_F(Residency, OneThatIsLoadedAgainWasGone) {
    using enum ModelState;
    pool.next = {model(ready, {{ready, 11}, {ready, 12}}), model(ready, {{ready, 13}, {unloading, 12}}),
                 model(ready, {{ready, 13}, {loading, 14}})};
    EXPECT_EQ(answer_of(unload_model)["instances"][1]["pid"], 14);
}

TEST_F(Residency, AWorkerWithoutAProcessNeitherStaysNorGoes) {
    using enum ModelState;
    pool.next = {model(ready, {{failed, 0}, {ready, 11}}), model(ready, {{failed, 0}, {ready, 13}})};
    EXPECT_EQ(answer_of(unload_model)["instances"][1]["pid"], 13);
}

TEST_F(Residency, WhatHadNoProcessIsGoneWhenItIsCold) {
    using enum ModelState;
    auto back = model(starting);
    back.pid = 99;
    pool.next = {model(restarting), model(restarting), back, model(cold)};
    EXPECT_EQ(answer_of(unload_model)["state"], "cold");
}

TEST_F(Residency, TheTimeOfALoadBeginsWithTheRequest) {
    pool.next = {model(ModelState::loading)};
    pool.time_of_a_look = std::chrono::seconds(60);  // the first is to find it
    EXPECT_EQ(answer_of(load_model)["error"]["code"], "request_timeout");
    EXPECT_EQ(clock.now(), Instant{} + std::chrono::seconds(120));
}

TEST_F(Residency, NothingIsLoadedForASwapWhoseTimeIsOver) {
    hearth::testing::TemporaryFolder folder, data;
    for (std::string const name : {"m.gguf", "n.gguf"})
        std::ofstream(folder / name, std::ios::binary) << models::testing::tiny_llama().build();
    library::Options options;
    options.folders = {folder.path()};
    options.data_folder = data.path();
    options.new_id = [] { return std::string("job"); };
    auto const spec_of = [](library::SpecOrder const& order) -> Result<serving::ModelSpec> {
        serving::ModelSpec spec;
        spec.path = order.path;
        return spec;
    };
    auto const opened = library::Library::create(loop, pool, *log, std::move(options), spec_of);
    ASSERT_TRUE(opened) << opened.error().message;
    services.library = opened->get();
    pool.next = {model(ModelState::cold)};
    exchange.request_.body = R"({"model": "n"})";
    EXPECT_EQ(answer_of(swap_model)["id"], "m");
    EXPECT_EQ(pool.swaps, 1);

    pool.time_of_a_look = std::chrono::seconds(200);  // of that, preparing it takes some
    exchange.response_.reset();
    EXPECT_EQ(answer_of(swap_model)["error"]["code"], "request_timeout");
    EXPECT_EQ(pool.swaps, 1);
}

TEST_F(Residency, NobodyWaitsForAClientThatLeft) {
    pool.next = {model(ModelState::loading)};
    exchange.leave();
    EXPECT_EQ(answer_of(load_model)["error"]["code"], "request_cancelled");
}

// What it says before and after the client has left.
net::Task<void> watch(FakeExchange& exchange, std::vector<bool>& waits) {
    Presence presence(exchange);
    jobs::Progress const progress;
    bool const before = co_await presence.see(progress);
    exchange.leave();
    bool const after = co_await presence.see(progress);
    waits = {before, after};
}

TEST_F(Residency, WhoWatchesAModelBeingMadeLeavesWithTheClient) {
    std::vector<bool> waits;
    loop.spawn(watch(exchange, waits));
    loop.run();
    EXPECT_EQ(waits, (std::vector<bool>{true, false}));
}

}  // namespace
}  // namespace hearth::api::native
