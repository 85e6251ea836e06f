#include "engine/engine_core.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/assert.h"

namespace hearth::engine {
namespace {

// Rows of a step in which a prompt is computed alone: by the model's size and threads, like prompt_chunk().
std::uint32_t pinned_chunk(llama::Properties const& properties) {
    return std::min(std::clamp(prompt_chunk(properties.info) / 8, 16U, 64U), properties.batch_max);
}

// A batch of inputs to embed, when nobody else computes: a newcomer waits no longer than a few steps.
constexpr double kEmbedTargets = 4;
constexpr std::uint32_t kGuessTokens = 100;  // of it, before one was measured

// Copies of any range and cuts, or checkpoints and one more sequence id; and an id
// beyond those that run: a request for all of these may stand on a prefix that has one.
bool can_cache(llama::Properties const& properties) {
    bool const cuts = properties.can_share_cells && properties.can_truncate;
    std::uint32_t const spare = properties.needs_checkpoints ? 1 : 0;
    return (cuts || properties.needs_checkpoints) && properties.sequences_max > properties.info.sequences_max + spare;
}

}  // namespace

EngineCore::EngineCore(llama::Backend& backend, Options const& options, Clock const& clock,
                       std::span<Token const> end_tokens, std::function<void()> on_ready)
    : backend_(backend),
      options_(options),
      clock_(clock),
      end_tokens_(end_tokens),
      caches_(options.prefix_cache && can_cache(backend.properties())),
      checkpoints_(caches_ && backend.properties().needs_checkpoints),
      ledger_(backend.properties().kv_cells, backend.properties().sequences_max),
      prompt_tokens_(options.prompt_tokens != 0 ? options.prompt_tokens : prompt_chunk(backend.properties().info)),
      pinned_chunk_(pinned_chunk(backend.properties())),
      cost_(first_guess(backend.properties().info)),
      share_(options.tenant_weights),
      embeddings_(backend, clock, cost_.prompt_ms(kGuessTokens, 0) / kGuessTokens),
      turns_(backend.properties().adapters.size() + 1),
      now_(clock.now()) {
    if (caches_ && Tiers::are_wanted(backend, options.tiers)) {
        auto tiers = options.tiers;
        tiers.tenant_weights = options.tenant_weights;
        tiers_ = std::make_unique<Tiers>(backend, std::move(tiers), end_tokens, std::move(on_ready));
    }
    backend_.heed(stop_);
    if (checkpoints_) spare_ = ledger_.take_id();
    for (auto const& [tenant, weight] : options.tenant_weights) ledger_.tree().set_weight(owner_of(tenant), weight);
}

EngineCore::~EngineCore() = default;

void EngineCore::guess_with(llama::Backend& draft) {
    HEARTH_ASSERT(!drafting_ && active_.empty(), "the draft model is there before the first request");
    drafting_ = std::make_unique<Drafting>(draft, backend_.properties(), clock_);
}

void EngineCore::add(PreparedRequest prepared) {
    share_.enter(prepared.tenant);
    if (!prepared.inputs.empty()) return embeddings_.add(std::move(prepared));
    auto request = std::make_unique<Request>(std::move(prepared));
    request->credit = std::max(options_.credit, request->spec.choices);
    bool const fresh = by_id_.emplace(request->spec.id, request.get()).second;
    HEARTH_ASSERT(fresh, "a request id is inside once");
    request->key = key_of(request->spec);
    auto const size_ms = cost_.prompt_ms(request->prompt_size(), 0);
    request->due = request->spec.arrived + std::chrono::microseconds(std::llround(size_ms * 1000));
    waiting_.push_back(std::move(request));
}

void EngineCore::cancel(RequestId id) {
    if (embeddings_.cancel(id)) return take_from_embeddings();
    Request* const request = find(id);
    if (request == nullptr) return;
    now_ = clock_.now();
    end_cancelled(*request);
    sweep();
}

void EngineCore::cancel_all() {
    now_ = clock_.now();
    embeddings_.cancel_all();
    take_from_embeddings();
    for (auto const& request : active_) end_cancelled(*request);
    for (auto const& request : waiting_) end_cancelled(*request);
    sweep();
}

void EngineCore::grant(RequestId id, std::uint64_t tokens) {
    if (Request* const request = find(id)) request->credit += tokens;
}

Request* EngineCore::find(RequestId id) const {
    auto const found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
}

bool EngineCore::has_work() const {
    if (!embeddings_.empty() || (tiers_ && tiers_->has_work())) return true;
    return std::any_of(waiting_.begin(), waiting_.end(),
                       [this](auto const& request) { return !waits_for_fetch(*request); }) ||
           std::any_of(active_.begin(), active_.end(), [](auto const& request) { return !request->paused(); }) ||
           lacks_room_ahead();
}

void EngineCore::step() {
    now_ = clock_.now();
    Instant const begin = now_;
    expire();
    sweep();
    admit_and_resume();
    make_room_for_decodes();
    plan();
    bool const computed = !batch_.empty() && run_batch();
    if (computed) no_room_ahead_ = false;
    // Beside a long step it is hardly noticed, and nobody is kept waiting who had a step given up.
    if (batch_.empty() || (computed && to_ms(now_ - begin) >= options_.step_ms_target / 2.0)) make_room_ahead();
    embed((batch_.empty() ? kEmbedTargets : 1) * options_.step_ms_target);
    note_progress();
    if (tiers_) tiers_->save_some(ledger_.tree(), batch_.empty() ? Tiers::Pace::idle : Tiers::Pace::beside_others);
    sweep();
}

// Inputs take turns with steps, so neither waits for all of the other's.
void EngineCore::embed(double ms) {
    auto const rank_of = [this](PreparedRequest const& spec) {
        return EmbeddingLine::Rank{aged(spec), account(spec), spec.arrived, spec.id};
    };
    embeddings_.take(ms, rank_of, [this](std::string const& tenant, double tokens) { share_.charge(tenant, tokens); });
    take_from_embeddings();
}

void EngineCore::take_from_embeddings() {
    for (auto& event : embeddings_.take_events()) events_.push_back(std::move(event));
    for (auto const& tenant : embeddings_.take_left()) share_.leave(tenant);
}

// False: the step was given up.
bool EngineCore::run_batch() {
    Instant const begin = clock_.now();
    Status const decoded = decode_batch();
    ++steps_total_;
    if (decoded) {
        double const ms = to_ms(now_ - begin);
        note_step(ms + (drafting_ ? drafting_->ms : 0));
        cost_.observe(shape_, ms);
        for (auto const& item : items_) {
            share_.charge(item.request->spec.tenant, static_cast<double>(item.count));
            advance(item, item.begin + item.count - 1);
        }
        if (drafting_) settle_drafts(ms);
        return true;
    }
    if (decoded.error().code == Code::cancelled) {
        ++interruptions_total_;
        return false;
    }
    bool const full = decoded.error().code == Code::overloaded;
    if (full && evict()) return true;
    auto const victim = full ? pick_any_victim() : std::nullopt;
    if (victim) {
        backend_full_ = true;
        swap_out(*victim);
    } else {
        run_one_by_one(decoded.error());
    }
    return true;
}

// hurry() may stop it.
Status EngineCore::decode_batch() {
    HEARTH_CHECK(backend_.use_adapters(items_.front().request->spec.adapters));
    std::uint32_t best = domain::kPriorityCount;
    for (auto const& item : items_) best = std::min(best, level(*item.request));
    {
        std::scoped_lock const lock(running_mutex_);
        // Whose mail was taken before this step was planned is in it.
        bool const hurried = std::exchange(hurried_, domain::kPriorityCount) < best;
        // Not two in a row: who comes may find no room, and others as well, for ever.
        held_up_ = hurried && !held_up_;
        if (held_up_) return Error(Code::cancelled, "somebody came who goes before this step");
        stop_.store(false, std::memory_order_relaxed);
        running_.begin(clock_.now(), cost_.predict_ms(shape_), best);
    }
    auto decoded = backend_.decode(batch_);
    now_ = clock_.now();
    std::scoped_lock const lock(running_mutex_);
    running_.end(now_, !decoded && decoded.error().code == Code::cancelled);
    stop_.store(false, std::memory_order_relaxed);
    return decoded;
}

bool EngineCore::hurry(domain::Priority priority) {
    auto const level = static_cast<std::uint32_t>(priority);
    std::scoped_lock const lock(running_mutex_);
    if (!running_.is_running()) hurried_ = std::min(hurried_, level);
    bool const worth =
        backend_.properties().can_interrupt && running_.is_worth(clock_.now(), level, backend_.decoded_share());
    if (worth) stop_.store(true, std::memory_order_relaxed);
    return worth;
}

// Nothing of the failed batch is in the cache. What made it fail is one
// request's, or the machine's: decoded alone, the innocent go on.
void EngineCore::run_one_by_one(Error const& error) {
    std::vector<Request*> requests;
    for (auto const& item : items_) {
        if (std::find(requests.begin(), requests.end(), item.request) == requests.end())
            requests.push_back(item.request);
    }
    if (requests.size() == 1) {
        fail(*requests[0], error);
        return;
    }
    for (Request* const request : requests) decode_alone(*request);
}

void EngineCore::decode_alone(Request& request) {
    alone_.clear();
    for (auto const& item : items_) {
        if (item.request != &request) continue;
        auto const first = batch_.begin() + static_cast<std::ptrdiff_t>(item.begin);
        alone_.insert(alone_.end(), first, first + static_cast<std::ptrdiff_t>(item.count));
    }
    auto decoded = backend_.use_adapters(request.spec.adapters);
    if (decoded) decoded = backend_.decode(alone_);
    now_ = clock_.now();
    if (!decoded) {
        fail(request, decoded.error());
        return;
    }
    std::size_t end = 0;
    for (auto const& item : items_) {
        if (item.request != &request) continue;
        end += item.count;
        advance(item, end - 1);
    }
}

void EngineCore::advance(BatchItem const& item, std::size_t logits_at) {
    auto& request = *item.request;
    if (request.phase == Request::Phase::ended) return;
    auto& choice = request.choices[item.choice];
    if (item.is_prompt && choice.refill.empty()) {
        prompt_advanced(request, item.count, logits_at);
        return;
    }
    if (item.is_prompt) {
        refill_advanced(choice, static_cast<std::uint32_t>(item.count));
        return;
    }
    decode_advanced(item, logits_at + 1 - item.count);
}

void EngineCore::sweep() {
    auto const ended = [this](std::unique_ptr<Request> const& request) {
        if (request->phase != Request::Phase::ended) return false;
        by_id_.erase(request->spec.id);
        share_.leave(request->spec.tenant);
        return true;
    };
    std::erase_if(active_, ended);
    std::erase_if(waiting_, ended);
}

domain::EngineStats EngineCore::stats() const {
    domain::EngineStats stats;
    stats.waiting = static_cast<std::uint32_t>(waiting_.size()) + embeddings_.waiting();
    stats.running = embeddings_.begun();
    for (auto const& request : active_) {
        std::uint32_t live = 0;
        for (auto const& choice : request->choices) live += choice.state == Choice::State::live ? 1 : 0;
        bool const runs = live > 0 && !request->parked;
        stats.running += runs ? live : 0;
        stats.waiting += runs ? 0 : 1;
    }
    stats.kv_used = ledger_.used();
    stats.kv_cached = static_cast<std::uint32_t>(ledger_.tree().reclaimable());
    stats.kv_cells = backend_.properties().kv_cells;
    report_tiers(stats);
    stats.steps_total = steps_total_;
    stats.prompt_tokens_total = prompt_tokens_total_ + embeddings_.tokens_total();
    stats.generated_tokens_total = generated_tokens_total_;
    stats.preemptions_total = preemptions_total_;
    stats.interruptions_total = interruptions_total_;
    stats.shifts_total = shifts_total_;
    stats.shifted_tokens_total = shifted_tokens_total_;
    stats.drafted_total = drafted_total_;
    stats.accepted_total = accepted_total_;
    if (drafting_) {
        stats.model_drafted_total = drafting_->drafted_total;
        stats.model_accepted_total = drafting_->accepted_total;
        stats.draft_us_total = drafting_->us_total;
    }
    stats.swapped = count_swapped();
    stats.prefix_nodes = static_cast<std::uint32_t>(ledger_.tree().nodes());
    stats.evictions_total = history_.evictions();
    stats.step_us_total = history_.step_us() + embeddings_.us_total();
    return stats;
}

}  // namespace hearth::engine
