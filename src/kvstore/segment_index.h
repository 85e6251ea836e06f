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
// What goes first: GreedyDual-Size with frequency, as in sched::PrefixTree.
//
// Threads: one at a time (the store locks). Limits: the store's. Private to kvstore.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvstore/segment_file.h"

namespace hearth::kvstore {

using Blob = std::vector<std::byte>;
using SegmentId = std::uint32_t;
inline constexpr SegmentId kNoSegment = ~SegmentId{0};

struct Segment {
    SegmentHead head;
    Digest key{};
    SegmentId parent = kNoSegment;
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
};

class SegmentIndex {
public:
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
    [[nodiscard]] std::uint64_t memory_bytes() const { return memory_bytes_; }
    [[nodiscard]] std::uint64_t disk_bytes() const { return disk_bytes_; }
    [[nodiscard]] std::uint64_t in_memory() const { return in_memory_; }
    [[nodiscard]] std::uint64_t on_disk() const { return on_disk_; }

    // Adds a segment that is nowhere yet: set_blob() or set_file() follows.
    // REQUIRES: the parent (kNoSegment for a root) is there and reaches head.begin, the key is new
    SegmentId add(SegmentHead head, Digest const& key, SegmentId parent);
    void set_blob(SegmentId id, std::shared_ptr<Blob const> blob);
    void set_file(SegmentId id, std::uint64_t bytes);
    void hit(SegmentId id);

    // The least worthy whose blob, or file, may go now: nobody would lose its parent.
    [[nodiscard]] SegmentId pick_blob() const;
    [[nodiscard]] SegmentId pick_file() const;
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
    void remove(SegmentId id);
    void revalue(Segment& segment) const;
    [[nodiscard]] SegmentId state_within(Piece const& piece) const;
    [[nodiscard]] std::vector<SegmentId> const* level(Space const& space, SegmentId parent) const;

    std::unordered_map<SegmentId, Segment> segments_;
    std::map<Digest, SegmentId> keys_;
    std::map<Space, std::vector<SegmentId>> roots_;
    SegmentId next_ = 0;
    double inflation_ = 0;
    std::uint64_t memory_bytes_ = 0;
    std::uint64_t disk_bytes_ = 0;
    std::uint64_t in_memory_ = 0;
    std::uint64_t on_disk_ = 0;
    std::vector<SegmentId> condemned_;
};

}  // namespace hearth::kvstore
