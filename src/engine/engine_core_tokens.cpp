// From logits to events: sampling, text, and how choices and requests end.
#include <optional>
#include <utility>

#include "base/assert.h"
#include "engine/engine_core.h"
#include "engine/logprobs.h"

namespace hearth::engine {

using domain::FinishReason;

namespace {
constexpr double kOutputsRemembered = 16;
constexpr std::uint32_t kHintTokens = 1024;

// Of a text that has no end the last kContextTokensMax tokens are remembered, at least.
void remember_said(std::vector<Token>& said, Token token) {
    if (said.size() == 2 * std::size_t{domain::kContextTokensMax})
        said.erase(said.begin(), said.begin() + domain::kContextTokensMax);
    said.push_back(token);
}

// What the request read and its choice 0 said.
std::vector<Token> context_of(Request const& request) {
    if (!request.spec.return_context || request.choices.empty()) return {};
    auto context = request.spec.prompt;
    auto const& said = request.choices.front().said;
    context.insert(context.end(), said.begin(), said.end());
    if (context.size() > domain::kContextTokensMax)
        context.erase(context.begin(), context.end() - static_cast<std::ptrdiff_t>(domain::kContextTokensMax));
    return context;
}
}  // namespace

void EngineCore::prompt_advanced(Request& request, std::size_t tokens, std::size_t logits_at) {
    auto const count = static_cast<std::uint32_t>(tokens);
    auto& choice = request.choices[0];
    ledger_.unreserve(count);
    extend(choice, std::span(request.spec.prompt).subspan(request.prompt_done, tokens));
    choice.positions += count;
    request.prompt_done += count;
    prompt_tokens_total_ += count;
    checkpoint_prompt(request);
    if (request.spec.return_prompt_progress) {
        push_event(request, domain::PromptProgress{request.prompt_size(), request.cached, request.prompt_done,
                                                   to_ms(now_ - request.admitted)});
    }
    if (request.prompt_done == request.prompt_size()) begin_generation(request, logits_at);
}

// All choices take their first token from the same logits.
void EngineCore::begin_generation(Request& request, std::size_t logits_at) {
    request.phase = Request::Phase::generating;
    request.first_token = now_;
    if (Status const forked = fork(request); !forked) {
        fail(request, forked.error());
        return;
    }
    auto const logits = backend_.logits(logits_at);
    for (auto& choice : request.choices) {
        if (request.phase == Request::Phase::ended) return;
        if (sample(request, choice, logits)) begin_drafting(request, choice);
    }
}

// What others said behind the same prompt is a good guess at what will be said.
void EngineCore::begin_drafting(Request& request, Choice& choice) {
    bool const can_go_back = backend_.properties().can_truncate || checkpoints_;
    if (!options_.speculation || !can_go_back || !request.spec.speculate) return;
    choice.drafter = std::make_unique<sched::NgramDrafter>();
    choice.drafter->hint(ledger_.tree().continuation(request.key, request.spec.prompt, kHintTokens));
    choice.drafter->append(request.spec.prompt);
    choice.drafter->append(std::span(&choice.next, 1));
}

// Row 0 is the sequence's next token, the others guesses. Each row's logits say
// what follows it; as long as that is what was guessed, the next row is valid too.
void EngineCore::decode_advanced(BatchItem const& item, std::size_t logits_at) {
    Request& request = *item.request;
    Choice& choice = request.choices[item.choice];
    auto const guesses = static_cast<std::uint32_t>(item.count - 1);
    std::uint32_t right = 0;
    bool const cuts = guesses == 0 || backend_.properties().can_truncate;
    auto const rows = std::span<llama::BatchEntry const>(batch_).subspan(item.begin, item.count);
    choice.ahead = guesses + (cuts ? 0 : 1);
    for (std::size_t row = 0;; ++row) {
        if (row > 0) {
            ++right;
            if (cuts) --choice.ahead;
        }
        bool const last = row == guesses;
        if (cuts) {
            extend(choice, std::span(&choice.next, 1));
            ++choice.positions;
        } else if (last) {
            keep_all(choice, rows);
        }
        bool const goes_on = sample(request, choice, backend_.logits(logits_at + row));
        if (goes_on && choice.drafter) choice.drafter->append(std::span(&choice.next, 1));
        if (last || !goes_on || rows[row + 1].token != choice.next) break;
    }
    if (!cuts && right < guesses) keep_some(request, choice, rows.first(right + 1U));
    if (guesses > 0) count_guesses(item, guesses, right);
    if (choice.state == Choice::State::live && choice.positions == request.spec.context) shift(request, choice);
}

void EngineCore::count_guesses(BatchItem const& item, std::uint32_t guesses, std::uint32_t right) {
    auto& request = *item.request;
    auto& choice = request.choices[item.choice];
    drop_guesses(choice);
    request.drafted += guesses;
    request.accepted += right;
    drafted_total_ += guesses;
    accepted_total_ += right;
    if (!item.by_model) {
        choice.acceptance.observe(item.match, guesses, right);
        return;
    }
    choice.draft.chance->observe(guesses, right);
    drafting_->policy.observe(guesses, right);
    drafting_->extra += right;
    drafting_->drafted_total += guesses;
    drafting_->accepted_total += right;
}

Status EngineCore::fork(Request& request) {
    auto& first = request.choices[0];
    for (std::size_t i = 1; i < request.choices.size(); ++i) {
        auto& choice = request.choices[i];
        // At the tail of the source: what models with recurrent state can copy, too.
        HEARTH_CHECK(
            backend_.copy_sequence(first.sequence, choice.sequence, static_cast<llama::Position>(first.positions)));
        choice.state = Choice::State::live;
        choice.node = ledger_.tree().pin({.node = first.node, .tokens = first.positions});
        choice.key = first.key;
        choice.positions = choice.noted = first.positions;
    }
    return ok();
}

void EngineCore::drop_guesses(Choice& choice) {
    if (std::exchange(choice.ahead, 0) == 0 || choice.sequence == kNoSequence) return;
    if (!backend_.properties().can_truncate) {
        go_back(choice);
        return;
    }
    auto const cut = backend_.remove(choice.sequence, static_cast<llama::Position>(choice.positions));
    HEARTH_ASSERT(cut.has_value(), "only sequences that can be cut speculate");
}

// False when the choice has ended with this token.
bool EngineCore::sample(Request& request, Choice& choice, std::span<float const> logits) {
    auto const sampled = choice.sampler.sample(logits, scratch_);
    if (!sampled) {
        fail(request, sampled.error());
        return false;
    }
    Token const token = *sampled;
    HEARTH_ASSERT(request.credit > 0, "only sequences with credit are in the batch");
    --request.credit;
    ++choice.tokens;
    ++generated_tokens_total_;
    if (request.spec.return_context && choice.index == 0) remember_said(choice.said, token);
    request.last_token = now_;

    domain::Delta delta;
    delta.choice = choice.index;
    delta.tokens = 1;
    if (request.spec.top_logprobs)
        delta.logprobs.push_back(make_logprob(logits, token, *request.spec.top_logprobs, backend_, scratch_));
    std::optional<FinishReason> reason;
    std::optional<std::size_t> stop;
    if (backend_.is_end_of_generation(token)) {
        reason = FinishReason::stop;
    } else {
        piece_.clear();
        passed_.clear();
        backend_.append_piece(token, piece_);
        stop = choice.stops.push(piece_, passed_);
        choice.carry.push(passed_, delta.text);
        if (stop) {
            reason = FinishReason::stop;
        } else if (choice.tokens == request.spec.tokens_max) {
            reason = FinishReason::length;
        }
    }
    if (!reason) {
        choice.next = token;
        choice.sampler.accept(token);
        push_event(request, std::move(delta));
        return true;
    }
    flush_text(choice, delta.text);
    push_event(request, std::move(delta));
    bool const named = stop && *stop < request.spec.named_stops;
    finish_choice(request, choice, *reason, named ? request.spec.stops->string(*stop) : std::string());
    return false;
}

// Appends what stop strings and code points held back.
void EngineCore::flush_text(Choice& choice, std::string& text) {
    passed_.clear();
    choice.stops.finish(passed_);
    choice.carry.push(passed_, text);
    choice.carry.finish(text);
}

void EngineCore::finish_choice(Request& request, Choice& choice, FinishReason reason, std::string stop_string) {
    if (reason != FinishReason::cancelled) output_mean_ += (choice.tokens - output_mean_) / kOutputsRemembered;
    release(request, choice);
    push_event(request, domain::ChoiceDone{choice.index, reason, std::move(stop_string)});
    if (--request.open == 0) finish(request);
}

void EngineCore::end_cancelled(Request& request) {
    if (!request.started()) {
        for (std::uint32_t i = 0; i < request.spec.choices; ++i)
            push_event(request, domain::ChoiceDone{i, FinishReason::cancelled, {}});
        finish(request);
        return;
    }
    for (auto& choice : request.choices) {
        if (choice.state == Choice::State::done) continue;
        domain::Delta rest;
        rest.choice = choice.index;
        flush_text(choice, rest.text);
        if (!rest.text.empty()) push_event(request, std::move(rest));
        finish_choice(request, choice, FinishReason::cancelled, {});
    }
}

void EngineCore::finish(Request& request) {
    domain::Usage usage;
    usage.prompt_tokens = request.prompt_size();
    usage.cached_tokens = request.cached;
    usage.left_out_tokens = request.spec.left_out;
    usage.context_shifts = request.shifts;
    usage.shifted_tokens = request.shifted;
    for (auto const& choice : request.choices) usage.completion_tokens += choice.tokens;
    push_event(request, domain::Done{usage, timings(request), context_of(request)});
    request.phase = Request::Phase::ended;
}

void EngineCore::fail(Request& request, Error error) {
    for (auto& choice : request.choices) {
        if (choice.state != Choice::State::done) release(request, choice);
    }
    request.open = 0;
    request.phase = Request::Phase::ended;
    push_event(request, domain::Failed{std::move(error)});
}

domain::Timings EngineCore::timings(Request const& request) const {
    domain::Timings timings;
    Instant const admitted = request.started() ? request.admitted : now_;
    timings.queue_ms = to_ms(admitted - request.spec.arrived);
    timings.cache_n = request.cached;
    timings.prompt_n = request.prompt_done - request.cached;
    timings.draft_n = request.drafted;
    timings.draft_n_accepted = request.accepted;
    for (auto const& choice : request.choices) timings.predicted_n += choice.tokens;
    if (timings.predicted_n == 0) {
        timings.prompt_ms = to_ms(now_ - admitted);
        return timings;
    }
    timings.prompt_ms = to_ms(request.first_token - admitted);
    timings.predicted_ms = to_ms(request.last_token - request.first_token);
    return timings;
}

}  // namespace hearth::engine
