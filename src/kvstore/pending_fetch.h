// PendingFetch: a Fetch while it is made, and what is still to be read for it.
//
// Threads: one at a time, who makes it and then the reader, until finish(); done()
// from any thread, and pieces() after it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/assert.h"
#include "kvstore/segment_index.h"
#include "kvstore/store.h"

namespace hearth::kvstore {

class PendingFetch final : public Fetch {
public:
    struct Part {
        SegmentId id;
        SegmentHead head;
        Digest key;
        std::uint64_t file_bytes;
        std::size_t piece;  // its place
    };

    [[nodiscard]] bool done() const override { return done_.load(std::memory_order_acquire); }
    [[nodiscard]] std::vector<Piece> const& pieces() const override {
        HEARTH_ASSERT(done(), "pieces are looked at when they are there");
        return found;
    }
    void finish() { done_.store(true, std::memory_order_release); }

    std::vector<Piece> found;
    std::vector<Part> to_read;

private:
    std::atomic<bool> done_ = false;
};

}  // namespace hearth::kvstore
