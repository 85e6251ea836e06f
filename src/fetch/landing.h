// Landing: what came of one file, on its way to the disk and into the hash. Private to
// fetch.
//
// Who reads from the network fills chunks and hands them over. One thread writes them,
// another hashes them, so that reading, writing and hashing go on side by side. What
// comes in the file's order is hashed from memory, and so is what comes a little before its
// turn: it is kept. What comes earlier still is read back from the file when it is due.
// Chunks end at multiples of their size in the file, so that they go to the medium past
// the page cache (partial_file.h); what does not is pushed there at once: little is left to
// wait for in the end.
//
// Threads:   the loop's; work is done on the pool, see blocking.h.
// Ownership: loop, pool, file and `there` outlive it; it outlives its write() and hash().
// Limits:    as many chunks of kChunkBytes as it is created with, and as many more as it may keep;
//            who wants one more waits until one is free, and so the network goes at the pace of
//            the slowest.
// Errors:    those of PartialFile. The first one is told, what comes after it is dropped.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "digest/sha256.h"
#include "fetch/byte_ranges.h"
#include "fetch/partial_file.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::fetch {

inline constexpr std::size_t kChunkBytes = 1U << 20;
inline constexpr std::uint64_t kPushBytes = 4U << 20;  // written in a row before the disk is asked to begin with it

// Bytes of the file that follow one another; in memory they begin at a block (PartialFile::kBlockBytes).
struct Chunk {
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };

    std::uint64_t offset = 0;
    std::size_t size = 0;
    std::unique_ptr<std::byte[], Free> bytes = make_bytes();
    unsigned users = 0;  // of the Landing's

    [[nodiscard]] std::span<std::byte const> content() const { return {bytes.get(), size}; }
    [[nodiscard]] std::span<std::byte> room() const { return {bytes.get() + size, capacity() - size}; }
    [[nodiscard]] bool full() const { return size == capacity(); }

private:
    static std::unique_ptr<std::byte[], Free> make_bytes();
    // Up to the next multiple of kChunkBytes.
    [[nodiscard]] std::size_t capacity() const { return kChunkBytes - offset % kChunkBytes; }
};

// Chunks that a Landing may have.
struct ChunkLimits {
    std::size_t moving = 1;  // being filled, written or hashed
    std::size_t kept = 0;    // beside them: written, and waiting for their turn to be hashed
};

class Landing {
public:
    struct Events {
        std::function<void(ByteRange)> written;      // it is in the file, and in `there`
        std::function<void(Error const&)> failed;    // once
        std::function<void(std::uint64_t)> hashed{};  // bytes from the file's start; may be empty
    };

    // `there`: what the file has already, and what is written from now on.
    Landing(net::Loop& loop, boost::asio::thread_pool& pool, PartialFile& file, ByteRanges& there, ChunkLimits limits,
            Events events);
    Landing(Landing const&) = delete;
    Landing& operator=(Landing const&) = delete;

    // --- who reads from the network ---
    // An empty chunk, to be handed back by put(); null after stop().
    net::Task<Chunk*> take();
    // What it holds is written, and hashed when it is due. An empty one is as if it was never taken.
    void put(Chunk* chunk);

    // --- who runs it: both are spawned once, and end after close() ---
    net::Task<void> write();
    net::Task<void> hash();

    // Nothing is hashed any more and take() gives nothing; what was put is still written.
    void stop();
    // Nothing is put any more.
    void close();
    // Until all that was put is written, or dropped.
    net::Task<void> until_written();
    // Until write() and hash() have ended.
    net::Task<void> until_over();

    // The hash of `there` from the file's start; once. REQUIRES: until_over(), and nobody stopped it
    [[nodiscard]] std::string finish_hash() { return hash_.finish(); }

private:
    [[nodiscard]] Status write_all(std::vector<Chunk*> chunks);
    void keep_or_hash(Chunk* chunk);
    void hash_kept();
    void push_out(ByteRange written);
    [[nodiscard]] Status read_back(ByteRange range);
    void release(Chunk* chunk);
    void fail(Error const& error);
    [[nodiscard]] bool hashes() const { return !stopped_ && !failed_; }

    boost::asio::thread_pool& pool_;
    PartialFile& file_;
    ByteRanges& there_;
    ChunkLimits const limits_;
    Events const events_;

    std::vector<std::unique_ptr<Chunk>> chunks_;
    std::vector<Chunk*> free_;
    std::vector<Chunk*> to_write_, to_hash_;
    std::map<std::uint64_t, Chunk*> kept_;  // by offset: behind `handed_`
    net::Signal freed_, put_, hash_due_, ended_;

    ByteRange unpushed_;            // of the thread that writes
    digest::Sha256 hash_;           // of the thread that hashes
    std::vector<std::byte> buffer_;  // likewise, to read back into
    std::uint64_t hashed_ = 0;
    std::uint64_t handed_ = 0;      // hashed, or given to be
    bool closed_ = false, stopped_ = false, failed_ = false;
    bool write_ended_ = false, hash_ended_ = false;
};

}  // namespace hearth::fetch
