// Landing: what came of one file, on its way to the disk and into the hash. Private to
// fetch.
//
// Who reads from the network fills chunks and hands them over. One thread writes them,
// another hashes them, so that reading, writing and hashing go on side by side. What
// comes in the file's order is hashed from memory; what comes before its turn is read
// back from the file when it is due. What was written is pushed to the disk at once:
// little is left to wait for in the end.
//
// Threads:   the loop's; work is done on the pool, see blocking.h.
// Ownership: loop, pool, file and `there` outlive it; it outlives its write() and hash().
// Limits:    as many chunks of kChunkBytes as it is created with; who wants one more waits
//            until one is free, and so the network goes at the pace of the slowest.
// Errors:    those of PartialFile. The first one is told, what comes after it is dropped.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
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

// Bytes of the file that follow one another.
struct Chunk {
    std::uint64_t offset = 0;
    std::size_t size = 0;
    std::unique_ptr<std::byte[]> bytes = std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
    unsigned users = 0;  // of the Landing's

    [[nodiscard]] std::span<std::byte const> content() const { return {bytes.get(), size}; }
    [[nodiscard]] std::span<std::byte> room() const { return {bytes.get() + size, kChunkBytes - size}; }
    [[nodiscard]] bool full() const { return size == kChunkBytes; }
};

class Landing {
public:
    struct Events {
        std::function<void(ByteRange)> written;      // it is in the file, and in `there`
        std::function<void(Error const&)> failed;    // once
        std::function<void(std::uint64_t)> hashed{};  // bytes from the file's start; may be empty
    };

    // `there`: what the file has already, and what is written from now on.
    Landing(net::Loop& loop, boost::asio::thread_pool& pool, PartialFile& file, ByteRanges& there, std::size_t chunks,
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
    [[nodiscard]] Status write_all(std::vector<Chunk*> const& chunks);
    void push_out(ByteRange written);
    [[nodiscard]] Status read_back(ByteRange range);
    void release(Chunk* chunk);
    void fail(Error const& error);
    [[nodiscard]] bool hashes() const { return !stopped_ && !failed_; }

    boost::asio::thread_pool& pool_;
    PartialFile& file_;
    ByteRanges& there_;
    std::size_t const chunks_max_;
    Events const events_;

    std::vector<std::unique_ptr<Chunk>> chunks_;
    std::vector<Chunk*> free_;
    std::vector<Chunk*> to_write_, to_hash_;
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
