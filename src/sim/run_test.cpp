#include "sim/run.h"

#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include "sim/policy.h"
#include "sim/report.h"

namespace hearth::sim {
namespace {

PolicyResult with_policy(Workload const& workload, std::string_view name, Setup setup = {}) {
    find_policy(name)->apply(setup, workload);
    return simulate(workload, setup, std::string(name), {});
}

Workload shape(std::string_view name, std::uint32_t requests) { return *shape_workload(name, {.requests = requests}); }

TEST(Simulation, EqualArgumentsGiveEqualResults) {
    auto const workload = shape("chat", 100);
    auto const first = with_policy(workload, "hearth");
    auto const again = with_policy(workload, "hearth");
    EXPECT_EQ(first.simulated_s, again.simulated_s);
    EXPECT_EQ(first.steps, again.steps);
    EXPECT_EQ(first.groups[0].ttft_ms.p99, again.groups[0].ttft_ms.p99);
}

TEST(Simulation, EveryShapeEndsUnderEveryPolicy) {
    for (auto const& info : shapes()) {
        auto const workload = shape(info.name, 60);
        for (auto const& policy : policies()) {
            auto const result = with_policy(workload, policy.name);
            EXPECT_FALSE(result.stuck) << info.name << " under " << policy.name;
            EXPECT_EQ(result.open, 0U);
            EXPECT_EQ(result.failed, 0U);
            EXPECT_EQ(result.groups[0].done + result.cancelled + result.refused + result.skipped, workload.jobs.size());
        }
    }
}

// docs/benchmarks measured the same order: bounded steps against llama-server's full batches.
TEST(Simulation, MixingBoundsTheGapsThatWholeBatchesOfPromptsTear) {
    auto const workload = shape("stall", 20);
    EXPECT_LT(10 * with_policy(workload, "hearth").groups[0].gap_ms.max,
              with_policy(workload, "fifo").groups[0].gap_ms.max);
}

TEST(Simulation, SharingAPrefixMakesTheFirstTokenComeSooner) {
    auto const workload = shape("shared", 60);
    auto const shared = with_policy(workload, "hearth");
    auto const alone = with_policy(workload, "no-cache");
    EXPECT_LT(5 * shared.groups[0].ttft_ms.median, alone.groups[0].ttft_ms.median);
    EXPECT_LT(5 * shared.computed_tokens, alone.computed_tokens);
}

TEST(Simulation, AnUnboundedCacheComputesWhatArithmeticSays) {
    auto const workload = shape("shared", 60);
    auto const computed = static_cast<double>(with_policy(workload, "unbounded").computed_tokens);
    auto const needed = static_cast<double>(unbounded_cache(workload).computed);
    EXPECT_NEAR(computed / needed, 1, 0.01);
}

TEST(Simulation, WhatLeavesTheCacheComesBackFromHostMemory) {
    auto const workload = shape("chat", 300);
    sim::Setup setup;
    setup.model.kv_cells = 6144;
    setup.model.context_request = 4096;
    auto const without = with_policy(workload, "hearth", setup);
    setup.engine.tiers.memory_bytes = 100'000 * kSavedBytesPerCell;
    auto const with = with_policy(workload, "hearth", setup);
    auto const again = with_policy(workload, "hearth", setup);
    EXPECT_LT(1.2 * static_cast<double>(with.computed_tokens), static_cast<double>(without.computed_tokens));
    EXPECT_EQ(with.failed, 0U);
    EXPECT_EQ(with.computed_tokens, again.computed_tokens);
    EXPECT_EQ(with.simulated_s, again.simulated_s);
}

// What the bench plays to a real server; docs/benchmarks has what was measured.
TEST(Simulation, PoliciesDifferOnMixedTraffic) {
    auto const workload = shape("mixed", 30);
    auto const ttft = [](PolicyResult const& result) { return result.groups[1].ttft_ms.median; };
    auto const hearth = with_policy(workload, "hearth");
    ASSERT_EQ(hearth.groups[1].name, "interactive");
    auto const no_cache = with_policy(workload, "no-cache");
    EXPECT_LT(2 * hearth.computed_tokens, 3 * no_cache.computed_tokens / 2);
    EXPECT_LT(ttft(hearth), ttft(no_cache));
    EXPECT_LT(hearth.groups[0].gap_ms.p99, with_policy(workload, "long-steps").groups[0].gap_ms.p99);
    EXPECT_LE(ttft(hearth), ttft(with_policy(workload, "plain")));
}

TEST(Simulation, TheRequestsAreWrittenForARealServer) {
    auto const json = to_json(shape("mixed", 12));
    EXPECT_NE(json.find(R"("priority":"interactive")"), std::string::npos);
    EXPECT_NE(json.find(R"("after":null)"), std::string::npos);
    EXPECT_NE(json.find(R"("after":0)"), std::string::npos);
    EXPECT_NE(json.find(R"([1000,300])"), std::string::npos) << "the system prompt of the clients";
}

TEST(Simulation, ASlowReaderAndACancelTakeTheirTime) {
    Workload workload;
    Job reader;
    reader.prompt = {{1, 10}};
    reader.output_tokens = 40;
    reader.reads_tokens_per_s = 1;
    Job leaver = reader;
    leaver.reads_tokens_per_s = 0;
    leaver.output_tokens = 1000;
    leaver.cancel_after_ms = 500;
    workload.jobs = {reader, leaver};
    sim::Setup setup;
    setup.engine.credit = 4;
    sim::Run run(workload, setup);
    while (run.advance()) {}
    EXPECT_EQ(run.outcomes()[0].end, End::done);
    EXPECT_GT(run.outcomes()[0].ended_ms, 5000) << "it was paused";
    EXPECT_EQ(run.outcomes()[1].end, End::cancelled);
    EXPECT_NEAR(run.outcomes()[1].ended_ms, 500, 200);
}

TEST(Simulation, NamesThatAreNoneAreErrorsThatListThem) {
    EXPECT_NE(find_policy("lifo").error().message.find("fifo"), std::string::npos);
    EXPECT_NE(shape_workload("chats", {}).error().message.find("chat"), std::string::npos);
}

TEST(Simulation, TheReportSpeaksTextAndJson) {
    Report report;
    report.workload = "chat";
    auto const workload = shape("chat", 40);
    report.policies.push_back(with_policy(workload, "hearth"));
    report.baselines.push_back({"an unbounded cache", unbounded_cache(workload)});
    EXPECT_NE(to_text(report).find("hit rate"), std::string::npos);
    EXPECT_NE(to_json(report).find("\"times_unbounded\""), std::string::npos);
}

TEST(Simulation, ThePublishedTraceRuns) {
    auto const* source = std::getenv("HEARTH_SOURCE_DIR");
    auto const path =
        std::filesystem::path(source == nullptr ? "." : source) / "../shared/data/traces/mooncake_conversation.jsonl";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no published trace at " << path;
    auto const rows = traffic::read_trace(path.string(), "", 400);
    ASSERT_TRUE(rows) << rows.error().message;
    auto const workload = trace_workload(*rows, {.time_scale = 2, .length_scale = 1.0 / 16});
    auto const result = with_policy(workload, "hearth");
    EXPECT_EQ(result.groups[0].done, workload.jobs.size());
    EXPECT_GT(result.cached_tokens, result.prompt_tokens / 50);
    RecordProperty("times_real_time", std::to_string(result.simulated_s / result.wall_s));
}

}  // namespace
}  // namespace hearth::sim
