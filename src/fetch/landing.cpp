#include "fetch/landing.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "fetch/blocking.h"

namespace hearth::fetch {
namespace {

constexpr std::uint64_t kReadBackStep = 8U << 20;   // until the loop hears of it
constexpr std::size_t kReadBackBuffer = 256U << 10;  // stays in the processor's cache until it is hashed

}  // namespace

Landing::Landing(net::Loop& loop, boost::asio::thread_pool& pool, PartialFile& file, ByteRanges& there,
                 std::size_t chunks, Events events)
    : pool_(pool),
      file_(file),
      there_(there),
      chunks_max_(chunks),
      events_(std::move(events)),
      freed_(loop),
      put_(loop),
      hash_due_(loop),
      ended_(loop) {
    HEARTH_ASSERT(chunks_max_ > 0 && events_.written && events_.failed, "there is something to fill, and to tell");
}

net::Task<Chunk*> Landing::take() {
    while (!stopped_ && free_.empty() && chunks_.size() >= chunks_max_) co_await freed_.wait();
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
    if (chunk->offset != handed_ || !hashes()) return;
    handed_ += chunk->size;
    ++chunk->users;
    to_hash_.push_back(chunk);
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

Status Landing::write_all(std::vector<Chunk*> const& chunks) {
    for (auto const* chunk : chunks) {
        HEARTH_CHECK(file_.write(chunk->offset, chunk->content()));
        push_out({chunk->offset, chunk->offset + chunk->size});
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
            // What is put behind it meanwhile is hashed after it.
            ByteRange const step{hashed_, std::min(prefix, hashed_ + kReadBackStep)};
            handed_ = step.end;
            auto work = [this, step] { return read_back(step); };
            auto const added = co_await blocking(pool_, std::move(work));
            if (!added) fail(added.error());
            hashed_ = step.end;
        } else if (write_ended_) {
            break;
        } else {
            co_await hash_due_.wait();
            continue;
        }
        if (events_.hashed) events_.hashed(hashed_);
    }
    for (auto* const chunk : std::exchange(to_hash_, {})) release(chunk);
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
