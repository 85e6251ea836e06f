#include "engine/engine_core.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace hearth::engine {
namespace {

// Matrix kernels work on groups of so many tokens; a step that ends inside a
// group pays for the whole of it.
constexpr std::size_t kGroup = 16;

constexpr std::uint32_t kMixedTokensStart = 64;
constexpr std::size_t kHintTokensMin = 64;         // shorter steps say too little about the cost per token

StepBudget make_budget(std::uint32_t min, std::uint32_t start, std::uint32_t max, std::uint32_t target_ms) {
    return StepBudget({.min = std::min(min, max),
                       .start = std::clamp(start, std::min(min, max), max),
                       .max = max,
                       .target_ms = static_cast<double>(target_ms)});
}

// Copies of any range, cuts, and a sequence id beyond those that run: a request
// for all of these may stand on a prefix that has one.
bool can_cache(llama::Properties const& properties) {
    return properties.can_share_cells && properties.can_truncate &&
           properties.sequences_max > properties.info.sequences_max;
}

}  // namespace

EngineCore::EngineCore(llama::Backend& backend, Options const& options, Clock const& clock,
                       std::span<Token const> end_tokens)
    : backend_(backend),
      options_(options),
      clock_(clock),
      end_tokens_(end_tokens),
      caches_(options.prefix_cache && can_cache(backend.properties())),
      ledger_(backend.properties().kv_cells, backend.properties().sequences_max),
      prompt_tokens_(options.prompt_tokens != 0 ? options.prompt_tokens : prompt_chunk(backend.properties().info)),
      mixed_budget_(make_budget(options.mixed_tokens_min, kMixedTokensStart, options.mixed_tokens_max,
                                options.mixed_step_ms_target)),
      now_(clock.now()) {}

void EngineCore::add(PreparedRequest prepared) {
    auto request = std::make_unique<Request>(std::move(prepared));
    request->credit = std::max(options_.credit, request->spec.choices);
    bool const fresh = by_id_.emplace(request->spec.id, request.get()).second;
    HEARTH_ASSERT(fresh, "a request id is inside once");
    request->space = space_of(request->spec);
    waiting_.push_back(std::move(request));
}

void EngineCore::cancel(RequestId id) {
    Request* const request = find(id);
    if (request == nullptr) return;
    now_ = clock_.now();
    end_cancelled(*request);
    sweep();
}

void EngineCore::cancel_all() {
    now_ = clock_.now();
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
    return !waiting_.empty() ||
           std::any_of(active_.begin(), active_.end(), [](auto const& request) { return !request->paused(); });
}

void EngineCore::step() {
    if (restore_swapped()) admit_waiting();
    make_room_for_decodes();
    batch_.clear();
    items_.clear();
    plan_decodes();
    plan_prompts();
    if (!batch_.empty()) run_batch();
    sweep();
}

// Live sequences that may emit a token, in order of age.
void EngineCore::list_runnable() {
    runnable_.clear();
    for (auto const& request : active_) {
        if (request->phase != Request::Phase::generating) continue;
        std::uint64_t credit = request->credit;
        auto const count = request->choices.size();
        // With less credit than choices they take turns.
        for (std::size_t i = 0; i < count && credit > 0; ++i) {
            auto& choice = request->choices[(i + steps_total_) % count];
            if (choice.state != Choice::State::live) continue;
            runnable_.push_back({request.get(), &choice});
            --credit;
        }
    }
}

// A backend with a small batch leaves half of it to prompts, lest they starve.
// Sequences beyond the limit take turns: each step leaves out others.
std::size_t EngineCore::decodes_max() const {
    auto const& properties = backend_.properties();
    std::size_t batch_max = properties.batch_max;
    if (properties.decodes_max != 0) batch_max = std::min<std::size_t>(batch_max, properties.decodes_max);
    bool const has_prompts = std::any_of(active_.begin(), active_.end(), [](auto const& request) {
        return request->phase == Request::Phase::prompt && request->choices[0].state == Choice::State::live;
    });
    return has_prompts ? std::min<std::size_t>(batch_max, properties.batch_max / 2) : batch_max;
}

void EngineCore::plan_decodes() {
    list_runnable();
    std::size_t const count = std::min(runnable_.size(), decodes_max());
    std::size_t const first = count < runnable_.size() ? next_decode_ % runnable_.size() : 0;
    for (std::size_t i = 0; i < count; ++i) {
        auto const [request, choice] = runnable_[(first + i) % runnable_.size()];
        items_.push_back({request, choice->index, batch_.size(), 1, false});
        batch_.push_back({choice->next, static_cast<llama::Position>(choice->positions), choice->sequence, true});
    }
    next_decode_ = first + count;
    decodes_ = count;
}

void EngineCore::plan_prompts() {
    std::size_t budget =
        decodes_ == 0 ? prompt_tokens_ : std::max<std::size_t>(mixed_budget_.tokens(), decodes_ + kGroup);
    budget = std::min<std::size_t>(budget, backend_.properties().batch_max);
    for (auto const& request : active_) {
        if (request->phase != Request::Phase::prompt || request->choices[0].state != Choice::State::live) continue;
        std::size_t const left = request->prompt_size() - request->prompt_done;
        std::size_t const room = budget - batch_.size();
        std::size_t chunk = std::min(left, room);
        if (chunk < left) {
            std::size_t const beyond_group = budget % kGroup;
            chunk -= beyond_group < chunk ? beyond_group : 0;
        }
        if (chunk == 0) return;
        push_prompt_chunk(*request, chunk);
        if (chunk < left) return;
    }
}

void EngineCore::push_prompt_chunk(Request& request, std::size_t tokens) {
    items_.push_back({&request, 0, batch_.size(), tokens, true});
    auto const sequence = request.choices[0].sequence;
    for (std::size_t i = 0; i < tokens; ++i) {
        std::size_t const at = request.prompt_done + i;
        batch_.push_back({request.spec.prompt[at], static_cast<llama::Position>(at), sequence,
                          at + 1 == request.spec.prompt.size()});
    }
}

void EngineCore::run_batch() {
    Instant const begin = clock_.now();
    Status const decoded = backend_.decode(batch_);
    now_ = clock_.now();
    ++steps_total_;
    if (decoded) {
        for (auto const& item : items_) advance(item, item.begin + item.count - 1);
        observe(to_ms(now_ - begin));
        return;
    }
    bool const full = decoded.error().code == Code::overloaded;
    if (full && evict()) return;
    auto const victim = full ? pick_victim() : std::nullopt;
    if (victim) {
        backend_full_ = true;
        swap_out(*victim);
    } else {
        run_one_by_one(decoded.error());
    }
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
    Status const decoded = backend_.decode(alone_);
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
    if (item.is_prompt) {
        prompt_advanced(request, item.count, logits_at);
        return;
    }
    auto& choice = request.choices[item.choice];
    extend(choice, std::span(&choice.next, 1));
    ++choice.positions;
    sample(request, choice, backend_.logits(logits_at));
}

void EngineCore::observe(double ms) {
    if (items_.size() == decodes_) return;
    auto const tokens = static_cast<std::uint32_t>(batch_.size());
    if (decodes_ > 0) {
        mixed_budget_.observe(tokens, ms);
        return;
    }
    if (tokens >= kHintTokensMin) mixed_budget_.hint(tokens, ms);
}

void EngineCore::sweep() {
    auto const ended = [this](std::unique_ptr<Request> const& request) {
        if (request->phase != Request::Phase::ended) return false;
        by_id_.erase(request->spec.id);
        return true;
    };
    std::erase_if(active_, ended);
    std::erase_if(waiting_, ended);
}

domain::EngineStats EngineCore::stats() const {
    domain::EngineStats stats;
    stats.waiting = static_cast<std::uint32_t>(waiting_.size());
    for (auto const& request : active_) {
        std::uint32_t live = 0;
        for (auto const& choice : request->choices) live += choice.state == Choice::State::live ? 1 : 0;
        stats.running += live;
        stats.waiting += live == 0 ? 1 : 0;
    }
    stats.kv_used = ledger_.used();
    stats.kv_cached = static_cast<std::uint32_t>(ledger_.tree().reclaimable());
    stats.kv_cells = backend_.properties().kv_cells;
    stats.steps_total = steps_total_;
    stats.prompt_tokens_total = prompt_tokens_total_;
    stats.generated_tokens_total = generated_tokens_total_;
    stats.preemptions_total = preemptions_total_;
    return stats;
}

}  // namespace hearth::engine
