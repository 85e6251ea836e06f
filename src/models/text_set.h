// TextSet: which texts were seen before, for hundreds of thousands of them: no
// allocation for each, 8 bytes a slot. It keeps views, so the texts must outlive it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace hearth::models {

class TextSet {
public:
    // REQUIRES: at most `count` texts are added, fewer than 2^31
    // Two thirds full at most; a vocabulary of 2^18 tokens must not need a table of twice the size for one slot more.
    explicit TextSet(std::size_t count) : slots_(std::bit_ceil(count + count / 2 + 2)) { texts_.reserve(count); }

    // The index of an equal text added before, if any; else it is added.
    std::optional<std::size_t> add(std::string_view text) {
        auto const hash = std::hash<std::string_view>{}(text);
        auto const mask = slots_.size() - 1;
        // Index 0 marks a free slot; the hash's upper half saves most comparisons.
        auto const tag = static_cast<std::uint32_t>(hash >> 32);
        for (auto at = hash & mask;; at = (at + 1) & mask) {
            auto& slot = slots_[at];
            if (slot.index == 0) {
                texts_.push_back(text);
                slot = {static_cast<std::uint32_t>(texts_.size()), tag};
                return std::nullopt;
            }
            if (slot.tag == tag && texts_[slot.index - 1] == text) return slot.index - 1;
        }
    }

private:
    struct Slot {
        std::uint32_t index = 0;  // from 1
        std::uint32_t tag = 0;
    };
    std::vector<Slot> slots_;
    std::vector<std::string_view> texts_;
};

}  // namespace hearth::models
