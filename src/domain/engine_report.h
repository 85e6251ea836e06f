// EngineReport: what an engine is doing at this moment, for people who look at
// a server. Filled by the engine thread between two steps; a plain value.
//
// Bounded whatever is inside: lists are cut at the limits below, and what was
// cut is counted. Prompt and answer text is never part of it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "domain/generate.h"

namespace hearth::domain {

inline constexpr std::uint32_t kReportSequencesMax = 1024;
inline constexpr std::uint32_t kReportStepsMax = 64;
inline constexpr std::uint32_t kReportTenantsMax = 256;
inline constexpr std::uint32_t kReportPublicMax = 16;
inline constexpr std::uint32_t kReportNumbersMax = 32;
inline constexpr std::uint32_t kReportNameBytesMax = 64;

enum class SequenceState : std::uint8_t {
    pending = 0,   // its prompt is computed by the first choice of its request
    prompt = 1,    // its prompt is being computed
    decoding = 2,  // it emits
    paused = 3,    // its reader is behind
    swapped = 4,   // its cells are in host memory
    parked = 5,    // others go first; it keeps its cells
};

[[nodiscard]] constexpr std::string_view to_string(SequenceState state) noexcept {
    switch (state) {
        case SequenceState::pending: return "pending";
        case SequenceState::prompt: return "prompt";
        case SequenceState::decoding: return "decoding";
        case SequenceState::paused: return "paused";
        case SequenceState::swapped: return "swapped";
        case SequenceState::parked: return "parked";
    }
    return "unknown";
}

// One open choice of a request that was admitted.
struct SequenceReport {
    RequestId request = 0;
    std::uint32_t choice = 0;
    std::int32_t sequence = -1;  // its id in the cache; -1: none
    SequenceState state = SequenceState::pending;
    Priority priority = Priority::normal;
    std::string tenant;
    std::uint32_t prompt_tokens = 0;
    std::uint32_t prompt_done = 0;    // computed or reused
    std::uint32_t cached_tokens = 0;  // of those, reused
    std::uint32_t decoded = 0;        // tokens emitted
    std::uint32_t remain = 0;         // tokens it may still emit
    bool speculative = false;         // tokens are guessed ahead
    bool operator==(SequenceReport const&) const = default;
};

// One batch.
struct StepReport {
    double ms = 0;
    std::uint32_t decodes = 0;        // sequences that emitted
    std::uint32_t prompts = 0;        // prompts of which a chunk was computed
    std::uint32_t prompt_tokens = 0;  // in those chunks
    bool operator==(StepReport const&) const = default;
};

struct TenantReport {
    std::string tenant;
    std::uint32_t running = 0;             // requests
    std::uint32_t waiting = 0;
    std::uint64_t computed_tokens = 0;     // prompt and answer, since the engine started
    std::uint64_t cells = 0;               // of the cache, that are its own
    std::uint64_t idle_cells = 0;          // of those, of no running request
    double cache_share = 0;                // part of all idle cells that it keeps, whoever wants room
    std::uint64_t memory_bytes = 0;        // of its prefixes in host memory, with any salt
    std::uint64_t disk_bytes = 0;          // and on disk
    bool operator==(TenantReport const&) const = default;
};

// Tokens guessed ahead, by who guessed them.
struct GuessReport {
    std::uint64_t drafted = 0;
    std::uint64_t accepted = 0;
    bool operator==(GuessReport const&) const = default;
};

// A second model that guesses for the first.
struct DraftReport {
    std::string name;                  // its architecture and quantization
    std::uint32_t sequences = 0;       // it guesses for
    std::uint64_t tokens = 0;          // in its cache, those kept for later too
    std::uint32_t kv_cells = 0;
    std::uint64_t memory_bytes = 0;    // estimate: weights + KV + scratch
    double belief = 0;                 // chance that a guess comes true, of late
    double purse_ms = 0;               // time it may lose before it stops
    std::uint64_t us_total = 0;        // it computed
    bool operator==(DraftReport const&) const = default;
};

struct EngineReport {
    std::vector<SequenceReport> sequences;
    std::uint32_t sequences_left_out = 0;
    std::array<std::uint32_t, kPriorityCount> waiting{};  // requests not admitted, by class
    std::vector<StepReport> steps;                        // the last ones, newest last
    std::vector<TenantReport> tenants;                    // those with most tokens computed
    std::uint32_t tenants_left_out = 0;
    std::uint64_t steps_total = 0;
    std::uint64_t step_us_total = 0;
    std::uint64_t interruptions_total = 0;  // steps given up for somebody more urgent
    double interruption_purse_ms = 0;       // computing that may be lost to them now
    std::uint64_t prompt_tokens_total = 0;  // of admitted requests
    std::uint64_t reused_tokens_total = 0;  // of those, not computed again
    std::uint64_t preemptions_total = 0;
    std::uint64_t evictions_total = 0;
    std::uint64_t tree_nodes = 0;
    std::uint64_t tree_cells = 0;
    std::uint64_t tree_idle_cells = 0;      // of those, of no running request
    std::uint64_t public_cells = 0;         // of the tree's: prefixes that all tenants share
    std::vector<std::uint32_t> public_prefixes;  // tokens of each, as configured; 0: the chat template has none
    std::uint32_t tree_sequences = 0;       // kept for prefixes alone
    std::uint32_t kv_cells = 0;
    std::uint32_t kv_reserved = 0;          // promised to prompts that are being computed
    std::uint32_t swapped = 0;              // sequences in host memory
    GuessReport by_text;                    // guesses from what was said before
    GuessReport by_model;                   // guesses of the draft model
    std::optional<DraftReport> draft;       // if there is one
    std::vector<std::pair<std::string, double>> cost;  // of the scheduler's model of a step, if it has one
    bool operator==(EngineReport const&) const = default;
};

}  // namespace hearth::domain
