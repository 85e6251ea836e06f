#include "api/native/slots.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

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

// What each slot says of itself, in order: "id:state:task ".
std::string shown(domain::EngineReport const& report, std::size_t count) {
    auto const calls = std::make_shared<CallList>();
    auto const slots = nlohmann::json::parse(slots_body(*calls, report, count, 64));
    std::string out;
    for (auto const& slot : slots) {
        out += std::to_string(slot["id"].get<int>()) + ":" + slot["state"].get<std::string>();
        if (slot["is_processing"]) out += ":" + std::to_string(slot["id_task"].get<int>());
        out += " ";
    }
    return out;
}

TEST(Slots, AreWhereTheirIdsSayOrWhereThereIsRoom) {
    domain::EngineReport report;
    EXPECT_EQ(shown(report, 3), "0:idle 1:idle 2:idle ");
    report.sequences = {sequence(7, 9, SequenceState::prompt), sequence(8, 1, SequenceState::decoding)};
    EXPECT_EQ(shown(report, 3), "0:prompt:7 1:decoding:8 2:idle ");
}

TEST(Slots, ThoseInHostMemoryStandBehindAndTakeNoPlace) {
    domain::EngineReport report;
    report.sequences = {sequence(5, -1, SequenceState::swapped), sequence(6, 0, SequenceState::parked),
                        sequence(7, -1, SequenceState::pending), sequence(8, -1, SequenceState::swapped)};
    EXPECT_EQ(shown(report, 2), "0:parked:6 1:idle 2:swapped:5 3:swapped:8 ");
}

}  // namespace
}  // namespace hearth::api::native
