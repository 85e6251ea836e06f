#include "traffic/trace.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace hearth::traffic {
namespace {

constexpr char kAzureHeader[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

TEST(Trace, AzureRowsAreTimedFromTheFirst) {
    std::istringstream in(std::string(kAzureHeader) +
                          "2023-11-16 23:59:59.5000000,374,44\r\n2023-11-17 00:00:01.2500000,396,109\n\n");
    auto const rows = read_azure(in, 10);
    ASSERT_TRUE(rows) << rows.error().message;
    ASSERT_EQ(rows->size(), 2U);
    EXPECT_EQ((*rows)[0].prompt_tokens, 374U);
    EXPECT_EQ((*rows)[1].output_tokens, 109U);
    EXPECT_DOUBLE_EQ((*rows)[0].at_s, 0.0);
    EXPECT_NEAR((*rows)[1].at_s, 1.75, 1e-6);
}

TEST(Trace, RowsComeOutInOrderOfArrival) {
    std::istringstream in(
        "{\"timestamp\":3000,\"input_length\":1,\"output_length\":3}\n"
        "{\"timestamp\":1000,\"input_length\":1,\"output_length\":1}\n"
        "{\"timestamp\":1000,\"input_length\":1,\"output_length\":2}\n");
    auto const rows = read_mooncake(in, 10);
    ASSERT_TRUE(rows);
    ASSERT_EQ(rows->size(), 3U);
    EXPECT_EQ((*rows)[0].output_tokens, 1U);
    EXPECT_EQ((*rows)[1].output_tokens, 2U);
    EXPECT_DOUBLE_EQ((*rows)[2].at_s, 2.0);
}

TEST(Trace, AtMostTheLimitIsRead) {
    std::istringstream in("{\"timestamp\":0,\"input_length\":1,\"output_length\":3}\nnot read\n");
    EXPECT_EQ(read_mooncake(in, 1)->size(), 1U);
}

TEST(Trace, AzureRowsThatBreakTheFormatNameTheirLine) {
    for (auto row :
         {"2023-11-16 18:15:46.68,374", "2023-11-16 18:15:46.68,-1,4", "2023-11-16 18:15:46.68,3.5,4", "yesterday,1,2",
          "2023-02-30 18:15:46.68,1,2", "2023-11-16 25:15:46.68,1,2", "2023-11-16 18:15:46.68,1,99999999", ",,"}) {
        std::istringstream in(std::string(kAzureHeader) + "2023-11-16 18:15:46.68,1,2\n" + row + "\n");
        auto const rows = read_azure(in, 10);
        ASSERT_FALSE(rows) << row;
        EXPECT_EQ(rows.error().code, Code::invalid_argument);
        EXPECT_NE(rows.error().message.find("line 3"), std::string::npos) << rows.error().message;
    }
}

TEST(Trace, MooncakeRowsThatBreakTheFormatNameTheirLine) {
    for (auto row : {"[]", "{", "{\"timestamp\":0}", "{\"timestamp\":-1,\"input_length\":1,\"output_length\":1}",
                     "{\"timestamp\":0,\"input_length\":-1,\"output_length\":1}",
                     "{\"timestamp\":0,\"input_length\":1,\"output_length\":1e3}",
                     "{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":7}",
                     "{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":[\"x\"]}",
                     "{\"timestamp\":0,\"input_length\":513,\"output_length\":1,\"hash_ids\":[1]}"}) {
        std::istringstream in(std::string(row) + "\n");
        auto const rows = read_mooncake(in, 10);
        ASSERT_FALSE(rows) << row;
        EXPECT_NE(rows.error().message.find("line 1"), std::string::npos) << rows.error().message;
    }
}

TEST(Trace, AnEmptyTraceAndAnUnknownFormatAreErrors) {
    std::istringstream empty(kAzureHeader);
    EXPECT_FALSE(read_azure(empty, 10));
    std::istringstream headless("1,2,3\n");
    EXPECT_FALSE(read_azure(headless, 10));
    EXPECT_EQ(read_trace("/tmp/x.parquet", "", 1).error().param, "trace-format");
    EXPECT_EQ(read_trace("/nonexistent/x.csv", "", 1).error().param, "trace");
}

TEST(Trace, ThePublishedTracesAreReadWhole) {
    auto const* source = std::getenv("HEARTH_SOURCE_DIR");
    auto const folder = std::filesystem::path(source == nullptr ? "." : source) / "../shared/data/traces";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no published traces in " << folder;
    auto const azure = read_trace((folder / "azure_conv.csv").string(), "", kTraceRowsMax);
    ASSERT_TRUE(azure) << azure.error().message;
    EXPECT_GT(azure->size(), 10'000U);
    auto const mooncake = read_trace((folder / "mooncake_conversation.jsonl").string(), "", kTraceRowsMax);
    ASSERT_TRUE(mooncake) << mooncake.error().message;
    EXPECT_GT(mooncake->size(), 10'000U);
    EXPECT_EQ(mooncake->front().blocks.size(), 14U);
}

}  // namespace
}  // namespace hearth::traffic
