// Guesses of a second model: for whom, how many, and what they were worth.
//
// A sequence is guessed for by its own text (engine_core_plan.cpp) or by the
// draft model, whichever comes true more often for it. The draft model has to
// compute the prompt first; it does so beside the steps, where the answer is
// expected to be long enough to earn that.
#include <algorithm>
#include <utility>

#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

// Up to so many tokens are computed with the first guess; more are caught up on before.
constexpr std::uint32_t kBehindMax = 16;

// Tokens until it is asked again whether catching up pays.
constexpr std::uint32_t kAskAgainTokens = 16;

// Steps without a guess that pays, until a sequence is hoped for again.
constexpr std::uint32_t kIdleStepsMax = 256;

// So many times as fast as the other model a draft model is hoped to be.
constexpr double kHopedFaster = 8;

// Catching up is expected to be earned back so many times.
constexpr double kMargin = 1.25;

}  // namespace

void EngineCore::begin_draft_step(std::size_t planned) {
    auto& drafting = *drafting_;
    drafting.ms = drafting.caught_up_ms = 0;
    drafting.guesses = drafting.extra = 0;
    drafting.plain_less = {};
    drafting.token_ms = planned == 0 ? 0 : drafting.policy.plain_ms(shape_) / static_cast<double>(planned);
    drafting.wishes.clear();
    drafting.plans.clear();
    drafting.who.clear();
    for (auto const& [request, choice] : runnable_) choice->draft.guesses.clear();
}

// Leaves guesses in choices, as many as are worth their time. Returns the rows they take.
std::uint32_t EngineCore::guess_with_model(std::span<Sequence const> planned, std::uint32_t rows) {
    auto& drafting = *drafting_;
    begin_draft_step(planned.size());
    if (planned.empty() || rows == 0 || drafting.model.is_broken() || !drafting.policy.may_draft()) return 0;
    double ms_left = std::max(options_.step_ms_target - expected_.ms, expected_.ms / 2);
    ms_left = std::min(ms_left, std::max(0.0, drafts_end_ms_ - expected_.ms));
    auto const costs = draft_costs(*planned[0].choice, planned.size());
    for (auto const& sequence : planned) {
        auto& draft = sequence.choice->draft;
        if (!is_ready_to_draft(sequence, costs, ms_left)) continue;
        auto const most = std::min(options_.draft_max, guesses_most(*sequence.request, *sequence.choice, rows));
        if (most == 0) continue;
        drafting.plans.push_back({draft.chance->probability(), most});
        drafting.wishes.push_back({draft.slot, sequence.choice->drafter->text()});
        drafting.who.push_back(sequence);
    }
    sched::DraftPolicy::choose(draft_costs(*planned[0].choice, 1), ms_left, drafting.plans);
    std::uint32_t left = rows;
    for (std::size_t i = 0; i < drafting.wishes.size(); ++i) {
        auto& draft = drafting.who[i].choice->draft;
        auto& request = *drafting.who[i].request;
        auto const depth = static_cast<std::uint32_t>(
            std::min<std::uint64_t>({drafting.plans[i].depth, left, request.credit - request.planned}));
        drafting.wishes[i].depth = depth;
        left -= depth;
        request.planned += depth;
        if (depth > 0) {
            draft.idle = 0;
        } else if (++draft.idle >= kIdleStepsMax) {
            draft.idle = 0;
            draft.chance.emplace(drafting.policy.belief());
        }
    }
    std::erase_if(drafting.wishes, [](auto const& wish) { return wish.depth == 0; });
    if (!drafting.wishes.empty()) take_model_guesses(costs);
    drafting.ms = drafting.caught_up_ms + drafting.model.take_spent_ms();
    drafting.us_total += static_cast<std::uint64_t>(drafting.ms * 1000);
    return drafting.guesses;
}

// `sharing`: sequences among which a pass is divided.
sched::DraftCosts EngineCore::draft_costs(Choice const& choice, std::size_t sharing) const {
    auto const weights = drafting_->model.cost().weights();
    double const speed = draft_speed();
    bool const hopes = drafting_->drafted_total == 0;  // steps without guesses do not tell what a row costs
    return {.token_ms = drafting_->token_ms,
            .row_ms = hopes ? std::min(row_ms(choice), drafting_->token_ms / kHopedFaster) : row_ms(choice),
            .pass_ms = speed * weights.base / static_cast<double>(sharing),
            .guess_ms = speed * (weights.per_decode + weights.per_attended * (choice.positions + 2.0) / 1000)};
}

// Before the draft model was measured it is hoped to be fast: finding out costs a few passes.
double EngineCore::draft_speed() const {
    if (drafting_->model.is_measured()) return 1;
    auto const believed = drafting_->model.cost().weights();
    return std::min(1.0, drafting_->token_ms / (kHopedFaster * (believed.base + believed.per_decode)));
}

// Not where its own text is the better guide, which costs nothing to ask.
bool EngineCore::wants_model(Choice const& choice) const {
    auto const& draft = choice.draft;
    if (!choice.drafter || choice.tokens < draft.not_before) return false;
    auto const text = choice.drafter->text();
    if (text.size() != choice.positions + 1U || !drafting_->model.can_hold(text, options_.draft_max)) return false;
    auto const guess = choice.drafter->draft(1);
    double const chance = draft.chance ? draft.chance->probability() : drafting_->policy.belief();
    return guess.tokens.empty() || choice.acceptance.probability(guess.match) < chance;
}

// The draft model has computed its text, but for a few tokens; if that pays it goes
// on with it. Takes what it spends off `ms_left`.
bool EngineCore::is_ready_to_draft(Sequence sequence, sched::DraftCosts const& costs, double& ms_left) {
    auto& [request, choice] = sequence;
    auto& drafting = *drafting_;
    auto& draft = choice->draft;
    if (!wants_model(*choice)) return false;
    if (!draft.chance) draft.chance.emplace(drafting.policy.belief());
    auto const text = choice->drafter->text();
    auto const behind = drafting.model.behind(draft.slot, text);
    if (draft.slot != DraftModel::kNone && behind <= kBehindMax) return true;
    auto const left = request->spec.tokens_max - choice->tokens;
    auto const expected = expected_output(request->spec.tokens_max);
    double const still =
        std::min<double>(left, std::max(output_mean_ / 2, static_cast<double>(expected) - choice->tokens));
    double const earns = still * sched::DraftPolicy::saving_ms(costs, draft.chance->probability(), options_.draft_max);
    if (earns < kMargin * draft_speed() * drafting.model.cost().prompt_ms(behind, 0)) {
        draft.not_before = choice->tokens + kAskAgainTokens;
        return false;
    }
    if (draft.slot == DraftModel::kNone) draft.slot = drafting.model.take(text);
    if (draft.slot == DraftModel::kNone) {
        draft.not_before = choice->tokens + kAskAgainTokens;
        return false;
    }
    auto const lacks = drafting.model.behind(draft.slot, text);
    if (lacks <= kBehindMax) return true;
    auto const fits =
        drafting.model.cost().tokens_within(ms_left, {}, lacks, static_cast<std::uint32_t>(text.size()) - lacks);
    bool const could = drafting.model.catch_up(draft.slot, text, std::max(fits, kBehindMax));
    double const spent = drafting.model.take_spent_ms();
    drafting.caught_up_ms += spent;
    draft.debt_ms += spent;
    ms_left = std::max(ms_left - spent, 0.0);
    if (!could) {
        drop_draft(*choice);
        draft.not_before = choice->tokens + kAskAgainTokens;
    }
    return could && drafting.model.behind(draft.slot, text) <= kBehindMax;
}

void EngineCore::take_model_guesses(sched::DraftCosts const& costs) {
    auto& drafting = *drafting_;
    drafting.model.guess(drafting.wishes);
    for (auto& wish : drafting.wishes) {
        auto const who = std::find_if(drafting.who.begin(), drafting.who.end(),
                                      [&](Sequence const& one) { return one.choice->draft.slot == wish.slot; });
        auto& [request, choice] = *who;
        auto const count = static_cast<std::uint32_t>(wish.guesses.size());
        double chance = 1;
        for (std::uint32_t i = 0; i < count; ++i) expected_.tokens += chance *= choice->draft.chance->probability();
        expected_.ms += count * costs.row_ms;
        request->planned -= wish.depth - count;
        drafting.guesses += count;
        choice->draft.guesses = std::move(wish.guesses);
    }
}

// What the step gained by guesses pays first for what its sequences were caught up for.
void EngineCore::settle_drafts(double ms) {
    auto& drafting = *drafting_;
    if (drafting.guesses == 0) {
        drafting.policy.passed(shape_, ms, drafting.token_ms);
        return;
    }
    sched::StepShape plain = shape_;
    plain.decodes -= drafting.plain_less.decodes;
    plain.attended -= drafting.plain_less.attended;
    double const took = ms + drafting.ms - drafting.caught_up_ms;
    double gain = drafting.policy.drafted(plain, took, drafting.extra, drafting.token_ms);
    for (auto const& item : items_) {
        if (!item.by_model || gain <= 0) continue;
        auto& debt = item.request->choices[item.choice].draft.debt_ms;
        double const paid = std::min(debt, gain);
        debt -= paid;
        gain -= paid;
    }
    drafting.policy.book(gain);
}

// What was not earned back by then never will be.
void EngineCore::drop_draft(Choice& choice) {
    if (!drafting_) return;
    auto& draft = choice.draft;
    drafting_->model.give_back(std::exchange(draft.slot, DraftModel::kNone));
    drafting_->policy.book(-std::exchange(draft.debt_ms, 0.0));
}

}  // namespace hearth::engine
