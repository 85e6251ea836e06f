// What the next step computes: one token of every sequence that runs, then as
// much of prompts as the step's target time leaves room for.
#include <algorithm>
#include <limits>

#include "engine/engine_core.h"

namespace hearth::engine {
namespace {

// Matrix kernels work on groups of so many tokens; a step that ends inside a
// group pays for the whole of it.
constexpr std::uint32_t kGroup = 16;

// Before the machine is known, so much of a prompt beside those that decode.
constexpr std::uint32_t kUnknownTokens = 64;

// Longer drafts than this hardly ever come true as a whole.
constexpr std::uint32_t kDraftMax = 16;

// So much of a prompt is computed in every step, whatever it costs: nobody starves.
constexpr std::uint32_t kLeastTokens = 4;

// Where one token of everybody takes more than a quarter of the target, the step may
// be longer, for the prompts' sake: up to so many times its target, kept by nine
// steps of ten.
constexpr double kDecodesShare = 0.25;
constexpr double kCrowdedStretch = 1.4;

// Beside sequences that decode, a step takes at most so many times as much of
// prompts as the one before it: the prediction may be wrong.
constexpr std::uint32_t kGrowthMax = 2;

// When nobody decodes, but others wait, a step may take so many times its target.
constexpr double kAloneStretch = 2;

// Streams wait for a step of prompts of a better class, if that one and their own
// together take no longer than so many times the target.
constexpr double kPassingStretch = 2;

// And if they would make it so many times as long.
constexpr double kPassingWorth = 1.2;

// A step in which a prompt is completed is filled up to this part of its target.
constexpr double kFilledUp = 0.5;

// Beside prompts, drafts take so much of the time that the target leaves after one
// token of everybody and a group of the first prompt: streams that repeat themselves
// pay off in any amount, and would keep the prompts out.
constexpr double kDraftsBesidePrompts = 0.25;

// A guess is worth so many times what it costs, at least: chances and costs are
// estimates, and where they are nearly equal there is nothing to be won.
constexpr double kDraftWorth = 1.25;

// Until steps with guesses have told what one costs, no more than this part of a
// token that is not guessed.
constexpr double kRowHoped = 0.25;

}  // namespace

// Live sequences that may emit a token, in order of age.
void EngineCore::list_runnable() {
    runnable_.clear();
    for (auto const& request : active_) {
        if (request->phase != Request::Phase::generating || request->parked || request->spec.pinned) continue;
        std::uint64_t credit = request->credit;
        request->planned = 0;
        auto const count = request->choices.size();
        // With less credit than choices they take turns.
        for (std::size_t i = 0; i < count && credit > 0; ++i) {
            auto& choice = request->choices[(i + steps_total_) % count];
            if (choice.state != Choice::State::live || !choice.refill.empty()) continue;
            runnable_.push_back({request.get(), &choice});
            --credit;
            ++request->planned;
        }
    }
}

// Prompts, and texts after a shift, that could be computed, best rank first.
void EngineCore::list_prompts() {
    prompts_.clear();
    for (auto const& request : active_) {
        if (!request->computes_text() || request->spec.pinned) continue;
        for (auto& choice : request->choices) {
            if (choice.state == Choice::State::live && request->missing(choice) > 0)
                prompts_.push_back({rank(*request), request.get(), &choice});
        }
    }
    std::sort(prompts_.begin(), prompts_.end(), [](Candidate const& a, Candidate const& b) { return a.rank < b.rank; });
}

// Live sequences, with text to compute or a token to say, that are computed alone.
void EngineCore::list_pinned() {
    pinned_.clear();
    for (auto const& request : active_) {
        if (!request->spec.pinned || request->idle()) continue;
        for (auto& choice : request->choices) {
            if (choice.state == Choice::State::live) pinned_.push_back({request.get(), &choice});
        }
    }
}

// A backend with a small batch leaves half of it to prompts, lest they starve.
// Sequences beyond the limit take turns: each step leaves out others.
std::size_t EngineCore::decodes_max() const {
    std::size_t const batch_max = backend_.properties().batch_max;
    bool const has_prompts =
        std::any_of(active_.begin(), active_.end(), [](auto const& request) { return request->computes_text(); });
    bool const share = has_prompts && !backend_.properties().mixing_saves_nothing;
    return share ? batch_max / 2 : batch_max;
}

void EngineCore::plan() {
    batch_.clear();
    items_.clear();
    shape_ = {};
    list_runnable();
    list_prompts();
    list_pinned();
    bool const others = !runnable_.empty() || !prompts_.empty();
    pinned_last_ = !pinned_.empty() && (!others || !pinned_last_);
    if (pinned_last_) {
        plan_pinned();
        return;
    }
    choose_adapters();
    auto& turn = turns_[adapters_];
    turn.passed_last = !turn.passed_last && let_best_pass();
    bool const streams_wait = !runnable_.empty() || others_stream_;
    bool const alternate = backend_.properties().mixing_saves_nothing && !runnable_.empty() && !prompts_.empty();
    bool const prompts_turn = alternate && turn.decoded_last;
    if (prompts_turn) {
        // Streams wait for this step and for the one after it, in which they get their tokens.
        target_ms_ = target_ms(decodes_ms()) - decodes_ms();
    } else {
        plan_decodes();
    }
    if (!prompts_.empty() && (!alternate || prompts_turn)) plan_prompts(streams_wait);
    if (streams_wait && shape_.prompt_tokens > 0) mixed_tokens_ = shape_.prompt_tokens;
    turn.decoded_last = shape_.decodes > 0;
}

// Rows of one batch share a set of adapters, and a change of the set has its price. So
// each set that has something to compute gets a turn of about the target time of a
// step, one after another: where a step is short, several of them. Leaves the others
// out of this step.
void EngineCore::choose_adapters() {
    others_stream_ = others_wait_ = false;
    if (backend_.properties().adapters.empty()) return;
    auto const set_of = [](auto const& each) { return each.request->spec.adapters; };
    std::vector<std::uint32_t> sets;
    sets.reserve(runnable_.size() + prompts_.size());
    for (auto const& each : runnable_) sets.push_back(set_of(each));
    for (auto const& each : prompts_) sets.push_back(set_of(each));
    if (sets.empty()) return;
    std::ranges::sort(sets);
    sets.erase(std::unique(sets.begin(), sets.end()), sets.end());
    bool const has_turn = std::ranges::binary_search(sets, adapters_);
    if (!has_turn || to_ms(now_ - turn_began_) >= options_.step_ms_target) {
        auto const next = std::ranges::upper_bound(sets, adapters_);
        adapters_ = next == sets.end() ? sets.front() : *next;
        turn_began_ = now_;
    }
    auto const is_other = [&](auto const& each) { return set_of(each) != adapters_; };
    others_stream_ = std::erase_if(runnable_, is_other) > 0;
    others_wait_ = std::erase_if(prompts_, is_other) > 0 || others_stream_;
}

// One of them: a token, or its text up to the next of the borders that lie where they always lie.
void EngineCore::plan_pinned() {
    auto const [request, choice] = pinned_[next_pinned_++ % pinned_.size()];
    if (auto const left = request->missing(*choice); left > 0) {
        push_prompt_chunk(*request, *choice, std::min(left, pinned_chunk_ - choice->positions % pinned_chunk_));
        return;
    }
    items_.push_back({request, choice->index, 0, 1, false});
    batch_.push_back({choice->next, static_cast<llama::Position>(choice->positions), choice->sequence, true});
    shape_.add_decode(choice->positions);
}

// Prompts of a better class than some that run or wait, short enough to be completed in a
// step without those, go first: beside many streams, or prompts, a first token would take much
// longer. Drops those who wait from this step; false if there are none.
bool EngineCore::let_best_pass() {
    if (prompts_.empty()) return false;
    auto const best = prompts_[0].rank.level;
    auto const worse = [&](Sequence const& sequence) { return level(*sequence.request) > best; };
    auto const is_worse = [&](Candidate const& candidate) { return candidate.rank.level > best; };
    bool const streams = std::any_of(runnable_.begin(), runnable_.end(), worse);
    auto const next = std::find_if(prompts_.begin(), prompts_.end(), is_worse);
    if (!streams && next == prompts_.end()) return false;
    double const waiting_ms = decodes_ms();
    sched::StepShape shape, mixed;
    for (auto const& sequence : runnable_) {
        mixed.add_decode(sequence.choice->positions);
        if (!worse(sequence)) shape.add_decode(sequence.choice->positions);
    }
    for (auto const& [rank, request, choice] : prompts_) {
        if (rank.level != best) continue;
        shape.add_prompt(request->missing(*choice), choice->positions);
        mixed.add_prompt(request->missing(*choice), choice->positions);
    }
    // Without streams the step would take prompts of others as well.
    if (!streams) mixed.add_prompt(next->request->missing(*next->choice), next->choice->positions);
    double const passing_ms = cost_.predict_ms(shape);
    if (cost_.predict_ms(mixed) < kPassingWorth * passing_ms) return false;
    if (waiting_ms + passing_ms > options_.step_ms_target * kPassingStretch) return false;
    std::erase_if(runnable_, worse);
    std::erase_if(prompts_, is_worse);
    return true;
}

// What a step of all that run takes.
double EngineCore::decodes_ms() const {
    sched::StepShape shape;
    for (auto const& sequence : runnable_) shape.add_decode(sequence.choice->positions);
    return cost_.predict_ms(shape);
}

// What a step is predicted to take at most where streams and prompts crowd it.
double EngineCore::crowded_ms() const {
    return options_.step_ms_target * std::max(1.0, kCrowdedStretch / cost_.margin());
}

// Of a step, beside so much for one token of everybody.
double EngineCore::target_ms(double decodes_ms) const {
    return std::clamp<double>(decodes_ms / kDecodesShare, options_.step_ms_target, crowded_ms());
}

// What is left for drafts beside the prompts that wait.
double EngineCore::drafts_end_ms(double decodes_ms) const {
    if (prompts_.empty()) return std::numeric_limits<double>::infinity();
    auto beside = shape_;
    beside.add_prompt(kGroup, prompts_.front().choice->positions);
    return decodes_ms + kDraftsBesidePrompts * std::max(0.0, target_ms_ - cost_.predict_ms(beside));
}

void EngineCore::plan_decodes() {
    std::size_t const count = std::min(runnable_.size(), decodes_max());
    auto& next = turns_[adapters_].next_decode;
    std::size_t const first = count < runnable_.size() ? next % runnable_.size() : 0;
    std::rotate(runnable_.begin(), runnable_.begin() + static_cast<std::ptrdiff_t>(first), runnable_.end());
    auto const planned = std::span<Sequence const>(runnable_).first(count);
    for (auto const& [request, choice] : planned) shape_.add_decode(choice->positions);
    double const decodes_ms = cost_.predict_ms(shape_);
    expected_ = {static_cast<double>(count), decodes_ms};
    target_ms_ = target_ms(decodes_ms);
    drafts_end_ms_ = drafts_end_ms(decodes_ms);
    auto rows = static_cast<std::uint32_t>(decodes_max() - count);  // what drafts may take
    rows = std::min(rows, ledger_.free() - std::min(ledger_.free(), static_cast<std::uint32_t>(count)));
    if (drafting_) rows -= guess_with_model(planned, rows);
    for (auto const& [request, choice] : planned) {
        std::size_t const begin = batch_.size();
        auto position = static_cast<llama::Position>(choice->positions);
        batch_.push_back({choice->next, position, choice->sequence, true});
        bool const by_model = !choice->draft.guesses.empty();
        auto const guess =
            by_model ? sched::NgramDrafter::Draft{choice->draft.guesses, 0} : draft(*request, *choice, rows);
        for (Token const token : guess.tokens) {
            batch_.push_back({token, ++position, choice->sequence, true});
            shape_.add_guess(static_cast<std::uint32_t>(position));
            if (by_model) drafting_->plain_less.add_guess(static_cast<std::uint32_t>(position));
        }
        if (!by_model) rows -= static_cast<std::uint32_t>(guess.tokens.size());
        items_.push_back({request, choice->index, begin, batch_.size() - begin, false, guess.match, by_model});
    }
    next = first + count;
}

// Of `rows`, what a choice may be guessed ahead.
std::uint32_t EngineCore::guesses_most(Request const& request, Choice const& choice, std::uint32_t rows) const {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>({kDraftMax, rows, request.credit - request.planned,
                                                               request.spec.tokens_max - choice.tokens - 1U,
                                                               request.spec.context - choice.positions - 1U}));
}

// What a guess costs in the step that verifies it.
double EngineCore::row_ms(Choice const& choice) const {
    sched::StepShape row;
    row.add_guess(choice.positions + 1);
    auto const weights = cost_.weights();
    return weights.per_decode + weights.per_attended * static_cast<double>(row.attended) / 1000;
}

// As many guessed tokens as are worth computing beside what the step computes
// already: each more is worth its chance of coming true, and costs its row; it
// pays as long as that is a better rate than the step's without it. A model that
// cannot cut what is wrong pays for that with a step more (keep_some()). It takes
// rows of several sequences in several passes, so it is guessed for only when alone.
sched::NgramDrafter::Draft EngineCore::draft(Request& request, Choice& choice, std::uint32_t rows) {
    bool const cuts = backend_.properties().can_truncate;
    if (!choice.drafter || (!cuts && shape_.decodes > 1)) return {};
    auto guess = choice.drafter->draft(guesses_most(request, choice, rows));
    // A token that ends the answer is never computed.
    auto const end = std::ranges::find_first_of(guess.tokens, end_tokens_);
    guess.tokens = guess.tokens.first(static_cast<std::size_t>(end - guess.tokens.begin()));
    double const chance = choice.acceptance.probability(guess.match);
    double const hoped = cost_.knows_guesses() ? 1 : kRowHoped;
    double const row = std::min(row_ms(choice), hoped * expected_.ms / expected_.tokens);
    double const miss = cuts ? 0 : (1 - chance) * expected_.ms;  // what a wrong guess costs, times how likely it is
    double reach = 1;  // the chance that all before it come true
    std::size_t count = 0;
    for (; count < guess.tokens.size(); ++count, reach *= chance) {
        double const gain = reach * chance;
        double const cost = row + reach * miss;
        if (expected_.ms + cost > drafts_end_ms_ || gain * expected_.ms <= kDraftWorth * cost * expected_.tokens) break;
        expected_.tokens += gain;
        expected_.ms += cost;
    }
    if (!cuts && count > 0 && !remember(choice)) count = 0;
    guess.tokens = guess.tokens.first(count);
    request.planned += count;
    return guess;
}

// A step that completes a prompt is not filled up with parts of others: its first
// token waits for the step. Alone, a request is cut by count, not by time, so that
// it is computed the same way each time.
void EngineCore::plan_prompts(bool streams_wait) {
    bool const alone = !streams_wait && !others_wait_ && prompts_.size() == 1 && waiting_.empty();
    auto const most = static_cast<std::uint32_t>(std::min<std::size_t>(
        streams_wait ? options_.mixed_tokens_max : prompt_tokens_, backend_.properties().batch_max));
    std::uint32_t grown = most;  // tokens of prompts
    if (streams_wait) grown = cost_.knows_prompts() ? kGrowthMax * std::max(kGroup, mixed_tokens_) : kUnknownTokens;
    double const spent = drafting_ ? drafting_->ms : 0;  // of this step's time, by guesses of a second model
    double const target = std::max((streams_wait ? target_ms_ : options_.step_ms_target * kAloneStretch) - spent, 0.0);
    bool completes = false;
    for (auto const& candidate : prompts_) {
        Request& request = *candidate.request;
        Choice const& choice = *candidate.choice;
        auto const left = request.missing(choice);
        auto const begin = static_cast<std::uint32_t>(batch_.size());
        auto const least = least_tokens(choice, begin);
        auto const room =
            std::max(std::min(most - std::min(most, begin), grown - std::min(grown, shape_.prompt_tokens)), least);
        auto chunk = std::min(left, room);
        if (!alone) {
            auto fits = cost_.tokens_within(target, shape_, chunk, choice.positions);
            if (completes && fits < left)
                fits = cost_.tokens_within(target * kFilledUp, shape_, chunk, choice.positions);
            chunk = std::min(chunk, std::max(fits, least));
        }
        if (chunk < left) {
            auto const beyond_group = (begin + chunk) % kGroup;
            chunk -= std::min(beyond_group, chunk - std::min(chunk, least));
        }
        chunk = chunk_within_borders(request, chunk);
        if (chunk == 0) return;
        push_prompt_chunk(request, choice, chunk);
        if (chunk < left) return;
        completes = true;
    }
}

// Of a prompt that is to be computed in this step, whatever it costs: a group where
// that is not far above the target.
std::uint32_t EngineCore::least_tokens(Choice const& choice, std::uint32_t begin) const {
    if (shape_.prompt_tokens >= kGroup) return 0;
    auto const group = std::min(kGroup - shape_.prompt_tokens, backend_.properties().batch_max - begin);
    auto const fits = cost_.tokens_within(crowded_ms(), shape_, group, choice.positions);
    return std::min(group, std::max(fits, shape_.prompt_tokens == 0 ? kLeastTokens : 0));
}

// What follows a text after a shift was sampled before it.
void EngineCore::push_prompt_chunk(Request& request, Choice const& choice, std::uint32_t tokens) {
    items_.push_back({&request, choice.index, batch_.size(), tokens, true});
    auto const& text = request.text_of(choice);
    bool const is_prompt = request.phase == Request::Phase::prompt;
    for (std::size_t i = 0; i < tokens; ++i) {
        std::size_t const at = choice.positions + i;
        batch_.push_back(
            {text[at], static_cast<llama::Position>(at), choice.sequence, is_prompt && at + 1 == text.size()});
    }
    shape_.add_prompt(tokens, choice.positions);
}

}  // namespace hearth::engine
