#include "engine/tiers.h"

#include <algorithm>
#include <utility>

namespace hearth::engine {
namespace {

constexpr std::size_t kEndsMax = 64;
constexpr std::size_t kSpacesMax = 8192;

// Less is quicker computed than looked after.
constexpr std::uint32_t kSaveMin = 16;
constexpr std::uint32_t kVictimMin = 32;
constexpr std::uint32_t kFetchMin = 32;

// A copy of so many bytes is a step's delay that nobody notices.
constexpr std::uint64_t kIdleSliceBytes = 8U << 20;
constexpr std::uint64_t kBusySliceBytes = 2U << 20;
constexpr std::uint32_t kSliceMin = 32;
constexpr std::uint32_t kSliceMax = 512;
// What goes on is saved every so many tokens, with a state that is large less often.
constexpr std::uint32_t kProgressTokens = 256;
constexpr std::uint64_t kStateBytesPerToken = 32U << 10;
constexpr std::uint64_t kStateTokensMax = 4096;

// The last chunks of a prompt and what was said behind it are probably gone on from.
constexpr std::size_t kNearEnd = 512;
// And without any other reason there is a state every so many tokens.
constexpr std::uint32_t kStateGap = 1024;

constexpr std::uint32_t kVictimTokensMax = 4096;  // of one eviction; the beginning is worth most

kvstore::Options completed(kvstore::Options options, llama::Backend const& backend, std::function<void()> on_ready) {
    options.state_key = backend.state_key();
    if (options.state_key.empty()) options.folder.reset();
    options.on_ready = std::move(on_ready);
    return options;
}

}  // namespace

Tiers::Tiers(llama::Backend& backend, kvstore::Options options, std::span<domain::Token const> end_tokens,
             std::function<void()> on_ready)
    : backend_(backend),
      store_(kvstore::Store::create(completed(std::move(options), backend, std::move(on_ready)))),
      end_tokens_(end_tokens),
      states_(backend.properties().needs_checkpoints) {}

void Tiers::know(Tree::Space space, kvstore::Space const& stored, Tree const& tree) {
    if (spaces_.size() >= kSpacesMax)
        std::erase_if(spaces_, [&tree](auto const& entry) { return !tree.knows(entry.first); });
    spaces_.emplace(space, stored);
}

void Tiers::note(Tree const& tree, Tree::NodeId node, Tree::Key const& key, std::vector<std::byte> state) {
    auto const known = spaces_.find(key.space);
    if (known == spaces_.end() || !store_->writes()) return;
    End end{key, known->second, tree.text(node), std::move(state)};
    // What was noted of the same text before is in this.
    std::erase_if(ends_, [&end](End const& before) {
        return before.key.space == end.key.space && before.text.size() <= end.text.size() &&
               std::equal(before.text.begin(), before.text.end(), end.text.begin());
    });
    if (ends_.size() >= kEndsMax) ends_.pop_front();
    ends_.push_back(std::move(end));
}

std::uint32_t Tiers::progress_tokens() const {
    return kProgressTokens + static_cast<std::uint32_t>(std::min(state_bytes_ / kStateBytesPerToken, kStateTokensMax));
}

void Tiers::save_some(Tree const& tree, Pace pace) {
    if (!has_work()) return;
    auto const& end = ends_.front();
    auto const match = tree.find(end.key, end.text);  // some of it may have been evicted since
    bool const whole = match.tokens == end.text.size();
    Source const source{end.stored, std::span(end.text).first(match.tokens), tree, match.node,
                        whole ? std::span<std::byte const>(end.state) : std::span<std::byte const>()};
    auto const tokens_max = slice(pace == Pace::idle ? kIdleSliceBytes : kBusySliceBytes);
    bool const more = match.tokens > 0 && save_next(source, tokens_max, kvstore::Keep::until_written);
    if (!more) ends_.pop_front();
}

void Tiers::save_victim(Tree const& tree) {
    auto const victim = tree.victim();
    if (victim == Tree::kNone) return;
    auto const known = spaces_.find(tree.space_of(victim));
    if (known == spaces_.end() || tree.depth(victim) < kVictimMin) return;
    auto const text = tree.text(victim);
    auto const step = slice(kIdleSliceBytes);
    Source const source{known->second, text, tree, victim, {}};
    for (std::uint32_t saved = 0; saved < kVictimTokensMax; saved += step) {
        if (!save_next(source, step, kvstore::Keep::while_room)) return;
    }
}

bool Tiers::save_next(Source const& source, std::uint32_t tokens_max, kvstore::Keep keep) {
    return (states_ && save_state(source, keep)) || save_slice(source, tokens_max, keep);
}

// One of those whose cells are stored already.
bool Tiers::save_state(Source const& source, kvstore::Keep keep) {
    auto const stored = store_->find(source.space, source.text);
    for (auto const node : source.tree.states(source.node)) {
        auto const depth = source.tree.depth(node);
        if (depth > stored) break;
        if (!is_wanted(source, node) || store_->has_state(source.space, source.text.first(depth))) continue;
        auto const checkpoint = source.tree.checkpoint(node);
        std::vector<std::byte> state(checkpoint.begin(), checkpoint.end());
        if (state.empty()) {
            // A request's own sequence may be ahead of the tree.
            auto const holder = source.tree.kept_holder(node);
            if (holder == sched::kNoHolder) continue;
            auto taken = backend_.checkpoint(holder);
            if (!taken) {
                failed();
                return false;
            }
            state = *std::move(taken);
        }
        return put_state(source, depth, std::move(state), keep);
    }
    bool const own =
        !source.state.empty() && stored == source.text.size() && !store_->has_state(source.space, source.text);
    return own && put_state(source, stored, {source.state.begin(), source.state.end()}, keep);
}

bool Tiers::put_state(Source const& source, std::uint32_t depth, std::vector<std::byte> state, kvstore::Keep keep) {
    state_bytes_ = state.size();
    auto const text = source.text.first(depth);
    store_->put_state(source.space, text, std::move(state), keep);
    return store_->has_state(source.space, text);
}

// Where others will go on: behind a message, where texts part, near the end, and
// now and then.
bool Tiers::is_wanted(Source const& source, Tree::NodeId node) const {
    auto const depth = source.tree.depth(node);
    auto const last = source.text[depth - 1];
    return source.text.size() - depth <= kNearEnd || source.tree.forks(node) ||
           std::find(end_tokens_.begin(), end_tokens_.end(), last) != end_tokens_.end() ||
           depth - store_->find_state(source.space, source.text.first(depth)) >= kStateGap;
}

bool Tiers::save_slice(Source const& source, std::uint32_t tokens_max, kvstore::Keep keep) {
    auto const size = static_cast<std::uint32_t>(source.text.size());
    auto const begin = store_->find(source.space, source.text);
    auto const least = states_ ? 1 : kSaveMin;  // a state stands on all cells before it
    if (begin + least > size) return false;
    std::uint32_t const end = size - begin < tokens_max + kSaveMin ? size : begin + tokens_max;
    auto blob = backend_.save_part(source.tree.donor(source.node), static_cast<llama::Position>(begin),
                                   static_cast<llama::Position>(end));
    if (!blob) {
        failed();
        return false;
    }
    bytes_per_token_ = std::max<std::uint64_t>(1, blob->size() / (end - begin));
    store_->put(source.space, source.text.first(end), begin, std::move(blob).value(), keep);
    return store_->find(source.space, source.text) >= end;
}

std::uint32_t Tiers::slice(std::uint64_t bytes) const {
    if (bytes_per_token_ == 0) return kSliceMin;
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(bytes / bytes_per_token_, kSliceMin, kSliceMax));
}

std::uint32_t Tiers::find(kvstore::Space const& space, std::span<domain::Token const> text,
                          std::uint32_t cached) const {
    auto const stored = states_ ? store_->find_state(space, text) : store_->find(space, text);
    return stored >= cached + kFetchMin ? stored : 0;
}

void Tiers::report(domain::EngineStats& stats) const {
    auto const store = store_->stats();
    stats.tier_memory_bytes = store.memory_bytes;
    stats.tier_disk_bytes = store.disk_bytes;
    stats.tier_memory_tokens_total = memory_tokens_;
    stats.tier_disk_tokens_total = disk_tokens_;
    stats.tier_written_bytes_total = store.bytes_written_total;
    stats.tier_errors_total = errors_ + store.disk_errors_total + store.files_bad_total;
}

void Tiers::report(domain::TenantReport& tenant) const {
    auto const held = store_->held(kvstore::space_of(tenant.tenant, {}));
    tenant.memory_bytes = held.memory_bytes;
    tenant.disk_bytes = held.disk_bytes;
}

}  // namespace hearth::engine
