// Readers of published request traces: arrival times, lengths and, where the
// trace has them, the identities of the prompt's blocks.
//
// Formats: `azure`, the CSV of AzurePublicDataset (TIMESTAMP,ContextTokens,
// GeneratedTokens), and `mooncake`, JSON lines with timestamp in milliseconds,
// input_length, output_length, hash_ids (one per 512 prompt tokens).
//
// Files are input: every number is checked, and an error names the line.
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::traffic {

inline constexpr std::uint32_t kTraceRowsMax = 1'000'000;
inline constexpr std::uint32_t kTraceTokensMax = 10'000'000;  // per prompt or output
inline constexpr std::uint32_t kMooncakeBlockTokens = 512;

struct TraceRow {
    double at_s = 0;  // after the first row
    std::uint32_t prompt_tokens = 0;
    std::uint32_t output_tokens = 0;
    std::vector<std::uint64_t> blocks;  // empty: the prompt shares nothing
    bool operator==(TraceRow const&) const = default;
};

// At most `limit` rows, in the order of arrival.
// Fails with invalid_argument on a row that breaks the format.
[[nodiscard]] Result<std::vector<TraceRow>> read_azure(std::istream& in, std::uint32_t limit);
[[nodiscard]] Result<std::vector<TraceRow>> read_mooncake(std::istream& in, std::uint32_t limit);

// Picks the reader by the file's ending (.csv, .jsonl) unless `format` names one.
[[nodiscard]] Result<std::vector<TraceRow>> read_trace(std::string const& path, std::string_view format,
                                                       std::uint32_t limit);

}  // namespace hearth::traffic
