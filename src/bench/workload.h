// Workload: which requests are sent, when, and with what text.
//
// A request's prompt is a list of segments, each a seed and a number of words;
// equal segments are equal text, so prefixes are shared exactly where a
// workload says so. Text is made when a request is sent, from its seeds alone:
// a plan of a million requests costs little memory, and a seed names a run.
//
// Plain values; no threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "traffic/random.h"
#include "traffic/trace.h"

namespace hearth::bench {

using traffic::Random;
using traffic::TraceRow;

inline constexpr std::uint32_t kRequestsMax = 1'000'000;
inline constexpr std::uint32_t kPromptWordsMax = 1'000'000;
inline constexpr std::uint32_t kOutputTokensMax = 1'000'000;

struct Segment {
    std::uint64_t seed = 0;
    std::uint32_t words = 0;
    bool operator==(Segment const&) const = default;
};

struct PlannedRequest {
    double at_s = 0;  // after the start; 0 in a closed loop
    std::uint32_t output_tokens = 0;
    std::vector<Segment> prompt;
    bool operator==(PlannedRequest const&) const = default;
};

using Plan = std::vector<PlannedRequest>;

// `count` words that look like prose, space between them; the first has none
// before it. Deterministic in `seed`.
void append_words(std::uint64_t seed, std::uint32_t count, std::string& out);

// The prompt's text: its segments, joined by spaces.
[[nodiscard]] std::string render(std::vector<Segment> const& prompt);

// Each of `requests` requests has a prompt of its own.
struct UniqueShape {
    std::uint32_t requests = 0;
    std::uint32_t words = 0;
    std::uint32_t output_tokens = 0;
    std::uint64_t seed = 0;
};
[[nodiscard]] Plan unique_plan(UniqueShape const& shape);

// Requests take turns over `groups` prefixes; what follows the prefix is their
// own. The order is shuffled, since users do not arrive sorted by prefix.
struct SharedPrefixShape {
    UniqueShape unique;  // .words follow the prefix
    std::uint32_t groups = 1;
    std::uint32_t prefix_words = 0;
};
[[nodiscard]] Plan shared_prefix_plan(SharedPrefixShape const& shape);

// Gives the requests of `plan` Poisson arrival times. REQUIRES: rate_per_s > 0
void arrive_poisson(Plan& plan, double rate_per_s, std::uint64_t seed);

// How a recorded trace becomes requests that fit the model under test.
struct ReplayShape {
    double time_scale = 1;    // arrival times are multiplied by it
    double length_scale = 1;  // prompt and output lengths are multiplied by it
    double words_per_token = 0.75;
    std::uint32_t prompt_words_max = kPromptWordsMax;     // longer prompts are cut
    std::uint32_t output_tokens_max = kOutputTokensMax;   // longer outputs are cut
    std::uint64_t seed = 0;
};
struct ReplayPlan {
    Plan plan;
    std::uint32_t prompts_cut = 0;
    std::uint32_t outputs_cut = 0;
};
// Rows with block hashes share text block by block, as recorded.
[[nodiscard]] ReplayPlan replay_plan(std::vector<TraceRow> const& rows, ReplayShape const& shape);

}  // namespace hearth::bench
