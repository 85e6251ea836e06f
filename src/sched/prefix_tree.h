// PrefixTree: which prefixes of which texts are computed and in the cache.
//
// A radix tree over tokens. A node is a run of tokens whose cells the tree counts
// as its own. Paths split anywhere, so the longest common prefix is always found.
//
// Who may share: a space is a number for all that must be equal beside the tokens,
// today the tenant and its salt. What changes the states of equal tokens belongs
// in there too: an adapter, when there are any. Media will be tokens of their own,
// made from the hash of what they stand for. The first Key::shared tokens of a
// text may be public: their nodes are of the space kPublic, whoever computed them,
// and what each space has behind them hangs below, seen by that space alone.
//
// Whose cells they are: a cache knows sequences, and cells live while a sequence
// has them. A holder is the id of a sequence that has all cells from the root to
// the end of its node, and none behind. A request that computes is the holder of
// the leaf it grows; when it ends the tree keeps its sequence. Inner nodes need no
// holder: any holder below has their cells (donor()). So sequences are needed one
// per leaf, and ending a leaf is cutting its holder back to where the parent ends.
//
// Life of a request: find() its prompt, pin() the match; take() over the sequence
// that ends there, or copy the donor's cells; append() every token as it is
// computed, so that others find it at once; leave() at the end.
//
// Two requests that compute the same at the same time each have cells of their
// own: twins, nodes of one parent that begin alike. Those found less go first.
//
// Some models can not go back to any place of a sequence, only to where one ends
// or where their state was put aside: a checkpoint, which the tree keeps at the
// end of a node. For these find_state() is the find() to use, and a holder that
// cannot be cut is replaced by a copy that ends at a checkpoint: exchange().
//
// What goes first when room is wanted: of the leaves nobody pins the one that was
// unused longest, if its owner has more than its share of all that is unused (base/shares.h):
// by weight among the owners that have something. Else the owner that has most for its
// weight gives its oldest leaf. So who owns little keeps it, and who is alone may
// have all. A leaf is protected until kTurns times as many tokens as the tree holds
// were computed since it was used. A node is used when a request begins or ends on
// it or below. Cost and frequency were tried and lost: docs/scheduler.md.
//
// Threads: one. Limits: none of its own; the caller evicts to make room.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/shares.h"

namespace hearth::sched {

using Token = std::int32_t;
using Holder = std::int32_t;
inline constexpr Holder kNoHolder = -1;

class PrefixTree {
public:
    using Space = std::uint64_t;
    using Owner = std::uint32_t;  // whose share cells count against: a tenant, with all its spaces
    using NodeId = std::uint32_t;
    static constexpr NodeId kNone = ~NodeId{0};
    static constexpr Space kPublic = ~Space{0};
    static constexpr Owner kEverybody = 0;   // of what is public; others are above
    static constexpr std::uint64_t kTurns = Shares::kTurns;

    // What a text may stand on, and whose the rest of it will be. `shared` follows
    // from the text alone: equal texts have equal ones, or see less of each other.
    struct Key {
        Key(Space own = 0, Owner whose = 1, std::uint32_t public_tokens = 0)  // NOLINT: a space alone is a key
            : space(own), owner(whose), shared(public_tokens) {}
        Space space;           // not kPublic
        Owner owner;
        std::uint32_t shared;  // leading tokens that are public
    };

    struct Match {
        Key key = {};
        NodeId node = kNone;       // kNone: there is nothing
        std::uint32_t tokens = 0;  // from the root; may end inside the node
    };

    // What the caller has to do to its cache.
    struct Eviction {
        Holder holder = kNoHolder;
        std::uint32_t keep = 0;   // tokens that stay with the holder; 0: the sequence is free
        NodeId parent = 0;        // where the holder ends then, if it keeps any
    };

    // An owner that is not named weighs 1. REQUIRES: weight > 0
    void set_weight(Owner owner, double weight);

    // The longest prefix of `text` that `key` may stand on. Valid until the next change.
    [[nodiscard]] Match find(Key const& key, std::span<Token const> text) const;

    // The longest prefix that ends where a holder does or where there is a checkpoint.
    [[nodiscard]] Match find_state(Key const& key, std::span<Token const> text) const;

    // Something of the space is in the tree.
    [[nodiscard]] bool knows(Space space) const { return spaces_.contains(space); }
    [[nodiscard]] bool knows_owner(Owner owner) const { return owners_.contains(owner); }

    // Keeps the match and all above from eviction until unpin() or leave().
    // Returns the node that ends where the match ends.
    [[nodiscard]] NodeId pin(Match match);
    void unpin(NodeId node);
    // The match was of use to one more.
    void hit(NodeId node);

    // A holder that has all cells up to the end of `node`; kNoHolder for a root.
    [[nodiscard]] Holder donor(NodeId node) const;

    // The sequence the tree keeps for `node`, which the caller alone pins: it is
    // the caller's from now on. kNoHolder if there is none: then copy from donor().
    [[nodiscard]] Holder take(NodeId node);

    struct Appended {
        NodeId node;
        Holder freed = kNoHolder;  // a sequence the tree kept and no longer needs
    };
    // `holder`, which pins `node`, computed `more` tokens behind it: the pin moves
    // to their end. REQUIRES: the caller pins `node`, found by `key`; `more` is not empty
    [[nodiscard]] Appended append(NodeId node, std::span<Token const> more, Holder holder, Key const& key = {});

    // The request that pinned `node` ends. True: the tree keeps its sequence.
    // False: the caller frees it.
    [[nodiscard]] bool leave(NodeId node, Holder holder);

    // `heir`, which pins `node`, holds it from now on. Returns the sequence the tree kept for it.
    [[nodiscard]] Holder hand_over(NodeId node, Holder heir);

    // A holder ends where `node` does, or there is a checkpoint.
    [[nodiscard]] bool has_state(NodeId node) const {
        return nodes_[node].holder != kNoHolder || !nodes_[node].checkpoint.empty();
    }
    // The state at the end of `node`, for as long as the node lives. REQUIRES: the caller pins it
    void set_checkpoint(NodeId node, std::vector<std::byte> checkpoint);
    [[nodiscard]] std::span<std::byte const> checkpoint(NodeId node) const { return nodes_[node].checkpoint; }
    [[nodiscard]] std::uint64_t checkpoint_bytes() const { return checkpoint_bytes_; }

    // Where on the way from the root to the end of `node`, that end included, one could go
    // on from, the deepest last.
    [[nodiscard]] std::vector<NodeId> states(NodeId node) const;
    // The sequence the tree keeps for `node`; kNoHolder if it keeps none.
    [[nodiscard]] Holder kept_holder(NodeId node) const { return nodes_[node].kept ? nodes_[node].holder : kNoHolder; }
    // Texts part at the end of `node`.
    [[nodiscard]] bool forks(NodeId node) const { return nodes_[node].children.size() > 1; }

    // What `from`, a request's, holds of `node`, `to` holds from now on.
    void rename(NodeId node, Holder from, Holder to) {
        if (nodes_[node].holder == from) nodes_[node].holder = to;
    }

    // The sequence the tree keeps for `node` becomes `holder`; returns the one before.
    [[nodiscard]] Holder exchange(NodeId node, Holder holder);

    // All tokens from the root to the end of `node`.
    [[nodiscard]] std::vector<Token> text(NodeId node) const;

    // What others said behind `text`, if all of it is in the tree and more: up to
    // `most` tokens of the path hit most.
    [[nodiscard]] std::vector<Token> continuation(Key const& key, std::span<Token const> text,
                                                  std::uint32_t most) const;
    // The leaf evict() would drop; kNone if there is none.
    [[nodiscard]] NodeId victim() const;

    [[nodiscard]] Space space_of(NodeId node) const { return nodes_[node].space; }

    // Drops victim(), if there is one.
    [[nodiscard]] std::optional<Eviction> evict();

    // Drops this node, if it is a leaf nobody pins.
    [[nodiscard]] std::optional<Eviction> evict(NodeId node);

    [[nodiscard]] std::uint32_t depth(NodeId node) const { return nodes_[node].end; }
    [[nodiscard]] std::uint64_t cells() const { return cells_; }              // of all nodes
    [[nodiscard]] std::uint64_t reclaimable() const { return unused_.amount(); }  // of those evict() could reach
    [[nodiscard]] std::uint32_t kept() const { return kept_; }                // sequences the tree keeps

    struct Holding {
        std::uint64_t cells = 0;   // of its nodes
        std::uint64_t unused = 0;  // of those, no request's
        double share = 0;          // of all that is unused it may keep this part, while others want the rest
    };
    [[nodiscard]] Holding holding(Owner owner) const;
    [[nodiscard]] std::uint64_t nodes() const { return nodes_.size() - free_.size(); }

    // Dies if an invariant is broken; walks the whole tree.
    void check_integrity() const;

private:
    struct Child {
        Space space = 0;
        Token first = 0;
        NodeId id = 0;
        auto operator<=>(Child const&) const = default;
    };
    struct Node {
        std::vector<Token> tokens;
        std::vector<Child> children;  // in order
        NodeId parent = kNone;
        std::uint32_t end = 0;     // tokens from the root to its end
        std::uint32_t pins = 0;    // on it
        std::uint32_t active = 0;  // on it and below
        std::uint32_t hits = 0;
        Holder holder = kNoHolder;
        bool kept = false;  // the holder is the tree's own, no request's
        std::vector<std::byte> checkpoint;
        std::uint64_t used = 0;  // when it was last; its key in leaves_
        Space space = 0;
        Owner owner = kEverybody;
        [[nodiscard]] std::uint32_t begin() const { return end - static_cast<std::uint32_t>(tokens.size()); }
    };

    // What the tree has of a space; it goes with the last node.
    struct SpaceNodes {
        NodeId root = kNone;      // none as long as all hangs below what is public
        std::uint32_t nodes = 0;  // the root included
    };
    using Leaves = std::set<std::pair<std::uint64_t, NodeId>>;
    struct Account {
        std::uint32_t nodes = 0;
        std::uint64_t cells = 0;
        Share unused;
        Leaves leaves;
    };

    // What of `text`, which begins at `done`, one walks in one space, and which that is.
    struct Reach {
        Space space;
        std::span<Token const> text;
    };
    [[nodiscard]] static Reach reach(Key const& key, std::uint32_t done, std::span<Token const> text);
    [[nodiscard]] NodeId root_of(Key const& key) const;
    [[nodiscard]] Appended append_part(NodeId node, std::span<Token const> more, Holder holder, Space space,
                                       Owner owner);
    [[nodiscard]] Eviction drop(NodeId id);
    [[nodiscard]] NodeId root(Key const& key);
    [[nodiscard]] NodeId make_node(Space space, Owner owner);
    void free_node(NodeId id);
    void count(Owner owner, std::int64_t cells, std::int64_t unused);
    // Of what was used then no share is left, or its owner has more than its share.
    [[nodiscard]] bool is_given(std::uint64_t used, Account const& account) const {
        return Shares::is_over(now_ - used, cells_) || unused_.gives(account.unused);
    }
    void check_victim() const;
    void check_accounts() const;
    [[nodiscard]] NodeId most_hit(std::vector<Child> const& children, Space space) const;
    void drop_empty_root(NodeId id);
    void link(NodeId parent, NodeId node);
    [[nodiscard]] NodeId split(NodeId node, std::uint32_t end);
    [[nodiscard]] NodeId add_leaf(NodeId parent, std::span<Token const> tokens, Holder holder, Space space,
                                  Owner owner);
    void add_active(NodeId node, bool more);
    void list(NodeId id);
    void unlist(NodeId id);
    [[nodiscard]] bool evictable(Node const& node) const {
        return node.parent != kNone && node.children.empty() && node.pins == 0;
    }

    std::vector<Node> nodes_;
    std::vector<NodeId> free_;
    std::map<Space, SpaceNodes> spaces_;
    std::map<Owner, Account> owners_;            // of those that have nodes
    std::map<Owner, std::uint64_t> weights_;     // of those that were named
    Leaves leaves_;                              // evictable ones, unused longest first
    std::set<std::pair<double, Owner>> ranked_;  // owners with such leaves, by unused cells for their weight
    Shares unused_;                              // cells evict() could reach
    std::uint64_t now_ = 0;                              // tokens appended so far
    std::uint64_t cells_ = 0;
    std::uint64_t checkpoint_bytes_ = 0;
    std::uint32_t kept_ = 0;
};

}  // namespace hearth::sched
