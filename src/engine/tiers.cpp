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
constexpr std::uint32_t kVictimTokensMax = 4096;  // of one eviction; the beginning is worth most

kvstore::Options completed(kvstore::Options options, llama::Backend const& backend, std::function<void()> on_ready) {
    options.state_key = backend.state_key();
    if (options.state_key.empty()) options.folder.reset();
    options.on_ready = std::move(on_ready);
    return options;
}

}  // namespace

Tiers::Tiers(llama::Backend& backend, kvstore::Options options, std::function<void()> on_ready)
    : backend_(backend), store_(kvstore::Store::create(completed(std::move(options), backend, std::move(on_ready)))) {}

void Tiers::know(Tree::Space space, kvstore::Space const& stored, Tree const& tree) {
    if (spaces_.size() >= kSpacesMax)
        std::erase_if(spaces_, [&tree](auto const& entry) { return !tree.knows(entry.first); });
    spaces_.emplace(space, stored);
}

void Tiers::note_end(Tree const& tree, Tree::NodeId node) {
    auto const space = tree.space_of(node);
    auto const known = spaces_.find(space);
    if (known == spaces_.end() || !store_->writes()) return;
    if (ends_.size() >= kEndsMax) ends_.pop_front();
    ends_.push_back({space, known->second, tree.text(node)});
}

void Tiers::save_some(Tree const& tree, Pace pace) {
    if (!has_work()) return;
    auto const& end = ends_.front();
    auto const match = tree.find(end.space, end.text);  // some of it may have been evicted since
    bool const more =
        match.tokens > 0 &&
        save_slice(end.stored, std::span(end.text).first(match.tokens), tree.donor(match.node),
                   slice(pace == Pace::idle ? kIdleSliceBytes : kBusySliceBytes), kvstore::Keep::until_written);
    if (!more) ends_.pop_front();
}

void Tiers::save_victim(Tree const& tree) {
    auto const victim = tree.victim();
    if (victim == Tree::kNone) return;
    auto const known = spaces_.find(tree.space_of(victim));
    if (known == spaces_.end() || tree.depth(victim) < kVictimMin) return;
    auto const text = tree.text(victim);
    auto const step = slice(kIdleSliceBytes);
    for (std::uint32_t saved = 0; saved < kVictimTokensMax; saved += step) {
        if (!save_slice(known->second, text, tree.donor(victim), step, kvstore::Keep::while_room)) return;
    }
}

bool Tiers::save_slice(kvstore::Space const& space, std::span<domain::Token const> computed, llama::SequenceId holder,
                       std::uint32_t tokens_max, kvstore::Keep keep) {
    auto const size = static_cast<std::uint32_t>(computed.size());
    auto const begin = store_->find(space, computed);
    if (begin + kSaveMin > size) return false;
    std::uint32_t const end = size - begin < tokens_max + kSaveMin ? size : begin + tokens_max;
    auto blob = backend_.save_part(holder, static_cast<llama::Position>(begin), static_cast<llama::Position>(end));
    if (!blob) {
        failed();
        return false;
    }
    bytes_per_token_ = blob->size() / (end - begin);
    store_->put(space, computed.first(end), begin, std::move(blob).value(), keep);
    return end < size && store_->find(space, computed) >= end;
}

std::uint32_t Tiers::slice(std::uint64_t bytes) const {
    if (bytes_per_token_ == 0) return kSliceMin;
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(bytes / bytes_per_token_, kSliceMin, kSliceMax));
}

std::uint32_t Tiers::find(kvstore::Space const& space, std::span<domain::Token const> text,
                          std::uint32_t cached) const {
    auto const stored = store_->find(space, text);
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

}  // namespace hearth::engine
