// ByteRanges: which bytes of a file are there, and which to fetch next.
//
// Threads: none. Limit: the number of pieces is bounded by how many are written
// at once; what touches is joined.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace hearth::fetch {

struct ByteRange {
    std::uint64_t begin = 0, end = 0;  // end is behind the last byte
    [[nodiscard]] std::uint64_t size() const { return end - begin; }
    bool operator==(ByteRange const&) const = default;
};

class ByteRanges {
public:
    // Adding what is there already changes nothing.
    void add(ByteRange range);
    void clear() { pieces_.clear(); }

    [[nodiscard]] std::uint64_t total() const;
    // Bytes from the file's start without a gap.
    [[nodiscard]] std::uint64_t prefix() const;
    // The first bytes in [from, end) that are missing, `most` at most.
    [[nodiscard]] std::optional<ByteRange> first_gap(std::uint64_t from, std::uint64_t end, std::uint64_t most) const;

    // begin → end, ascending, with gaps between them.
    [[nodiscard]] std::map<std::uint64_t, std::uint64_t> const& pieces() const { return pieces_; }

private:
    std::map<std::uint64_t, std::uint64_t> pieces_;
};

}  // namespace hearth::fetch
