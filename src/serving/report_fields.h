// The fields of the engine's report, as protocol.cpp has those of other frames.
// Private to the protocol.
#pragma once

#include <cmath>

#include "domain/engine_report.h"
#include "serving/field_io.h"

namespace hearth::serving {

// Smallest encoding of one element: bounds what a count may claim.
inline constexpr std::size_t kStringBytes = 4;
inline constexpr std::size_t kSequenceBytes = 8 + 4 + 4 + 1 + 1 + kStringBytes + std::size_t{5} * 4 + 1;
inline constexpr std::size_t kStepBytes = 8 + std::size_t{3} * 4;
inline constexpr std::size_t kTenantBytes = kStringBytes + std::size_t{2} * 4 + std::size_t{4} * 8;
inline constexpr std::size_t kNumberBytes = kStringBytes + 8;

template <typename Io, typename T>
void finite(Io& io, T& value, char const* field) {
    io.number(value);
    io.check(std::isfinite(value), field);
}

template <typename Io, typename T>
void request_id(Io& io, T& value) {
    io.number(value);
    io.check(value != 0, "request id 0");
}

template <typename Io, Is<domain::SequenceReport> T>
void fields(Io& io, T& sequence) {
    request_id(io, sequence.request);
    io.number(sequence.choice);
    io.check(sequence.choice < domain::kChoicesMax, "choice");
    io.number(sequence.sequence);
    io.enumeration(sequence.state, domain::SequenceState::parked, "state of a sequence");
    io.enumeration(sequence.priority, domain::Priority::batch, "priority");
    io.bytes(sequence.tenant);
    io.number(sequence.prompt_tokens);
    io.number(sequence.prompt_done);
    io.number(sequence.cached_tokens);
    io.number(sequence.decoded);
    io.number(sequence.remain);
    io.flag(sequence.speculative);
}

template <typename Io, Is<domain::EngineReport> T>
void fields(Io& io, T& report) {
    io.list(report.sequences, domain::kReportSequencesMax, kSequenceBytes, "number of sequences",
            [](auto& inner, auto& sequence) { fields(inner, sequence); });
    io.number(report.sequences_left_out);
    for (auto& count : report.waiting) io.number(count);
    io.list(report.steps, domain::kReportStepsMax, kStepBytes, "number of steps", [](auto& inner, auto& step) {
        finite(inner, step.ms, "step ms");
        inner.number(step.decodes);
        inner.number(step.prompts);
        inner.number(step.prompt_tokens);
    });
    io.list(report.tenants, domain::kReportTenantsMax, kTenantBytes, "number of tenants",
            [](auto& inner, auto& tenant) {
                inner.bytes(tenant.tenant);
                inner.number(tenant.running);
                inner.number(tenant.waiting);
                inner.number(tenant.computed_tokens);
                inner.number(tenant.cells);
                inner.number(tenant.idle_cells);
                finite(inner, tenant.cache_share, "share of the cache");
                inner.number(tenant.memory_bytes);
                inner.number(tenant.disk_bytes);
            });
    io.number(report.tenants_left_out);
    io.number(report.steps_total);
    io.number(report.step_us_total);
    io.number(report.interruptions_total);
    finite(io, report.interruption_purse_ms, "purse of interruptions");
    io.number(report.prompt_tokens_total);
    io.number(report.reused_tokens_total);
    io.number(report.preemptions_total);
    io.number(report.evictions_total);
    io.number(report.tree_nodes);
    io.number(report.tree_cells);
    io.number(report.tree_idle_cells);
    io.number(report.public_cells);
    io.list(report.public_prefixes, domain::kReportPublicMax, 4, "number of public prefixes",
            [](auto& inner, auto& tokens) { inner.number(tokens); });
    io.number(report.tree_sequences);
    io.number(report.kv_cells);
    io.number(report.kv_reserved);
    io.number(report.swapped);
    for (auto* guesses : {&report.by_text, &report.by_model}) {
        io.number(guesses->drafted);
        io.number(guesses->accepted);
    }
    io.optional(report.draft, [](auto& inner, auto& draft) {
        inner.text(draft.name, domain::kReportNameBytesMax, "name of a draft model");
        inner.number(draft.sequences);
        inner.number(draft.tokens);
        inner.number(draft.kv_cells);
        inner.number(draft.memory_bytes);
        finite(inner, draft.belief, "belief in a draft model");
        finite(inner, draft.purse_ms, "purse of a draft model");
        inner.number(draft.us_total);
    });
    io.list(report.cost, domain::kReportNumbersMax, kNumberBytes, "number of cost terms", [](auto& inner, auto& term) {
        inner.text(term.first, domain::kReportNameBytesMax, "name of a cost term");
        finite(inner, term.second, "cost term");
    });
}

}  // namespace hearth::serving
