#include "api/native/slots.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/native/engine.h"
#include "api/testing/fake_exchange.h"
#include "api/testing/fake_pool.h"
#include "api/testing/fake_services.h"

namespace hearth::api::native {
namespace {

using domain::SequenceState;

domain::SequenceReport sequence(domain::RequestId request, std::int32_t id, SequenceState state) {
    domain::SequenceReport out;
    out.request = request;
    out.sequence = id;
    out.state = state;
    return out;
}

serving::EngineView view(std::uint32_t instance, std::vector<domain::SequenceReport> sequences) {
    serving::EngineView out;
    out.instance = instance;
    out.report.emplace().sequences = std::move(sequences);
    return out;
}

serving::EngineView silent(std::uint32_t instance) {
    serving::EngineView out;
    out.instance = instance;
    return out;
}

// What each slot says of itself, in order: "id:state:task ".
std::string shown(std::string const& body) {
    std::string out;
    for (auto const& slot : nlohmann::json::parse(body)) {
        out += std::to_string(slot["id"].get<int>()) + ":" + slot["state"].get<std::string>();
        if (slot["is_processing"]) out += ":" + std::to_string(slot["id_task"].get<int>());
        out += " ";
    }
    return out;
}

std::string shown(std::vector<serving::EngineView> const& views, std::size_t count) {
    auto const calls = std::make_shared<CallList>();
    return shown(slots_body(*calls, views, count, 64));
}

TEST(Slots, AreWhereTheirIdsSayOrWhereThereIsRoom) {
    EXPECT_EQ(shown({view(0, {})}, 3), "0:idle 1:idle 2:idle ");
    EXPECT_EQ(shown({view(0, {sequence(7, 9, SequenceState::prompt), sequence(8, 1, SequenceState::decoding)})}, 3),
              "0:prompt:7 1:decoding:8 2:idle ");
}

TEST(Slots, ThoseInHostMemoryStandBehindAndTakeNoPlace) {
    auto const all = view(0, {sequence(5, -1, SequenceState::swapped), sequence(6, 0, SequenceState::parked),
                              sequence(7, -1, SequenceState::pending), sequence(8, -1, SequenceState::swapped)});
    EXPECT_EQ(shown({all}, 2), "0:parked:6 1:idle 2:swapped:5 3:swapped:8 ");
}

TEST(Slots, OfAllWorkersAreShownEachWithItsOwnIds) {
    auto const first = view(0, {sequence(5, -1, SequenceState::swapped), sequence(6, 1, SequenceState::decoding)});
    auto const third = view(2, {sequence(7, 0, SequenceState::prompt)});
    EXPECT_EQ(shown({first, silent(1), third}, 2), "0:idle 1:decoding:6 4:prompt:7 5:idle 6:swapped:5 ")
        << "the second may be anything";
}

// One model with so many workers, each of two places.
class Workers final : public FakePool {
public:
    [[nodiscard]] Result<serving::ModelStatus> status(std::string_view) const override {
        serving::ModelStatus model;
        model.id = "m";
        model.state = serving::ModelState::ready;
        model.info.emplace().sequences_max = 2;
        model.instances.resize(instances);
        return model;
    }
    [[nodiscard]] std::vector<serving::ModelStatus> models() const override { return {*status("m")}; }
    net::Task<Result<std::vector<serving::EngineView>>> engine_views(std::string, Duration) override {
        co_return views;
    }
    std::vector<serving::EngineView> views;
    std::size_t instances = 2;
};

class SeveralWorkers : public WithServices<Workers> {
protected:
    SeveralWorkers() { services.calls = std::make_shared<CallList>(); }

    using Handler = net::Task<void> (*)(Services&, http::Exchange&);
    http::Response answer_of(Handler handler, std::string query = {}) {
        FakeExchange exchange;
        exchange.request_.query = std::move(query);
        loop.spawn(handler(services, exchange));
        loop.run();
        return exchange.response_.value_or(http::Response{});
    }
};

std::vector<domain::SequenceReport> busy(domain::RequestId first) {
    return {sequence(first, 0, SequenceState::decoding), sequence(first + 1, 1, SequenceState::decoding)};
}

TEST_F(SeveralWorkers, AreFullWhenEachOfThemIs) {
    pool.views = {view(0, busy(1)), view(1, {sequence(3, 0, SequenceState::decoding)})};
    auto const free = answer_of(show_slots, "fail_on_no_slot=1");
    EXPECT_EQ(free.status, 200U);
    EXPECT_EQ(shown(free.body), "0:decoding:1 1:decoding:2 2:decoding:3 3:idle ");
    pool.views = {view(0, busy(1)), view(1, busy(3))};
    EXPECT_EQ(answer_of(show_slots, "fail_on_no_slot=1").status, 503U);
    EXPECT_EQ(answer_of(show_slots).status, 200U);
    pool.views = {silent(0), silent(1)};
    EXPECT_EQ(answer_of(show_slots).status, 503U);
}

TEST_F(SeveralWorkers, AreAllShownByTheirEngines) {
    pool.views = {view(0, busy(1)), view(1, {})};
    auto const both = nlohmann::json::parse(answer_of(show_engine).body)["models"][0];
    EXPECT_EQ(both["engine"]["sequences"].size(), 2U) << "the first";
    ASSERT_EQ(both["engines"].size(), 2U);
    EXPECT_EQ(both["engines"][0]["engine"], both["engine"]);
    EXPECT_EQ(both["engines"][1]["instance"], 1);
    EXPECT_TRUE(both["engines"][1]["engine"]["sequences"].empty());
    EXPECT_TRUE(both["engines"][1]["report_age_ms"].is_number());
    pool.views.erase(pool.views.begin());
    auto const second = nlohmann::json::parse(answer_of(show_engine).body)["models"][0];
    ASSERT_EQ(second["engines"].size(), 1U) << "the first is not ready";
    EXPECT_EQ(second["engines"][0]["instance"], 1);
    EXPECT_EQ(second["engine"], second["engines"][0]["engine"]);
    pool.instances = 0;
    auto const alone = nlohmann::json::parse(answer_of(show_engine).body)["models"][0];
    EXPECT_FALSE(alone.contains("engines")) << "there is one";
}

}  // namespace
}  // namespace hearth::api::native
