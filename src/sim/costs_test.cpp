#include "sim/costs.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace hearth::sim {
namespace {

constexpr char const* kReport = R"({"models":[{"id":"m","engine":{"steps":{"total":9,"last":[]},
  "cost":{"base_ms":2.5,"per_decode_ms":1.25,"per_prompt_token_ms":0.75,"per_1000_attended_ms":0.125}}}]})";

TEST(LearntCosts, AreFoundInTheReportOfAnEngine) {
    auto const costs = learnt_costs(kReport, {.save_us_per_cell = 7});
    ASSERT_TRUE(costs) << costs.error().message;
    EXPECT_EQ(costs->step_ms, 2.5);
    EXPECT_EQ(costs->row_ms, 1.25);
    EXPECT_EQ(costs->prompt_token_ms, 0.75);
    EXPECT_EQ(costs->attended_us, 0.125);
    EXPECT_EQ(costs->save_us_per_cell, 7);  // what no step teaches stays
}

TEST(LearntCosts, AreRefusedWhenOneIsMissingOrNoCost) {
    auto const refused = [](char const* json) { return learnt_costs(json, {}).error().message; };
    EXPECT_NE(refused("[]").find("cost"), std::string::npos);
    EXPECT_NE(refused("{").find("cost"), std::string::npos);
    EXPECT_NE(refused(R"({"base_ms":1,"per_decode_ms":1,"per_prompt_token_ms":1})").find("per_1000_attended_ms"),
              std::string::npos);
    EXPECT_NE(
        refused(R"({"base_ms":1,"per_decode_ms":-1,"per_prompt_token_ms":1,"per_1000_attended_ms":0})").find("-1"),
        std::string::npos);
    EXPECT_NE(
        refused(R"({"base_ms":0,"per_decode_ms":0,"per_prompt_token_ms":0,"per_1000_attended_ms":0})").find("nothing"),
        std::string::npos);
}

TEST(LearntCosts, OfAFileNameItInErrors) {
    auto const path = std::filesystem::temp_directory_path() / fmt::format("hearth-costs-{}.json", getpid());
    std::ofstream(path) << kReport;
    EXPECT_EQ(read_costs(path.string(), {})->step_ms, 2.5);
    std::ofstream(path) << std::string(kCostFileBytesMax + 1, ' ');
    EXPECT_NE(read_costs(path.string(), {}).error().message.find(path.string()), std::string::npos);
    std::filesystem::remove(path);
    EXPECT_EQ(read_costs(path.string(), {}).error().code, Code::io);
}

}  // namespace
}  // namespace hearth::sim
