#include "kvstore/segment_index.h"

#include <algorithm>
#include <tuple>

#include "base/assert.h"

namespace hearth::kvstore {
namespace {

// What a token costs to compute again grows with what it looks back on.
constexpr double kDepthOfDoubleCost = 4096;
constexpr std::uint32_t kHitsMax = 16;

std::uint32_t common_prefix(std::span<Token const> a, std::span<Token const> b) {
    auto const size = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
    return static_cast<std::uint32_t>(std::mismatch(a.begin(), a.begin() + size, b.begin()).first - a.begin());
}

}  // namespace

void SegmentIndex::set_weight(Space const& space, double weight) {
    HEARTH_ASSERT(weight > 0 && !accounts_.contains(space.account), "weights are set before anything is kept");
    weights_[space.account] = Share::whole_weight(weight);
}

std::uint64_t SegmentIndex::bytes_of(Space const& space, Tier tier) const {
    auto const found = accounts_.find(space.account);
    return found == accounts_.end() ? 0 : found->second.shares[tier].amount;
}

std::vector<SegmentId> const* SegmentIndex::level(Space const& space, SegmentId parent) const {
    if (parent != kNoSegment) return &segments_.at(parent).children;
    auto const found = roots_.find(space);
    return found == roots_.end() ? nullptr : &found->second;
}

std::vector<SegmentIndex::Piece> SegmentIndex::find(Space const& space, std::span<Token const> text) const {
    std::vector<Piece> path;
    Piece last;
    while (last.end < text.size()) {
        auto const* const candidates = level(space, last.id);
        if (candidates == nullptr) break;
        Piece best = last;
        for (SegmentId const id : *candidates) {
            auto const& segment = segments_.at(id);
            bool const is_state = segment.head.kind == SegmentKind::state;
            if (is_state || segment.condemned || segment.head.begin != last.end) continue;
            std::uint32_t const end = last.end + common_prefix(segment.head.tokens, text.subspan(last.end));
            if (end > best.end) best = {id, end};
        }
        if (best.end == last.end) break;
        path.push_back(best);
        last = best;
    }
    return path;
}

// The deepest that stands on the segment, of what of it is of use.
SegmentId SegmentIndex::state_within(Piece const& piece) const {
    SegmentId best = kNoSegment;
    for (SegmentId const id : segments_.at(piece.id).children) {
        auto const& segment = segments_.at(id);
        bool const fits =
            segment.head.kind == SegmentKind::state && !segment.condemned && segment.head.begin <= piece.end;
        if (!fits) continue;
        if (best == kNoSegment || segment.head.begin > segments_.at(best).head.begin) best = id;
    }
    return best;
}

SegmentId SegmentIndex::find_state(std::span<Piece const> path) const {
    for (auto piece = path.rbegin(); piece != path.rend(); ++piece) {
        if (SegmentId const id = state_within(*piece); id != kNoSegment) return id;
    }
    return kNoSegment;
}

SegmentId SegmentIndex::state_at_end(std::span<Piece const> path) const {
    if (path.empty()) return kNoSegment;
    SegmentId const id = state_within(path.back());
    return id != kNoSegment && segments_.at(id).head.begin == path.back().end ? id : kNoSegment;
}

Segment* SegmentIndex::get(SegmentId id) {
    auto const found = segments_.find(id);
    return found == segments_.end() ? nullptr : &found->second;
}

SegmentId SegmentIndex::by_key(Digest const& key) const {
    auto const found = keys_.find(key);
    return found == keys_.end() ? kNoSegment : found->second;
}

std::vector<Digest> SegmentIndex::files() const {
    std::vector<Digest> keys;
    for (auto const& [id, segment] : segments_) {
        if (segment.file_bytes > 0 && !segment.condemned) keys.push_back(segment.key);
    }
    return keys;
}

SegmentId SegmentIndex::add(SegmentHead head, Digest const& key, SegmentId parent) {
    SegmentId const id = next_++;
    bool const fresh = keys_.emplace(key, id).second;
    HEARTH_ASSERT(fresh, "a segment is added once");
    if (parent == kNoSegment) {
        roots_[head.space].push_back(id);
    } else {
        auto& above = at(parent);
        HEARTH_ASSERT(head.begin > above.head.begin && head.begin <= above.head.end(),
                      "a segment begins in its parent");
        above.children.push_back(id);
    }
    auto& segment = segments_[id];
    segment.head = std::move(head);
    segment.key = key;
    segment.parent = parent;
    auto const [account, unknown] = accounts_.try_emplace(segment.head.space.account);
    segment.account = &account->second;
    ++segment.account->segments;
    auto const weight = weights_.find(account->first);
    if (unknown && weight != weights_.end()) {
        for (auto& share : segment.account->shares) share.weight = weight->second;
    }
    revalue(segment);
    return id;
}

void SegmentIndex::enter(Segment& segment, Tier tier, std::uint64_t bytes) {
    auto& books = tiers_[tier];
    books.shares.add(segment.account->shares[tier], bytes);
    books.added += bytes;
    ++books.segments;
    segment.used[tier] = books.added;
}

void SegmentIndex::leave(Segment& segment, Tier tier, std::uint64_t bytes) {
    tiers_[tier].shares.remove(segment.account->shares[tier], bytes);
    --tiers_[tier].segments;
}

void SegmentIndex::set_blob(SegmentId id, std::shared_ptr<Blob const> blob) {
    auto& segment = at(id);
    HEARTH_ASSERT(!segment.blob && blob, "a blob comes once");
    enter(segment, Tier::memory, blob->size());
    segment.blob = std::move(blob);
}

void SegmentIndex::set_file(SegmentId id, std::uint64_t bytes) {
    auto& segment = at(id);
    HEARTH_ASSERT(segment.file_bytes == 0 && bytes > 0, "a file comes once");
    segment.file_bytes = bytes;
    enter(segment, Tier::disk, bytes);
    if (segment.parent != kNoSegment) ++at(segment.parent).children_on_disk;
}

void SegmentIndex::hit(SegmentId id) {
    auto& segment = at(id);
    segment.hits = std::min(segment.hits + 1, kHitsMax);
    for (auto const tier : {Tier::memory, Tier::disk}) segment.used[tier] = tiers_[tier].added;
    revalue(segment);
}

void SegmentIndex::revalue(Segment& segment) const {
    double const cost = 1 + static_cast<double>(segment.head.end()) / kDepthOfDoubleCost;
    segment.worth = inflation_ + cost * (1 + segment.hits);
}

bool SegmentIndex::may_go(Segment const& segment, Tier tier) {
    if (segment.pins > 0) return false;
    if (tier == Tier::memory) return segment.blob && (segment.file_bytes > 0 || segment.children.empty());
    return segment.file_bytes > 0 && segment.children_on_disk == 0 && (segment.blob || segment.children.empty());
}

// A scan: there are thousands of segments, and each is megabytes to write or read.
SegmentId SegmentIndex::pick(Tier tier) const {
    auto const& books = tiers_[tier];
    auto least = std::tuple(0.0, kNoSegment);       // worth, of all
    auto given = std::tuple(0.0, 0.0, kNoSegment);  // of who has most for its weight
    for (auto const& [id, segment] : segments_) {
        if (!may_go(segment, tier)) continue;
        bool const first = std::get<1>(least) == kNoSegment;
        auto const worth = std::tuple(segment.worth, id);
        auto const lack = std::tuple(-segment.account->shares[tier].rank(), segment.worth, id);
        if (first || worth < least) least = worth;
        if (first || lack < given) given = lack;
    }
    SegmentId const id = std::get<1>(least);
    if (id == kNoSegment) return kNoSegment;
    auto const& segment = segments_.at(id);
    bool const is_over = Shares::is_over(books.added - segment.used[tier], books.shares.amount());
    return is_over || books.shares.gives(segment.account->shares[tier]) ? id : std::get<2>(given);
}

void SegmentIndex::drop_blob(SegmentId id) {
    auto& segment = at(id);
    leave(segment, Tier::memory, segment.blob->size());
    segment.blob.reset();
    segment.dirty = false;
    inflation_ = std::max(inflation_, segment.worth);
    if (segment.file_bytes == 0) remove(id);
}

void SegmentIndex::drop_file(SegmentId id) {
    auto& segment = at(id);
    leave(segment, Tier::disk, segment.file_bytes);
    segment.file_bytes = 0;
    if (segment.parent != kNoSegment) --at(segment.parent).children_on_disk;
    inflation_ = std::max(inflation_, segment.worth);
    if (!segment.blob) remove(id);
}

void SegmentIndex::remove(SegmentId id) {
    auto& segment = at(id);
    HEARTH_ASSERT(segment.children.empty() && segment.pins == 0, "only leaves leave");
    keys_.erase(segment.key);
    if (segment.parent != kNoSegment) {
        std::erase(at(segment.parent).children, id);
    } else {
        auto const root = roots_.find(segment.head.space);
        std::erase(root->second, id);
        if (root->second.empty()) roots_.erase(root);
    }
    if (--segment.account->segments == 0) accounts_.erase(segment.head.space.account);
    segments_.erase(id);
}

void SegmentIndex::condemn(SegmentId id) {
    auto& segment = at(id);
    if (segment.condemned) return;
    segment.condemned = true;
    segment.dirty = false;
    condemned_.push_back(id);
    for (SegmentId const child : segment.children) condemn(child);
}

// Children were condemned behind their parents: backwards, leaves come first.
std::vector<Digest> SegmentIndex::sweep() {
    std::vector<Digest> files;
    std::vector<SegmentId> left;
    for (auto id = condemned_.rbegin(); id != condemned_.rend(); ++id) {
        auto const found = segments_.find(*id);
        if (found == segments_.end()) continue;  // evicted since
        auto& segment = found->second;
        if (segment.pins > 0 || !segment.children.empty()) {
            left.push_back(*id);
            continue;
        }
        if (segment.file_bytes > 0) files.push_back(segment.key);
        bool const both = segment.file_bytes > 0 && segment.blob;
        if (both || segment.file_bytes == 0) drop_blob(*id);
        if (segments_.contains(*id)) drop_file(*id);
    }
    condemned_.assign(left.rbegin(), left.rend());
    return files;
}

void SegmentIndex::check_integrity() const {
    std::size_t linked = 0;
    for (auto const& [space, ids] : roots_) linked += ids.size();
    for (auto const& [id, segment] : segments_) {
        HEARTH_ASSERT(segment.blob || segment.file_bytes > 0, "a segment is somewhere");
        linked += segment.children.size();
        std::uint32_t children_on_disk = 0;
        for (SegmentId const child : segment.children) {
            auto const& below = segments_.at(child);
            HEARTH_ASSERT(segment.head.kind == SegmentKind::cells, "nothing stands on a state");
            HEARTH_ASSERT(below.parent == id && below.head.space == segment.head.space, "links go both ways");
            children_on_disk += below.file_bytes > 0 ? 1 : 0;
        }
        HEARTH_ASSERT(children_on_disk == segment.children_on_disk, "children on disk are counted");
        HEARTH_ASSERT(keys_.at(segment.key) == id, "a segment is found by its key");
    }
    HEARTH_ASSERT(linked == segments_.size() && keys_.size() == segments_.size(), "every segment is linked once");
    check_accounts();
}

void SegmentIndex::check_accounts() const {
    std::map<Digest, Account> counted;
    for (auto const& [id, segment] : segments_) {
        auto& account = counted[segment.head.space.account];
        ++account.segments;
        account.shares[Tier::memory].amount += segment.blob ? segment.blob->size() : 0;
        account.shares[Tier::disk].amount += segment.file_bytes;
        HEARTH_ASSERT(segment.account == &accounts_.at(segment.head.space.account), "a segment knows whose it is");
    }
    HEARTH_ASSERT(counted.size() == accounts_.size(), "who has nothing is not known");
    for (auto const tier : {Tier::memory, Tier::disk}) {
        std::uint64_t bytes = 0;
        std::uint64_t weights = 0;
        for (auto const& [digest, account] : counted) {
            auto const& known = accounts_.at(digest);
            auto const amount = account.shares[tier].amount;
            HEARTH_ASSERT(account.segments == known.segments && amount == known.shares[tier].amount,
                          "what an account has is counted");
            bytes += amount;
            weights += amount > 0 ? known.shares[tier].weight : 0;
        }
        auto const& all = tiers_[tier].shares;
        HEARTH_ASSERT(bytes == all.amount() && weights == all.weights(), "the bytes are counted");
    }
}

}  // namespace hearth::kvstore
