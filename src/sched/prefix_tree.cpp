#include "sched/prefix_tree.h"

#include <algorithm>

#include "base/assert.h"

namespace hearth::sched {
namespace {

constexpr std::uint32_t kHitsMax = 16;  // more say nothing about the future

std::size_t common_prefix(std::span<Token const> a, std::span<Token const> b) {
    auto const size = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
    return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + size, b.begin()).first - a.begin());
}

}  // namespace

void PrefixTree::set_weight(Owner owner, double weight) {
    HEARTH_ASSERT(weight > 0, "an owner without weight would keep nothing");
    HEARTH_ASSERT(!owners_.contains(owner), "weights are set before anything is kept");
    weights_[owner] = Share::whole_weight(weight);
}

// Up to the end of what is public one walks among that, behind it in the own space.
PrefixTree::Reach PrefixTree::reach(Key const& key, std::uint32_t done, std::span<Token const> text) {
    if (done >= key.shared) return {key.space, text};
    return {kPublic, text.first(std::min<std::size_t>(text.size(), key.shared - done))};
}

PrefixTree::NodeId PrefixTree::root_of(Key const& key) const {
    auto const found = spaces_.find(key.shared > 0 ? kPublic : key.space);
    return found == spaces_.end() ? kNone : found->second.root;
}

PrefixTree::Match PrefixTree::find(Key const& key, std::span<Token const> text) const {
    Match best{key, root_of(key), 0};
    if (best.node == kNone) return best;
    std::size_t more = 0;  // tokens of the best node behind the match: of twins the one that says more
    // Twins begin alike, and either may lead further: all that match are looked at.
    std::vector<NodeId> open{best.node};
    while (!open.empty()) {
        auto const end = nodes_[open.back()].end;
        auto const& children = nodes_[open.back()].children;
        open.pop_back();
        if (end == text.size()) continue;
        auto const [space, rest] = reach(key, end, text.subspan(end));
        auto at = std::lower_bound(children.begin(), children.end(), Child{space, rest.front(), 0});
        for (; at != children.end() && at->space == space && at->first == rest.front(); ++at) {
            auto const& tokens = nodes_[at->id].tokens;
            auto const common = common_prefix(tokens, rest);
            auto const matched = end + static_cast<std::uint32_t>(common);
            if (matched > best.tokens || (matched == best.tokens && tokens.size() - common > more)) {
                best = {key, at->id, matched};
                more = tokens.size() - common;
            }
            if (common == tokens.size()) open.push_back(at->id);
        }
    }
    return best;
}

PrefixTree::Match PrefixTree::find_state(Key const& key, std::span<Token const> text) const {
    Match best{key, root_of(key), 0};
    if (best.node == kNone) return best;
    // Twins begin alike, and only one may have a state: all that match are looked at.
    std::vector<NodeId> open{best.node};
    while (!open.empty()) {
        NodeId const node = open.back();
        open.pop_back();
        auto const end = nodes_[node].end;
        if (end > best.tokens && has_state(node)) best = {key, node, end};
        if (end == text.size()) continue;
        auto const [space, rest] = reach(key, end, text.subspan(end));
        auto const& children = nodes_[node].children;
        auto at = std::lower_bound(children.begin(), children.end(), Child{space, rest.front(), 0});
        for (; at != children.end() && at->space == space && at->first == rest.front(); ++at) {
            auto const& tokens = nodes_[at->id].tokens;
            if (common_prefix(tokens, rest) == tokens.size()) open.push_back(at->id);
        }
    }
    return best;
}

void PrefixTree::set_checkpoint(NodeId node, std::vector<std::byte> checkpoint) {
    HEARTH_ASSERT(nodes_[node].pins > 0 && nodes_[node].parent != kNone, "a checkpoint is of what its owner computed");
    auto& place = nodes_[node].checkpoint;
    checkpoint_bytes_ += checkpoint.size();
    checkpoint_bytes_ -= place.size();
    place = std::move(checkpoint);
}

Holder PrefixTree::exchange(NodeId node, Holder holder) {
    HEARTH_ASSERT(nodes_[node].kept, "only what the tree keeps is exchanged");
    return std::exchange(nodes_[node].holder, holder);
}

PrefixTree::NodeId PrefixTree::pin(Match match) {
    NodeId node = match.node == kNone ? root(match.key) : match.node;
    HEARTH_ASSERT(match.tokens <= nodes_[node].end && match.tokens >= nodes_[node].begin(), "the match is in its node");
    if (match.tokens == nodes_[node].begin() && nodes_[node].parent != kNone) node = nodes_[node].parent;
    else if (match.tokens < nodes_[node].end) node = split(node, match.tokens);
    unlist(node);
    ++nodes_[node].pins;
    add_active(node, true);
    return node;
}

void PrefixTree::unpin(NodeId node) {
    HEARTH_ASSERT(nodes_[node].pins > 0, "a pin is given back once");
    --nodes_[node].pins;
    add_active(node, false);
    list(node);
    drop_empty_root(node);
}

void PrefixTree::hit(NodeId node) { nodes_[node].hits = std::min(nodes_[node].hits + 1, kHitsMax); }

Holder PrefixTree::donor(NodeId node) const {
    while (nodes_[node].holder == kNoHolder && !nodes_[node].children.empty()) node = nodes_[node].children.front().id;
    return nodes_[node].holder;
}

Holder PrefixTree::take(NodeId node) {
    Node& at = nodes_[node];
    HEARTH_ASSERT(at.pins > 0, "what is taken is pinned");
    if (!at.kept || at.pins != 1) return kNoHolder;
    at.kept = false;
    --kept_;
    return at.holder;
}

PrefixTree::Appended PrefixTree::append(NodeId node, std::span<Token const> more, Holder holder, Key const& key) {
    HEARTH_ASSERT(!more.empty() && nodes_[node].pins > 0, "what is appended to is pinned");
    if (nodes_[node].space != kPublic) return append_part(node, more, holder, nodes_[node].space, nodes_[node].owner);
    HEARTH_ASSERT(key.space != kPublic, "only what a key says is shared is public");
    auto const shared = reach(key, nodes_[node].end, more);
    if (shared.space != kPublic) return append_part(node, more, holder, key.space, key.owner);
    auto const common = append_part(node, shared.text, holder, kPublic, kEverybody);
    if (shared.text.size() == more.size()) return common;
    auto own = append_part(common.node, more.subspan(shared.text.size()), holder, key.space, key.owner);
    HEARTH_ASSERT(own.freed == kNoHolder, "who computed the node before holds it");
    own.freed = common.freed;
    return own;
}

PrefixTree::Appended PrefixTree::append_part(NodeId node, std::span<Token const> more, Holder holder, Space space,
                                             Owner owner) {
    now_ += more.size();
    Node& leaf = nodes_[node];
    bool const grows = leaf.holder == holder && leaf.pins == 1 && leaf.children.empty() && leaf.checkpoint.empty();
    if (grows && leaf.space == space) {
        leaf.tokens.insert(leaf.tokens.end(), more.begin(), more.end());
        leaf.end += static_cast<std::uint32_t>(more.size());
        count(owner, static_cast<std::int64_t>(more.size()), 0);
        return Appended{node};
    }
    Appended appended{add_leaf(node, more, holder, space, owner)};
    Node& parent = nodes_[node];
    if (parent.kept) {
        appended.freed = parent.holder;
        parent.kept = false;
        --kept_;
        parent.holder = kNoHolder;
    } else if (parent.holder == holder) {
        parent.holder = kNoHolder;
    }
    ++nodes_[appended.node].pins;
    add_active(appended.node, true);
    unpin(node);
    return appended;
}

bool PrefixTree::leave(NodeId node, Holder holder) {
    Node& left = nodes_[node];
    bool keep = false;
    if (left.holder == holder) {
        keep = left.children.empty();
        if (keep) {
            left.kept = true;
            ++kept_;
        } else {
            left.holder = kNoHolder;
        }
    }
    unpin(node);
    return keep;
}

Holder PrefixTree::hand_over(NodeId node, Holder heir) {
    Node& at = nodes_[node];
    HEARTH_ASSERT(at.kept && at.pins > 0, "only what the tree keeps is handed over, to one that pins it");
    at.kept = false;
    --kept_;
    return std::exchange(at.holder, heir);
}

std::vector<PrefixTree::NodeId> PrefixTree::states(NodeId node) const {
    std::vector<NodeId> found;
    for (; nodes_[node].parent != kNone; node = nodes_[node].parent) {
        if (has_state(node)) found.push_back(node);
    }
    std::ranges::reverse(found);
    return found;
}

std::vector<Token> PrefixTree::text(NodeId node) const {
    std::vector<Token> text(nodes_[node].end);
    for (; nodes_[node].parent != kNone; node = nodes_[node].parent) {
        auto const& tokens = nodes_[node].tokens;
        std::copy(tokens.begin(), tokens.end(), text.begin() + nodes_[node].begin());
    }
    return text;
}

std::vector<Token> PrefixTree::continuation(Key const& key, std::span<Token const> text, std::uint32_t most) const {
    auto const match = find(key, text);
    std::vector<Token> out;
    if (match.tokens < text.size() || match.node == kNone) return out;
    auto const take = [&](NodeId node, std::size_t from) {
        auto const rest = std::span(nodes_[node].tokens).subspan(from);
        auto const count = std::min<std::size_t>(rest.size(), most - out.size());
        out.insert(out.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(count));
    };
    NodeId node = match.node;
    std::size_t from = match.tokens - nodes_[node].begin();
    for (;;) {
        // What is public behind the end of what this text shares says nothing of it.
        bool const beyond = nodes_[node].space == kPublic && nodes_[node].end > key.shared;
        if (beyond) return out;
        take(node, from);
        if (out.size() == most) return out;
        auto const space = nodes_[node].end < key.shared ? kPublic : key.space;
        auto const next = most_hit(nodes_[node].children, space);
        if (next == kNone) return out;
        node = next;
        from = 0;
    }
}

PrefixTree::NodeId PrefixTree::most_hit(std::vector<Child> const& children, Space space) const {
    NodeId most = kNone;
    for (auto const& child : children) {
        if (child.space != space) continue;
        if (most == kNone || nodes_[child.id].hits > nodes_[most].hits) most = child.id;
    }
    return most;
}

PrefixTree::NodeId PrefixTree::victim() const {
    if (leaves_.empty()) return kNone;
    auto const [used, oldest] = *leaves_.begin();
    if (is_given(used, owners_.at(nodes_[oldest].owner))) return oldest;
    return owners_.at(ranked_.rbegin()->second).leaves.begin()->second;
}

PrefixTree::Holding PrefixTree::holding(Owner owner) const {
    auto const found = owners_.find(owner);
    if (found == owners_.end()) return {};
    auto const& account = found->second;
    return {account.cells, account.unused.amount, unused_.part(account.unused)};
}

std::optional<PrefixTree::Eviction> PrefixTree::evict() {
    if (leaves_.empty()) return std::nullopt;
    return drop(victim());
}

std::optional<PrefixTree::Eviction> PrefixTree::evict(NodeId node) {
    if (!evictable(nodes_[node])) return std::nullopt;
    return drop(node);
}

PrefixTree::Eviction PrefixTree::drop(NodeId id) {
    unlist(id);
    Node& node = nodes_[id];
    HEARTH_ASSERT(node.kept, "a leaf nobody pins has a sequence of the tree's");
    NodeId const parent_id = node.parent;
    Eviction eviction{node.holder, 0, parent_id};
    auto const size = static_cast<std::int64_t>(node.tokens.size());
    count(node.owner, -size, -size);
    checkpoint_bytes_ -= node.checkpoint.size();
    Node& parent = nodes_[parent_id];
    std::erase_if(parent.children, [id](Child const& child) { return child.id == id; });
    if (parent.parent != kNone && parent.children.empty() && parent.holder == kNoHolder) {
        parent.holder = eviction.holder;
        parent.kept = true;
        eviction.keep = parent.end;
    } else {
        --kept_;
    }
    free_node(id);
    list(parent_id);
    drop_empty_root(parent_id);
    return eviction;
}

PrefixTree::NodeId PrefixTree::root(Key const& key) {
    NodeId const known = root_of(key);
    if (known != kNone) return known;
    NodeId const made = key.shared > 0 ? make_node(kPublic, kEverybody) : make_node(key.space, key.owner);
    spaces_.at(nodes_[made].space).root = made;
    return made;
}

void PrefixTree::drop_empty_root(NodeId id) {
    Node const& node = nodes_[id];
    if (node.parent != kNone || node.active != 0 || !node.children.empty()) return;
    spaces_.at(node.space).root = kNone;
    free_node(id);
}

PrefixTree::NodeId PrefixTree::make_node(Space space, Owner owner) {
    NodeId id = static_cast<NodeId>(nodes_.size());
    if (free_.empty()) {
        nodes_.emplace_back();
    } else {
        id = free_.back();
        free_.pop_back();
    }
    nodes_[id].space = space;
    nodes_[id].owner = owner;
    ++spaces_[space].nodes;
    auto const [account, fresh] = owners_.try_emplace(owner);
    ++account->second.nodes;
    auto const weight = weights_.find(owner);
    if (fresh && weight != weights_.end()) account->second.unused.weight = weight->second;
    return id;
}

void PrefixTree::free_node(NodeId id) {
    auto const space = spaces_.find(nodes_[id].space);
    if (--space->second.nodes == 0) spaces_.erase(space);
    auto const owner = owners_.find(nodes_[id].owner);
    if (--owner->second.nodes == 0) owners_.erase(owner);
    nodes_[id] = Node{};
    free_.push_back(id);
}

void PrefixTree::count(Owner owner, std::int64_t cells, std::int64_t unused) {
    auto& account = owners_.at(owner);
    auto const add = [](std::uint64_t& to, std::int64_t more) { to += static_cast<std::uint64_t>(more); };
    add(account.cells, cells);
    add(cells_, cells);
    if (unused == 0) return;
    bool const ranked = !account.leaves.empty();
    if (ranked) ranked_.erase({account.unused.rank(), owner});
    if (unused > 0) unused_.add(account.unused, static_cast<std::uint64_t>(unused));
    else unused_.remove(account.unused, static_cast<std::uint64_t>(-unused));
    if (ranked) ranked_.emplace(account.unused.rank(), owner);
}

void PrefixTree::link(NodeId parent, NodeId node) {
    auto& children = nodes_[parent].children;
    Child const entry{nodes_[node].space, nodes_[node].tokens.front(), node};
    children.insert(std::lower_bound(children.begin(), children.end(), entry), entry);
    nodes_[node].parent = parent;
}

// Cuts `node` in two; the upper part, which ends at `end`, is new.
PrefixTree::NodeId PrefixTree::split(NodeId node, std::uint32_t end) {
    NodeId const upper = make_node(nodes_[node].space, nodes_[node].owner);
    Node& below = nodes_[node];
    Node& above = nodes_[upper];
    auto const cut = below.tokens.begin() + static_cast<std::ptrdiff_t>(end - below.begin());
    above.tokens.assign(below.tokens.begin(), cut);
    above.end = end;
    above.hits = below.hits;
    above.active = below.active;
    above.used = below.used;
    auto& siblings = nodes_[below.parent].children;
    std::erase_if(siblings, [node](Child const& child) { return child.id == node; });
    link(below.parent, upper);
    nodes_[node].tokens.erase(nodes_[node].tokens.begin(), cut);
    link(upper, node);
    return upper;
}

PrefixTree::NodeId PrefixTree::add_leaf(NodeId parent, std::span<Token const> tokens, Holder holder, Space space,
                                        Owner owner) {
    unlist(parent);
    NodeId const id = make_node(space, owner);
    Node& leaf = nodes_[id];
    leaf.tokens.assign(tokens.begin(), tokens.end());
    leaf.end = nodes_[parent].end + static_cast<std::uint32_t>(tokens.size());
    leaf.holder = holder;
    auto const size = static_cast<std::int64_t>(tokens.size());
    count(owner, size, size);  // unused until it is pinned
    link(parent, id);
    return id;
}

void PrefixTree::add_active(NodeId node, bool more) {
    for (; node != kNone; node = nodes_[node].parent) {
        Node& at = nodes_[node];
        auto const size = static_cast<std::int64_t>(at.tokens.size());
        at.used = now_;
        if (more && at.active++ == 0) count(at.owner, 0, -size);
        if (!more && --at.active == 0) count(at.owner, 0, size);
    }
}

void PrefixTree::list(NodeId id) {
    Node const& node = nodes_[id];
    if (!evictable(node)) return;
    leaves_.emplace(node.used, id);
    auto& account = owners_.at(node.owner);
    if (account.leaves.empty()) ranked_.emplace(account.unused.rank(), node.owner);
    account.leaves.emplace(node.used, id);
}

void PrefixTree::unlist(NodeId id) {
    Node const& node = nodes_[id];
    if (!evictable(node)) return;
    leaves_.erase({node.used, id});
    auto& account = owners_.at(node.owner);
    account.leaves.erase({node.used, id});
    if (account.leaves.empty()) ranked_.erase({account.unused.rank(), node.owner});
}

void PrefixTree::check_integrity() const {
    std::uint64_t checkpoint_bytes = 0;
    std::uint32_t kept = 0;
    std::size_t evictables = 0;
    std::vector<bool> unused(nodes_.size(), false);
    for (NodeId const id : free_) unused[id] = true;
    for (NodeId id = 0; id < nodes_.size(); ++id) {
        if (unused[id]) continue;
        Node const& node = nodes_[id];
        std::uint32_t active = node.pins;
        for (auto const& child : node.children) {
            Node const& below = nodes_[child.id];
            HEARTH_ASSERT(below.parent == id && below.tokens.front() == child.first, "links go both ways");
            HEARTH_ASSERT(below.begin() == node.end, "a child begins where its parent ends");
            HEARTH_ASSERT(below.space == child.space, "a child says whose it is");
            bool const same = below.space == node.space && below.owner == node.owner;
            HEARTH_ASSERT(same || node.space == kPublic, "only what is public is shared");
            active += below.active;
        }
        HEARTH_ASSERT((node.space == kPublic) == (node.owner == kEverybody), "what is public is everybody's");
        HEARTH_ASSERT(active == node.active, "pins are counted upwards");
        HEARTH_ASSERT((node.parent == kNone) == node.tokens.empty(), "only roots are empty");
        checkpoint_bytes += node.checkpoint.size();
        kept += node.kept ? 1 : 0;
        if (node.parent != kNone) HEARTH_ASSERT(donor(id) != kNoHolder, "every cell has a sequence");
        HEARTH_ASSERT(!node.kept || node.children.empty(), "sequences are kept for leaves");
        if (evictable(node)) {
            ++evictables;
            HEARTH_ASSERT(node.kept && leaves_.contains({node.used, id}), "a leaf nobody pins can be evicted");
        }
    }
    HEARTH_ASSERT(kept == kept_ && checkpoint_bytes == checkpoint_bytes_, "the counts are right");
    HEARTH_ASSERT(evictables == leaves_.size(), "nothing else can be evicted");
    check_accounts();
    check_victim();
}

void PrefixTree::check_accounts() const {
    std::map<Owner, Account> counted;
    std::map<Space, std::uint32_t> nodes;
    std::vector<bool> unused(nodes_.size(), false);
    for (NodeId const id : free_) unused[id] = true;
    for (NodeId id = 0; id < nodes_.size(); ++id) {
        if (unused[id]) continue;
        Node const& node = nodes_[id];
        auto& account = counted[node.owner];
        ++account.nodes;
        ++nodes[node.space];
        account.cells += node.tokens.size();
        account.unused.amount += node.active == 0 ? node.tokens.size() : 0;
        if (evictable(node)) account.leaves.emplace(node.used, id);
    }
    std::uint64_t cells = 0;
    std::uint64_t reclaimable = 0;
    std::uint64_t weights = 0;
    std::size_t ranked = 0;
    HEARTH_ASSERT(counted.size() == owners_.size() && nodes.size() == spaces_.size(), "who has nothing is not known");
    for (auto const& [owner, account] : counted) {
        auto const& known = owners_.at(owner);
        HEARTH_ASSERT(account.cells == known.cells && account.unused.amount == known.unused.amount &&
                          account.nodes == known.nodes && account.leaves == known.leaves,
                      "an owner's cells are counted");
        cells += account.cells;
        reclaimable += account.unused.amount;
        weights += account.unused.amount > 0 ? known.unused.weight : 0;
        ranked += account.leaves.empty() ? 0 : 1;
        HEARTH_ASSERT(account.leaves.empty() || ranked_.contains({known.unused.rank(), owner}),
                      "who has leaves is ranked");
    }
    for (auto const& [space, count] : nodes)
        HEARTH_ASSERT(spaces_.at(space).nodes == count, "a space counts its nodes");
    HEARTH_ASSERT(cells == cells_ && reclaimable == unused_.amount() && weights == unused_.weights(),
                  "the sums are right");
    HEARTH_ASSERT(ranked == ranked_.size(), "nobody else is ranked");
}

// Who is within its share gives nothing as long as somebody has leaves beyond his, unless all forgot it.
void PrefixTree::check_victim() const {
    NodeId const id = victim();
    HEARTH_ASSERT((id == kNone) == leaves_.empty(), "what is not in use can go");
    if (id == kNone) return;
    auto const& giver = owners_.at(nodes_[id].owner);
    if (is_given(nodes_[id].used, giver)) return;
    for (auto const& [owner, account] : owners_)
        HEARTH_ASSERT(account.leaves.empty() || account.unused.rank() <= giver.unused.rank(),
                      "who has most for its weight gives");
}

}  // namespace hearth::sched
