#include <gtest/gtest.h>

#include "engine/testing/driver.h"

namespace hearth::engine {
namespace {

using domain::SequenceState;
using testing::Driver;
using testing::prompt_of;

llama::ScriptedOptions talkative(std::uint32_t sequences = 2) {
    llama::ScriptedOptions options;
    options.pieces = {"a"};
    options.repeat = true;
    options.sequences_max = sequences;
    return options;
}

domain::GenerateRequest request(std::size_t prompt, std::string tenant, domain::Priority priority) {
    auto out = prompt_of(prompt);
    out.tenant = std::move(tenant);
    out.priority = priority;
    out.max_tokens = 100;
    out.speculate = false;
    return out;
}

TEST(EngineReport, AnIdleEngineHasNothingToShow) {
    Driver driver(talkative());
    auto report = driver.core.report();
    EXPECT_EQ(report.kv_cells, 16384U);
    report.kv_cells = 0;
    EXPECT_EQ(report.cost.size(), 4U);
    report.cost.clear();
    EXPECT_EQ(report.interruption_purse_ms, sched::Interruption::kPurseMaxMs) << "it begins full";
    report.interruption_purse_ms = 0;
    EXPECT_EQ(report, domain::EngineReport{});
}

TEST(EngineReport, ShowsWhatRunsAndWhatWaits) {
    Driver driver(talkative());
    driver.submit(1, request(10, "t", domain::Priority::normal));
    driver.step();
    driver.step();
    driver.submit(2, request(1000, "u", domain::Priority::interactive));
    driver.submit(3, request(5, "t", domain::Priority::batch));
    driver.step();

    auto const report = driver.core.report();
    ASSERT_EQ(report.sequences.size(), 2U);
    auto const& first = report.sequences[0];
    EXPECT_EQ(first.request, 1U);
    EXPECT_GE(first.sequence, 0);
    EXPECT_EQ(first.state, SequenceState::decoding);
    EXPECT_EQ(first.prompt_tokens, 10U);
    EXPECT_EQ(first.prompt_done, 10U);
    EXPECT_EQ(first.decoded, 3U);
    EXPECT_EQ(first.remain, 97U);
    auto const& second = report.sequences[1];
    EXPECT_EQ(second.state, SequenceState::prompt);
    EXPECT_EQ(second.priority, domain::Priority::interactive);
    EXPECT_EQ(second.tenant, "u");
    EXPECT_GT(second.prompt_done, 0U);
    EXPECT_LT(second.prompt_done, 1000U);
    EXPECT_EQ(report.waiting, (std::array<std::uint32_t, 3>{0, 0, 1}));

    ASSERT_EQ(report.steps.size(), 3U);
    EXPECT_EQ(report.steps[0].prompt_tokens, 10U);
    EXPECT_EQ(report.steps[1], (domain::StepReport{0, 1, 0, 0}));
    EXPECT_EQ(report.steps[2].decodes, 1U);
    EXPECT_EQ(report.steps[2].prompts, 1U);
    EXPECT_EQ(report.steps[2].prompt_tokens, second.prompt_done);

    ASSERT_EQ(report.tenants.size(), 2U);
    auto const& busy = report.tenants[0].tenant == "u" ? report.tenants[0] : report.tenants[1];
    auto const& other = report.tenants[0].tenant == "u" ? report.tenants[1] : report.tenants[0];
    EXPECT_EQ(busy, (domain::TenantReport{"u", 1, 0, second.prompt_done, second.prompt_done, 0, 1}));
    EXPECT_EQ(other, (domain::TenantReport{"t", 1, 1, 12, 12, 0, 1}));
}

TEST(EngineReport, CountsWhatWasReused) {
    Driver driver(talkative(), {.prompt_tokens = 256});
    for (RequestId id = 1; id <= 2; ++id) {
        auto again = prompt_of(64);
        again.max_tokens = 1;
        driver.submit(id, again);
        driver.run();
    }
    auto const report = driver.core.report();
    EXPECT_EQ(report.prompt_tokens_total, 128U);
    EXPECT_EQ(report.reused_tokens_total, 63U);
    EXPECT_GT(report.tree_nodes, 0U);
    EXPECT_EQ(report.tree_cells, report.tree_idle_cells);
    EXPECT_EQ(report.evictions_total, 0U);
    driver.core.forget();
    EXPECT_GT(driver.core.report().evictions_total, 0U);
    EXPECT_EQ(driver.core.report().tree_cells, 0U);
}

TEST(EngineReport, RemembersTheLastStepsOnly) {
    Driver driver(talkative());
    driver.submit(1, request(10, "", domain::Priority::normal));
    driver.run();
    auto const report = driver.core.report();
    EXPECT_EQ(report.steps_total, 100U);
    ASSERT_EQ(report.steps.size(), domain::kReportStepsMax);
    for (auto const& step : report.steps) EXPECT_EQ(step.decodes, 1U);
    EXPECT_TRUE(report.sequences.empty());
}

}  // namespace
}  // namespace hearth::engine
