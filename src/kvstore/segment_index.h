// SegmentIndex: which segments of which texts are stored, and where.
//
// A segment is a run of positions behind a place in another segment (its
// parent) or at the beginning of a text. Segments form a tree: a text that goes
// on where a stored one ends, or leaves it half-way, adds only what is new. The
// state of positions [0, n) is put together from the segments on one path, each
// cut where the next begins.
//
// A state is a segment of no positions: what those before its place left behind
// together, for models that cannot go on from cells alone. It stands on the
// segment that has the position before it, and nothing stands on it.
//
// A segment is in memory (blob), on disk, or both; one that is nowhere is gone.
// Segments others stand on go last: a segment leaves the index as a leaf only.
//
// What goes first: by GreedyDual-Size with frequency, but of an account that has more
// than its share of the tier, as in sched::PrefixTree (base/shares.h).
//
// Threads: one at a time (the store locks). Limits: the store's. Private to kvstore.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/shares.h"
#include "kvstore/segment_file.h"

namespace hearth::kvstore {

using Blob = std::vector<std::byte>;
using SegmentId = std::uint32_t;
inline constexpr SegmentId kNoSegment = ~SegmentId{0};

enum class Tier : std::uint8_t { memory, disk };
template <typename T>
struct OfTier : std::array<T, 2> {
    [[nodiscard]] T& operator[](Tier tier) { return this->data()[static_cast<std::size_t>(tier)]; }
    [[nodiscard]] T const& operator[](Tier tier) const { return this->data()[static_cast<std::size_t>(tier)]; }
};

// What the segments of a tenant take.
struct Account {
    std::uint32_t segments = 0;
    OfTier<Share> shares;
};

struct Segment {
    SegmentHead head;
    Digest key{};
    SegmentId parent = kNoSegment;
    Account* account = nullptr;
    std::vector<SegmentId> children;
    std::shared_ptr<Blob const> blob;  // null: not in memory
    std::uint64_t file_bytes = 0;      // 0: not on disk
    std::uint32_t children_on_disk = 0;
    std::uint32_t hits = 0;
    std::uint32_t pins = 0;  // being read or written: stays where it is
    bool keep = true;        // in memory after it was written
    bool dirty = false;      // is to be written
    bool condemned = false;  // its state, or that of one it stands on, is bad
    double worth = 0;
    OfTier<std::uint64_t> used{};  // when it was last, in bytes that came into the tier
};

class SegmentIndex {
public:
    // Of the space's tenant, also of those the index knows nothing of; 1 if it is not named.
    // REQUIRES: weight > 0; nothing of that tenant is in the index
    void set_weight(Space const& space, double weight);

    struct Piece {
        SegmentId id = kNoSegment;
        std::uint32_t end = 0;  // what is of use ends here
    };

    // The path of the longest stored prefix of `text`, from its beginning.
    [[nodiscard]] std::vector<Piece> find(Space const& space, std::span<Token const> text) const;

    // The state at the deepest place of `path`; kNoSegment: there is none.
    [[nodiscard]] SegmentId find_state(std::span<Piece const> path) const;
    // The state exactly at the end of `path`.
    [[nodiscard]] SegmentId state_at_end(std::span<Piece const> path) const;

    [[nodiscard]] Segment& at(SegmentId id) { return segments_.at(id); }
    [[nodiscard]] Segment const& at(SegmentId id) const { return segments_.at(id); }
    [[nodiscard]] Segment* get(SegmentId id);  // null: gone
    [[nodiscard]] SegmentId by_key(Digest const& key) const;
    // The keys of those on disk.
    [[nodiscard]] std::vector<Digest> files() const;
    [[nodiscard]] std::size_t size() const { return segments_.size(); }
    [[nodiscard]] std::uint64_t memory_bytes() const { return tiers_[Tier::memory].shares.amount(); }
    [[nodiscard]] std::uint64_t disk_bytes() const { return tiers_[Tier::disk].shares.amount(); }
    [[nodiscard]] std::uint64_t in_memory() const { return tiers_[Tier::memory].segments; }
    [[nodiscard]] std::uint64_t on_disk() const { return tiers_[Tier::disk].segments; }
    // What the space's tenant has there.
    [[nodiscard]] std::uint64_t bytes_of(Space const& space, Tier tier) const;

    // Adds a segment that is nowhere yet: set_blob() or set_file() follows.
    // REQUIRES: the parent (kNoSegment for a root) is there and reaches head.begin, the key is new
    SegmentId add(SegmentHead head, Digest const& key, SegmentId parent);
    void set_blob(SegmentId id, std::shared_ptr<Blob const> blob);
    void set_file(SegmentId id, std::uint64_t bytes);
    void hit(SegmentId id);

    // Whose blob, or file, goes first of those that may go now: nobody would lose its parent.
    [[nodiscard]] SegmentId pick_blob() const { return pick(Tier::memory); }
    [[nodiscard]] SegmentId pick_file() const { return pick(Tier::disk); }
    // What is nowhere then is gone from the index.
    void drop_blob(SegmentId id);
    void drop_file(SegmentId id);

    // The segment and all that stands on it are found no more. sweep() drops what of
    // them nobody reads or writes, and returns the keys of those that had files.
    void condemn(SegmentId id);
    [[nodiscard]] std::vector<Digest> sweep();

    void pin(SegmentId id) { ++at(id).pins; }
    void unpin(SegmentId id) { --at(id).pins; }

    // Dies if an invariant is broken.
    void check_integrity() const;

private:
    struct TierBooks {
        Shares shares;            // bytes
        std::uint64_t segments = 0;
        std::uint64_t added = 0;  // bytes that ever came in
    };

    [[nodiscard]] SegmentId pick(Tier tier) const;
    [[nodiscard]] static bool may_go(Segment const& segment, Tier tier);
    void enter(Segment& segment, Tier tier, std::uint64_t bytes);
    void leave(Segment& segment, Tier tier, std::uint64_t bytes);
    void check_accounts() const;
    void remove(SegmentId id);
    void revalue(Segment& segment) const;
    [[nodiscard]] SegmentId state_within(Piece const& piece) const;
    [[nodiscard]] std::vector<SegmentId> const* level(Space const& space, SegmentId parent) const;

    std::unordered_map<SegmentId, Segment> segments_;
    std::map<Digest, SegmentId> keys_;
    std::map<Space, std::vector<SegmentId>> roots_;
    std::map<Digest, Account> accounts_;        // of those that have segments
    std::map<Digest, std::uint64_t> weights_;   // of those that were named
    OfTier<TierBooks> tiers_;
    SegmentId next_ = 0;
    double inflation_ = 0;
    std::vector<SegmentId> condemned_;
};

}  // namespace hearth::kvstore
