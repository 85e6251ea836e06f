#include "fetch/byte_ranges.h"

#include <algorithm>

namespace hearth::fetch {

void ByteRanges::add(ByteRange range) {
    if (range.begin >= range.end) return;
    auto at = pieces_.upper_bound(range.begin);
    if (at != pieces_.begin() && std::prev(at)->second >= range.begin) --at;
    while (at != pieces_.end() && at->first <= range.end) {
        range.begin = std::min(range.begin, at->first);
        range.end = std::max(range.end, at->second);
        at = pieces_.erase(at);
    }
    pieces_.emplace(range.begin, range.end);
}

std::uint64_t ByteRanges::total() const {
    std::uint64_t sum = 0;
    for (auto const& [begin, end] : pieces_) sum += end - begin;
    return sum;
}

std::uint64_t ByteRanges::prefix() const {
    return pieces_.empty() || pieces_.begin()->first != 0 ? 0 : pieces_.begin()->second;
}

std::optional<ByteRange> ByteRanges::first_gap(std::uint64_t from, std::uint64_t end, std::uint64_t most) const {
    auto at = pieces_.upper_bound(from);
    if (at != pieces_.begin() && std::prev(at)->second > from) from = std::prev(at)->second;
    if (from >= end) return std::nullopt;
    auto const until = at == pieces_.end() ? end : std::min(end, at->first);
    return ByteRange{from, from + std::min(until - from, most)};
}

}  // namespace hearth::fetch
