#include "fetch/landing.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/assert.h"
#include "fetch/blocking.h"

namespace hearth::fetch {
namespace {

constexpr std::uint64_t kReadBackStep = 8U << 20;   // until the loop hears of it
constexpr std::size_t kReadBackBuffer = 256U << 10;  // stays in the processor's cache until it is hashed

}  // namespace

std::unique_ptr<std::byte[], Chunk::Free> Chunk::make_bytes() {
    auto* const bytes = std::aligned_alloc(PartialFile::kBlockBytes, kChunkBytes);
    HEARTH_ASSERT(bytes != nullptr, "there is memory for a chunk");
    return std::unique_ptr<std::byte[], Free>(static_cast<std::byte*>(bytes));
}

Landing::Landing(net::Loop& loop, boost::asio::thread_pool& pool, PartialFile& file, ByteRanges& there,
                 ChunkLimits limits, Events events)
    : pool_(pool),
      file_(file),
      there_(there),
      limits_(limits),
      events_(std::move(events)),
      freed_(loop),
      put_(loop),
      hash_due_(loop),
      ended_(loop) {
    HEARTH_ASSERT(limits_.moving > 0 && events_.written && events_.failed, "there is something to fill, and to tell");
}

net::Task<Chunk*> Landing::take() {
    while (!stopped_ && free_.empty() && chunks_.size() >= limits_.moving + limits_.kept) co_await freed_.wait();
    if (stopped_) co_return nullptr;
    if (free_.empty()) {
        chunks_.push_back(std::make_unique<Chunk>());
        free_.push_back(chunks_.back().get());
    }
    auto* const chunk = free_.back();
    free_.pop_back();
    chunk->size = 0;
    chunk->users = 1;
    co_return chunk;
}

void Landing::put(Chunk* chunk) {
    HEARTH_ASSERT(!closed_, "nothing is put after the end");
    if (chunk->size == 0) return release(chunk);
    to_write_.push_back(chunk);
    put_.notify();
    if (hashes()) keep_or_hash(chunk);
}

void Landing::keep_or_hash(Chunk* chunk) {
    bool const due = chunk->offset == handed_;
    // One that comes too early is read back, so that those before it find room.
    if (!due && (chunk->offset < handed_ || kept_.size() >= limits_.kept)) return;
    ++chunk->users;
    kept_.emplace(chunk->offset, chunk);
    if (due) hash_kept();
}

// Those whose turn it is.
void Landing::hash_kept() {
    for (auto next = kept_.begin(); next != kept_.end() && next->first == handed_; next = kept_.erase(next)) {
        handed_ += next->second->size;
        to_hash_.push_back(next->second);
    }
    hash_due_.notify();
}

void Landing::release(Chunk* chunk) {
    if (--chunk->users > 0) return;
    free_.push_back(chunk);
    freed_.notify();
}

void Landing::fail(Error const& error) {
    if (std::exchange(failed_, true)) return;
    hash_due_.notify();
    events_.failed(error);
}

void Landing::stop() {
    stopped_ = true;
    freed_.notify();
    hash_due_.notify();
}

void Landing::close() {
    closed_ = true;
    put_.notify();
    hash_due_.notify();
}

// --- writing -----------------------------------------------------------------

void Landing::push_out(ByteRange written) {
    if (unpushed_.end != written.begin) {
        if (unpushed_.size() > 0) file_.begin_sync(unpushed_);
        unpushed_ = {written.begin, written.begin};
    }
    unpushed_.end = written.end;
    if (unpushed_.size() < kPushBytes) return;
    file_.begin_sync(unpushed_);
    unpushed_.begin = unpushed_.end;
}

// Those that follow one another in one go: on a disk that turns each go costs a turn.
Status Landing::write_all(std::vector<Chunk*> chunks) {
    std::ranges::sort(chunks, {}, &Chunk::offset);
    std::array<std::span<std::byte const>, PartialFile::kPartsMax> parts;
    for (std::size_t i = 0; i < chunks.size();) {
        ByteRange range{chunks[i]->offset, chunks[i]->offset};
        std::size_t count = 0;
        for (; i < chunks.size() && count < parts.size() && chunks[i]->offset == range.end; ++i) {
            parts[count++] = chunks[i]->content();
            range.end += chunks[i]->size;
        }
        HEARTH_CHECK(file_.write(range.begin, std::span(parts).first(count)));
        push_out(range);
    }
    return ok();
}

net::Task<void> Landing::write() {
    while (!to_write_.empty() || !closed_) {
        if (to_write_.empty()) {
            co_await put_.wait();
            continue;
        }
        auto const chunks = std::exchange(to_write_, {});
        if (!failed_) {
            auto work = [this, &chunks] { return write_all(chunks); };
            auto const written = co_await blocking(pool_, std::move(work));
            if (!written) fail(written.error());
        }
        for (auto* const chunk : chunks) {
            ByteRange const range{chunk->offset, chunk->offset + chunk->size};
            release(chunk);
            if (failed_) continue;
            there_.add(range);
            events_.written(range);
        }
        hash_due_.notify();  // a gap may have closed
    }
    write_ended_ = true;
    hash_due_.notify();
    ended_.notify();
}

// --- hashing -----------------------------------------------------------------

Status Landing::read_back(ByteRange range) {
    buffer_.resize(kReadBackBuffer);
    while (range.size() > 0) {
        auto const part = std::span(buffer_).first(std::min<std::uint64_t>(buffer_.size(), range.size()));
        HEARTH_CHECK(file_.read(range.begin, part));
        hash_.add(part);
        range.begin += part.size();
    }
    return ok();
}

net::Task<void> Landing::hash() {
    while (hashes()) {
        auto const prefix = there_.prefix();
        if (!to_hash_.empty()) {
            auto const chunks = std::exchange(to_hash_, {});
            auto work = [this, &chunks]() -> Status {
                for (auto const* chunk : chunks) hash_.add(chunk->content());
                return ok();
            };
            auto const added = co_await blocking(pool_, std::move(work));
            static_cast<void>(added);  // nothing can go wrong
            for (auto* const chunk : chunks) {
                hashed_ += chunk->size;
                release(chunk);
            }
        } else if (prefix > hashed_) {
            // What is put behind it meanwhile is hashed after it, and so is what is kept.
            auto const kept = kept_.empty() ? prefix : kept_.begin()->first;
            ByteRange const step{hashed_, std::min({prefix, kept, hashed_ + kReadBackStep})};
            handed_ = step.end;
            auto work = [this, step] { return read_back(step); };
            auto const added = co_await blocking(pool_, std::move(work));
            if (!added) fail(added.error());
            hashed_ = step.end;
            hash_kept();
        } else if (write_ended_) {
            break;
        } else {
            co_await hash_due_.wait();
            continue;
        }
        if (events_.hashed) events_.hashed(hashed_);
    }
    for (auto* const chunk : std::exchange(to_hash_, {})) release(chunk);
    for (auto const& [offset, chunk] : std::exchange(kept_, {})) release(chunk);
    hash_ended_ = true;
    ended_.notify();
}

net::Task<void> Landing::until_written() {
    while (!write_ended_) co_await ended_.wait();
}

net::Task<void> Landing::until_over() {
    while (!write_ended_ || !hash_ended_) co_await ended_.wait();
}

}  // namespace hearth::fetch
