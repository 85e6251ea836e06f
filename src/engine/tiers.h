// Tiers: what becomes of prefixes that leave the KV cache, and how they come back.
//
// With a disk, what a request computed is saved a slice at a time, between steps,
// and written behind: when it ended, and now and then while it goes on. So the
// conversation goes on after a restart, also after a kill. What the cache evicts is
// saved on the way out. Only what the store lacks is saved, so each token once.
//
// Models that need checkpoints come back at places where a state is stored too:
// where messages end, where texts part, and at the end.
//
// Threads: the engine's. Limits: kEndsMax texts wait to be saved; beyond, the
// oldest is left to its eviction.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "domain/engine_report.h"
#include "domain/model.h"
#include "kvstore/store.h"
#include "llama/backend.h"
#include "sched/prefix_tree.h"

namespace hearth::engine {

// A disk that has not answered by then hangs: the prompt is computed instead.
inline constexpr std::uint32_t kFetchMsMax = 10'000;

class Tiers {
public:
    using Tree = sched::PrefixTree;

    enum class Pace : std::uint8_t { beside_others, idle };

    [[nodiscard]] static bool are_wanted(llama::Backend const& backend, kvstore::Options const& options) {
        bool const somewhere = options.memory_bytes > 0 || (options.folder && options.disk_bytes > 0);
        return somewhere && backend.properties().saves_parts;
    }

    // `on_ready` is called from a thread of the store's.
    // REQUIRES: the tokens that end a message outlive this
    Tiers(llama::Backend& backend, kvstore::Options options, std::span<domain::Token const> end_tokens,
          std::function<void()> on_ready);

    [[nodiscard]] kvstore::Store& store() { return *store_; }

    // Prefixes in that space of the tree are those of `stored` in the store. Others are not saved.
    void know(Tree::Space space, kvstore::Space const& stored, Tree const& tree);

    // --- out ---

    // A request that ended at `node` left it to the tree.
    void note_end(Tree const& tree, Tree::NodeId node, Tree::Key const& key) { note(tree, node, key, {}); }
    // A request that goes on is at the end of `node`, where its state is `state`, if the model has one.
    void note_progress(Tree const& tree, Tree::NodeId node, Tree::Key const& key, std::vector<std::byte> state) {
        note(tree, node, key, std::move(state));
    }
    // A request is worth a note after so many tokens more.
    [[nodiscard]] std::uint32_t progress_tokens() const;
    [[nodiscard]] bool takes_notes() const { return store_->writes(); }
    // save_some() would save something.
    [[nodiscard]] bool has_work() const { return !ends_.empty() && store_->writes(); }
    // Waits until it would, where the disk is only behind; has_work().
    [[nodiscard]] bool wait_for_work(Duration at_most) { return !ends_.empty() && store_->wait_to_write(at_most); }
    // One slice of what was noted.
    void save_some(Tree const& tree, Pace pace);
    // What evict() is about to drop.
    void save_victim(Tree const& tree);

    // --- back ---

    // Tokens of `text` worth fetching when `cached` are in the tree already: their end, or 0.
    [[nodiscard]] std::uint32_t find(kvstore::Space const& space, std::span<domain::Token const> text,
                                     std::uint32_t cached) const;
    // So many tokens came back from a piece.
    void restored(kvstore::Piece const& piece, std::uint32_t tokens) {
        (piece.from_disk ? disk_tokens_ : memory_tokens_).fetch_add(tokens, std::memory_order_relaxed);
    }
    void failed() { errors_.fetch_add(1, std::memory_order_relaxed); }

    // From any thread.
    void report(domain::EngineStats& stats) const;
    void report(domain::TenantReport& tenant) const;

private:
    struct End {
        Tree::Key key;
        kvstore::Space stored;
        std::vector<domain::Token> text;
        std::vector<std::byte> state;  // at the end, if nobody else keeps it
    };

    // What is in the cache of a text, to be saved.
    struct Source {
        kvstore::Space const& space;
        std::span<domain::Token const> text;
        Tree const& tree;
        Tree::NodeId node;  // its end is in there
        std::span<std::byte const> state;  // as End's
    };

    void note(Tree const& tree, Tree::NodeId node, Tree::Key const& key, std::vector<std::byte> state);
    // Saves a state, or up to `tokens_max` tokens behind what is stored. False: nothing is left to save.
    bool save_next(Source const& source, std::uint32_t tokens_max, kvstore::Keep keep);
    bool save_state(Source const& source, kvstore::Keep keep);
    bool put_state(Source const& source, std::uint32_t depth, std::vector<std::byte> state, kvstore::Keep keep);
    bool save_slice(Source const& source, std::uint32_t tokens_max, kvstore::Keep keep);
    [[nodiscard]] bool is_wanted(Source const& source, Tree::NodeId node) const;
    [[nodiscard]] std::uint32_t slice(std::uint64_t bytes) const;

    llama::Backend& backend_;
    std::unique_ptr<kvstore::Store> store_;
    std::span<domain::Token const> end_tokens_;
    bool states_;  // the model needs them to go on
    std::map<Tree::Space, kvstore::Space> spaces_;
    std::deque<End> ends_;
    std::uint64_t bytes_per_token_ = 0;  // as saved last
    std::uint64_t state_bytes_ = 0;      // likewise
    std::atomic<std::uint64_t> memory_tokens_ = 0;
    std::atomic<std::uint64_t> disk_tokens_ = 0;
    std::atomic<std::uint64_t> errors_ = 0;
};

}  // namespace hearth::engine
