// KvLedger: the engine's own count of cells and sequence ids.
//
// A cell is used once it holds a position: the prefix tree counts it, whether a
// request still wants it or not. It is reserved when a prompt that is being
// computed will need it. The backend is never asked: what it refuses the ledger
// would have refused first, except for what only it knows of.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <vector>

#include "base/assert.h"
#include "llama/backend.h"
#include "sched/prefix_tree.h"

namespace hearth::engine {

class KvLedger {
public:
    KvLedger(std::uint32_t cells, std::uint32_t sequences)
        : cells_(cells), taken_(sequences, false), free_ids_(sequences) {}

    // Every cell in use is in here.
    [[nodiscard]] sched::PrefixTree& tree() { return tree_; }
    [[nodiscard]] sched::PrefixTree const& tree() const { return tree_; }

    [[nodiscard]] std::uint32_t free() const {
        auto const taken = used() + reserved_;
        HEARTH_ASSERT(taken <= cells_, "only free cells are used");
        return cells_ - taken;
    }
    [[nodiscard]] std::uint32_t used() const { return static_cast<std::uint32_t>(tree_.cells()); }
    [[nodiscard]] std::uint32_t reserved() const { return reserved_; }
    [[nodiscard]] std::uint32_t free_ids() const { return free_ids_; }
    // Of requests; the tree keeps others.
    [[nodiscard]] std::uint32_t running_ids() const {
        return static_cast<std::uint32_t>(taken_.size()) - free_ids_ - tree_.kept();
    }

    void reserve(std::uint32_t cells) {
        HEARTH_ASSERT(cells <= free(), "only free cells are reserved");
        reserved_ += cells;
    }
    void unreserve(std::uint32_t cells) {
        HEARTH_ASSERT(cells <= reserved_, "what is given back was reserved");
        reserved_ -= cells;
    }

    // The lowest free id: backends read neighbouring sequences faster.
    // REQUIRES: free_ids() > 0
    [[nodiscard]] llama::SequenceId take_id() {
        for (std::size_t id = 0; id < taken_.size(); ++id) {
            if (taken_[id]) continue;
            taken_[id] = true;
            --free_ids_;
            return static_cast<llama::SequenceId>(id);
        }
        HEARTH_ASSERT(false, "the caller counted the free ids");
        return -1;
    }
    void give_id(llama::SequenceId id) {
        auto const at = static_cast<std::size_t>(id);
        HEARTH_ASSERT(at < taken_.size() && taken_[at], "an id is given back once");
        taken_[at] = false;
        ++free_ids_;
    }

private:
    std::uint32_t cells_;
    std::uint32_t reserved_ = 0;
    sched::PrefixTree tree_;
    std::vector<bool> taken_;
    std::uint32_t free_ids_;
};

}  // namespace hearth::engine
