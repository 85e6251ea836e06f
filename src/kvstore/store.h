// Store: the warm (host memory) and cold (disk) tiers of the prefix cache.
//
// put() takes the cells of a run of positions; find() says how much of a text
// could be had back, fetch() gets it. Of models that cannot go on from cells alone
// put_state() takes what they need besides at one place, and only such a place is
// of use: find_state(), fetch(with the state). What is put is in memory at once and, with
// a folder, written behind by a thread of the store's own; what is on disk is
// read by another, so that neither ever holds up the caller.
//
// On disk a segment is one file (docs/formats/kv-cache-files.md), written under a
// temporary name, flushed, and renamed: after a crash at any moment a file is
// whole or not there. A file is checked to the last byte before any of it is
// used; one that is bad is removed with what stands on it. A disk that fails is
// said once and left alone for a while: the store goes on in memory.
//
// Threads:   any. Callbacks come from the store's threads.
// Ownership: a fetch keeps what it got alive, whatever is evicted meanwhile.
// Limits:    Options' bytes; kSegmentsMax segments; beyond, the least worthy goes, of a
//            tenant that has more than its share of that tier.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "kvstore/options.h"

namespace hearth::kvstore {

inline constexpr std::size_t kSegmentsMax = 1U << 15;
inline constexpr std::uint64_t kFetchBytesMax = 1ULL << 30;  // of one fetch; the rest is computed

struct Stats {
    std::uint64_t memory_bytes = 0;
    std::uint64_t memory_segments = 0;
    std::uint64_t disk_bytes = 0;  // files of other models and builds in the folder included
    std::uint64_t disk_segments = 0;
    std::uint64_t files_written_total = 0;
    std::uint64_t bytes_written_total = 0;
    std::uint64_t files_read_total = 0;
    std::uint64_t files_bad_total = 0;     // damaged, and removed
    std::uint64_t disk_errors_total = 0;   // operations the system refused
    bool disk_failing = false;
    bool operator==(Stats const&) const = default;
};

struct Held {
    std::uint64_t memory_bytes = 0;
    std::uint64_t disk_bytes = 0;
};

// The cells of positions up to `end`, behind the piece before or the text's
// beginning; or the state at `end`.
struct Piece {
    std::shared_ptr<std::vector<std::byte> const> blob;  // cells may reach beyond `end`
    std::uint32_t end = 0;
    bool from_disk = false;
    bool is_state = false;
};

class Fetch {
public:
    virtual ~Fetch() = default;
    // From now on pieces() stand still.
    [[nodiscard]] virtual bool done() const = 0;
    // In order, the state last. Fewer than were found if a file turned out bad.
    // REQUIRES: done()
    [[nodiscard]] virtual std::vector<Piece> const& pieces() const = 0;
};

enum class Want : std::uint8_t {
    cells,
    cells_and_state,  // the state at the end of the text, too
};

// How long a blob that was written stays in memory.
enum class Keep : std::uint8_t {
    until_written,  // with a disk; without one it is not taken at all
    while_room,
};

class Store {
public:
    // Looks through the folder. Never fails: without a usable folder there is no disk.
    [[nodiscard]] static std::unique_ptr<Store> create(Options options);
    // Writes what is not on disk yet, for a second at most.
    virtual ~Store() = default;

    // Leading tokens of `text` that could be had.
    [[nodiscard]] virtual std::uint32_t find(Space const& space, std::span<Token const> text) const = 0;

    // The same, of those where a state is.
    [[nodiscard]] virtual std::uint32_t find_state(Space const& space, std::span<Token const> text) const = 0;
    // There is a state exactly at the end of `text`.
    [[nodiscard]] virtual bool has_state(Space const& space, std::span<Token const> text) const = 0;

    // `blob` is the state of positions [begin, text.size()) of `text`. Nothing
    // happens if they are there already, or what is before is not.
    // REQUIRES: begin < text.size(), at most 65,536 apart
    virtual void put(Space const& space, std::span<Token const> text, std::uint32_t begin, std::vector<std::byte> blob,
                     Keep keep) = 0;

    // `blob` is the state at the end of `text`. Nothing happens if it is there
    // already, or not all cells of the text are.
    virtual void put_state(Space const& space, std::span<Token const> text, std::vector<std::byte> blob, Keep keep) = 0;

    // Gets what find() found of `text` behind position `from`.
    [[nodiscard]] virtual std::shared_ptr<Fetch> fetch(Space const& space, std::span<Token const> text,
                                                       std::uint32_t from, Want want = Want::cells) = 0;

    // Host memory may take so much from now on, at most what it was created with: what it
    // takes beyond is given up now. What waits to be written stays until it is.
    virtual void limit_memory(std::uint64_t bytes) = 0;

    // There is a disk and it is not failing; and there is room for what put(until_written) brings.
    [[nodiscard]] virtual bool writes() const = 0;

    [[nodiscard]] virtual Stats stats() const = 0;
    // What the space's tenant has here, with any salt.
    [[nodiscard]] virtual Held held(Space const& space) const = 0;

    // Waits for writes() where it is only what waits to be written that is in the way; writes().
    [[nodiscard]] virtual bool wait_to_write(Duration at_most) = 0;

    // The end: writes what waits, for two seconds at most. Afterwards nothing is taken, and
    // a fetch is over at once and has nothing. Destruction does it, too.
    virtual void finish() = 0;

    // Waits until nothing is left to write or fetch; for tests.
    virtual void settle() = 0;
    virtual void check_integrity() const = 0;
};

}  // namespace hearth::kvstore
