// WaitingLine: the requests of a model that wait to be begun, by class and
// number. What is asked for every request that comes takes no walk over all of
// them, so that refusing thousands costs those that run next to nothing.
//
// Threads: one. Ownership: it knows numbers and times only. Private to serving.
// REQUIRES: numbers within a class rise with the time they were submitted
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

#include "base/assert.h"
#include "base/clock.h"
#include "domain/generate.h"

namespace hearth::serving {

class WaitingLine {
public:
    void add(domain::Priority priority, domain::RequestId id, Instant submitted) {
        bool const is_new = lines_[index(priority)].emplace(id, submitted).second;
        HEARTH_ASSERT(is_new, "a request waits once");
        ++size_;
    }

    void remove(domain::Priority priority, domain::RequestId id) {
        auto const gone = lines_[index(priority)].erase(id);
        HEARTH_ASSERT(gone == 1, "it waited");
        --size_;
    }

    [[nodiscard]] std::uint32_t size() const { return size_; }

    [[nodiscard]] std::array<std::uint32_t, domain::kPriorityCount> by_class() const {
        std::array<std::uint32_t, domain::kPriorityCount> out{};
        for (std::size_t i = 0; i < lines_.size(); ++i) out[i] = static_cast<std::uint32_t>(lines_[i].size());
        return out;
    }

    // When the oldest of them came.
    [[nodiscard]] std::optional<Instant> oldest() const {
        std::optional<Instant> out;
        for (auto const& line : lines_) {
            if (!line.empty() && (!out || line.begin()->second < *out)) out = line.begin()->second;
        }
        return out;
    }

    // Those before a newcomer of that class: all of it, and of better ones.
    [[nodiscard]] std::uint32_t before_newcomer(domain::Priority priority) const {
        auto out = static_cast<std::uint32_t>(lines_[index(priority)].size());
        for (std::size_t better = 0; better < index(priority); ++better)
            out += static_cast<std::uint32_t>(lines_[better].size());
        return out;
    }

    // Those before the request of that number, which waits. A walk over its class.
    [[nodiscard]] std::uint32_t before(domain::Priority priority, domain::RequestId id) const {
        auto const& line = lines_[index(priority)];
        auto const behind = static_cast<std::uint32_t>(std::distance(line.lower_bound(id), line.end()));
        return before_newcomer(priority) - behind;
    }

private:
    [[nodiscard]] static std::size_t index(domain::Priority priority) { return static_cast<std::size_t>(priority); }

    std::array<std::map<domain::RequestId, Instant>, domain::kPriorityCount> lines_;  // the best class first
    std::uint32_t size_ = 0;
};

}  // namespace hearth::serving
