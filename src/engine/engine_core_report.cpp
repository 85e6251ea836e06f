// What the core tells of itself: stats for every pong, a report when asked.
#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

using domain::SequenceState;

SequenceState state_of(Request const& request, Choice const& choice) {
    switch (choice.state) {
        case Choice::State::pending: return SequenceState::pending;
        case Choice::State::swapped: return SequenceState::swapped;
        case Choice::State::live:
        case Choice::State::done: break;
    }
    if (request.parked) return SequenceState::parked;
    if (request.phase == Request::Phase::prompt || !choice.refill.empty()) return SequenceState::prompt;
    return request.paused() ? SequenceState::paused : SequenceState::decoding;
}

domain::SequenceReport describe(Request const& request, Choice const& choice) {
    domain::SequenceReport out;
    out.request = request.spec.id;
    out.choice = choice.index;
    out.sequence = choice.sequence;
    out.state = state_of(request, choice);
    out.priority = request.spec.priority;
    out.tenant = request.spec.tenant;
    out.prompt_tokens = request.prompt_size();
    out.prompt_done = request.prompt_done;
    out.cached_tokens = request.cached;
    out.decoded = choice.tokens;
    out.speculative = choice.drafter != nullptr;
    out.remain = request.spec.tokens_max - std::min(choice.tokens, request.spec.tokens_max);
    return out;
}

}  // namespace

void EngineCore::note_step(double ms) {
    domain::StepReport step;
    step.ms = std::isfinite(ms) ? ms : 0;
    for (auto const& item : items_) {
        history_.computed(item.request->spec.tenant, item.count);
        if (!item.is_prompt) {
            ++step.decodes;
            continue;
        }
        ++step.prompts;
        step.prompt_tokens += static_cast<std::uint32_t>(item.count);
    }
    history_.step(step);
}

std::uint32_t EngineCore::count_swapped() const {
    std::uint32_t swapped = 0;
    for (auto const& request : active_) {
        for (auto const& choice : request->choices) swapped += choice.state == Choice::State::swapped ? 1 : 0;
    }
    return swapped;
}

domain::EngineReport EngineCore::report() const {
    domain::EngineReport out;
    report_sequences(out);
    report_tenants(out);
    for (auto const& request : waiting_) ++out.waiting[static_cast<std::size_t>(request->spec.priority)];
    auto const& tree = ledger_.tree();
    out.steps = history_.steps();
    out.steps_total = steps_total_;
    out.step_us_total = history_.step_us();
    out.interruptions_total = interruptions_total_;
    out.interruption_purse_ms = running_.purse_ms();
    out.prompt_tokens_total = history_.prompt_tokens();
    out.reused_tokens_total = history_.reused_tokens();
    out.preemptions_total = preemptions_total_;
    out.evictions_total = history_.evictions();
    out.tree_nodes = tree.nodes();
    out.tree_cells = tree.cells();
    out.tree_idle_cells = tree.reclaimable();
    out.public_cells = tree.holding(sched::PrefixTree::kEverybody).cells;
    out.tree_sequences = tree.kept();
    out.kv_cells = backend_.properties().kv_cells;
    out.kv_reserved = ledger_.reserved();
    out.swapped = count_swapped();
    report_drafts(out);
    auto const weights = cost_.weights();
    out.cost = {{"base_ms", weights.base},
                {"per_decode_ms", weights.per_decode},
                {"per_prompt_token_ms", weights.per_prompt},
                {"per_1000_attended_ms", weights.per_attended}};
    std::erase_if(out.cost, [](auto const& term) { return !std::isfinite(term.second); });
    return out;
}

void EngineCore::report_drafts(domain::EngineReport& out) const {
    out.by_text = {drafted_total_, accepted_total_};
    if (!drafting_) return;
    auto const& drafting = *drafting_;
    out.by_model = {drafting.drafted_total, drafting.accepted_total};
    out.by_text.drafted -= out.by_model.drafted;
    out.by_text.accepted -= out.by_model.accepted;
    auto const& info = drafting.model.backend().properties().info;
    auto const finite = [](double value) { return std::isfinite(value) ? value : 0; };
    out.draft = domain::DraftReport{
        .name = (info.architecture + " " + info.quantization).substr(0, domain::kReportNameBytesMax),
        .sequences = drafting.model.held(),
        .tokens = drafting.model.tokens(),
        .kv_cells = info.kv_cells,
        .memory_bytes = info.memory_bytes,
        .belief = finite(drafting.policy.belief()),
        .purse_ms = finite(drafting.policy.purse_ms()),
        .us_total = drafting.us_total};
}

void EngineCore::report_sequences(domain::EngineReport& out) const {
    for (auto const& request : active_) {
        for (auto const& choice : request->choices) {
            if (choice.state == Choice::State::done) continue;
            if (out.sequences.size() < domain::kReportSequencesMax) out.sequences.push_back(describe(*request, choice));
            else ++out.sequences_left_out;
        }
    }
}

void EngineCore::report_tenants(domain::EngineReport& out) const {
    std::map<std::string, domain::TenantReport> tenants;
    for (auto const& [name, tokens] : history_.tenants()) tenants[name].computed_tokens = tokens;
    for (auto const& request : active_) ++tenants[request->spec.tenant].running;
    for (auto const& request : waiting_) ++tenants[request->spec.tenant].waiting;
    for (auto const& [name, owner] : owners_) {
        auto const holding = ledger_.tree().holding(owner);
        if (holding.cells == 0 && !tenants.contains(name)) continue;
        auto& tenant = tenants[name];
        tenant.cells = holding.cells;
        tenant.idle_cells = holding.unused;
        tenant.cache_share = holding.share;
    }
    for (auto& [name, tenant] : tenants) {
        tenant.tenant = name;
        out.tenants.push_back(std::move(tenant));
    }
    auto const more = [](domain::TenantReport const& a, domain::TenantReport const& b) {
        return std::pair(b.computed_tokens, std::string_view(a.tenant)) <
               std::pair(a.computed_tokens, std::string_view(b.tenant));
    };
    std::sort(out.tenants.begin(), out.tenants.end(), more);
    if (out.tenants.size() > domain::kReportTenantsMax) {
        out.tenants_left_out = static_cast<std::uint32_t>(out.tenants.size()) - domain::kReportTenantsMax;
        out.tenants.resize(domain::kReportTenantsMax);
    }
    if (!tiers_) return;
    for (auto& tenant : out.tenants) tiers_->report(tenant);
}

}  // namespace hearth::engine
