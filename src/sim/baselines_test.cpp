#include "sim/baselines.h"

#include <gtest/gtest.h>

namespace hearth::sim {
namespace {

// One request a second, one token of answer each.
Workload prompts(std::vector<std::vector<Segment>> texts) {
    Workload workload;
    for (auto& text : texts) {
        Job job;
        job.at_ms = 1000.0 * static_cast<double>(workload.jobs.size());
        job.prompt = std::move(text);
        workload.jobs.push_back(std::move(job));
    }
    return workload;
}

TEST(Baselines, AnUnboundedCacheComputesEachPrefixOnceAndEachLastToken) {
    auto const workload =
        prompts({{{1, 100}, {2, 50}}, {{1, 100}, {3, 50}}, {{1, 100}, {2, 50}}, {{1, 40}}, {{1, 100}, {2, 60}}});
    auto const result = unbounded_cache(workload);
    EXPECT_EQ(result.total, 150U + 150 + 150 + 40 + 160);
    EXPECT_EQ(result.computed, 150U + 50 + 1 + 1 + 10);
}

TEST(Baselines, TenantsShareNothing) {
    auto workload = prompts({{{1, 100}}, {{1, 100}}});
    workload.jobs[1].tenant = 1;
    EXPECT_EQ(unbounded_cache(workload).computed, 200U);
}

TEST(Baselines, AChatStandsOnItsPromptAndAnswer) {
    auto workload = prompts({{{1, 100}}, {{2, 10}}});
    workload.jobs[0].output_tokens = 30;
    workload.jobs[1].after = 0;
    workload.jobs[1].continues = true;
    EXPECT_EQ(unbounded_cache(workload).total, 100U + 140);
    EXPECT_EQ(unbounded_cache(workload).computed, 100U + 10);
}

TEST(Baselines, ASlotKnowsItsLastPromptAlone) {
    auto const workload = prompts({{{1, 100}}, {{2, 100}}, {{1, 100}}});
    EXPECT_EQ(llama_server(workload, {.slots = 1}).computed, 300U);
    EXPECT_EQ(llama_server(workload, {.slots = 2}).computed, 201U);
    EXPECT_EQ(llama_server(workload, {.slots = 2, .kv_cells = 150}).computed, 300U) << "the first slot was purged";
    EXPECT_EQ(llama_server(workload, {.slots = 1, .ram_cells = 1000}).computed, 201U) << "it was saved";
    EXPECT_EQ(llama_server(workload, {.slots = 1, .ram_cells = 50}).computed, 300U) << "it did not fit";
}

TEST(Baselines, ASlotIsTakenByUsersWhoShareAPrefixAndLosesTheRest) {
    // Alike by more than a tenth: the slot is taken over, and the first user comes back to the prefix alone.
    auto const workload = prompts({{{1, 100}, {2, 100}}, {{1, 100}, {3, 100}}, {{1, 100}, {2, 100}}});
    EXPECT_EQ(llama_server(workload, {.slots = 4}).computed, 200U + 100 + 100);
    EXPECT_EQ(unbounded_cache(workload).computed, 200U + 100 + 1);
}

}  // namespace
}  // namespace hearth::sim
