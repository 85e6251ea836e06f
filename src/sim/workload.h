// Workload: which requests arrive, when, with which tokens, and what their
// clients do meanwhile.
//
// A prompt is a list of segments, each a seed and a number of tokens; equal
// seeds are equal tokens, so prefixes are shared exactly where a workload says
// so. Tokens are made when a request arrives: an hour of traffic is small.
//
// Plain values; no threads.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "domain/generate.h"
#include "traffic/trace.h"

namespace hearth::sim {

using domain::Token;

inline constexpr std::uint32_t kNoJob = std::numeric_limits<std::uint32_t>::max();

struct Segment {
    std::uint64_t seed = 0;
    std::uint32_t tokens = 0;
    bool operator==(Segment const&) const = default;
};

// One request and its client.
struct Job {
    double at_ms = 0;              // arrival; of a job with `after`: how long after that one's end
    std::uint32_t after = kNoJob;  // an earlier job of the same client, which has to end first
    bool continues = false;        // the prompt begins with the prompt and the answer of `after`; that one is greedy
    std::vector<Segment> prompt;
    std::uint32_t output_tokens = 1;  // at most
    std::uint32_t choices = 1;
    float temperature = 0;
    std::vector<std::string> stop;
    std::optional<std::uint32_t> top_logprobs;
    bool progress = false;  // return_prompt_progress
    std::uint32_t tenant = 0;
    std::uint32_t salt = 0;           // its cache_salt; 0: none
    std::uint32_t public_tokens = 0;  // leading tokens of the prompt that all tenants share
    domain::Priority priority = domain::Priority::normal;
    domain::Deadlines deadlines;
    bool cache_prompt = true;
    bool deterministic = false;
    bool shifts = false;  // context_overflow, with what it keeps and drops
    std::uint32_t keep_tokens = 0;
    std::optional<std::uint32_t> discard_tokens;
    std::optional<double> cancel_after_ms;  // after the arrival
    double reads_tokens_per_s = 0;          // 0: at once, whatever comes
};

struct Workload {
    std::string name;
    std::vector<Job> jobs;      // `after` names a smaller index
    std::uint64_t cut = 0;      // prompts that were cut to fit
};

// Appends the tokens of `segment`, each below `vocabulary`. REQUIRES: vocabulary > 0
void append_tokens(Segment segment, std::uint32_t vocabulary, std::vector<Token>& out);

// How a recorded trace becomes requests that fit a small model.
struct TraceShape {
    double time_scale = 1;                  // arrival times are multiplied by it
    double length_scale = 1;                // prompt and output lengths are multiplied by it
    std::uint32_t context = 8192;           // longer prompts are cut so that the answer fits too
    std::uint32_t tenants = 1;              // requests without shared blocks take turns over so many
    std::uint64_t seed = 1;
};

// Rows with block hashes share tokens block by block, as recorded.
[[nodiscard]] Workload trace_workload(std::vector<traffic::TraceRow> const& rows, TraceShape const& shape);

// The requests as JSON, for a client that plays them to a real server: {"name", "jobs": [{"at_ms", "after" (or null),
// "continues", "prompt": [[seed, tokens], ...], "output_tokens", "priority", "tenant"}]}. What else a job has
// (choices, cancels, slow readers) is left out.
[[nodiscard]] std::string to_json(Workload const& workload);

// Made-up traffic, by name.
struct ShapeInfo {
    std::string_view name;
    std::string_view help;
};
[[nodiscard]] std::span<ShapeInfo const> shapes();

struct ShapeOptions {
    std::uint32_t requests = 2000;  // about so many
    double rate_per_s = 0;          // arrivals where they are open; 0: the shape's own
    std::uint64_t seed = 1;
};

// Fails with invalid_argument for a name that is none of shapes().
[[nodiscard]] Result<Workload> shape_workload(std::string_view name, ShapeOptions const& options);

}  // namespace hearth::sim
