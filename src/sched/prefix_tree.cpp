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

PrefixTree::Match PrefixTree::find(Space space, std::span<Token const> text) const {
    auto const found = roots_.find(space);
    if (found == roots_.end()) return {space, kNone, 0};
    Match best{space, found->second, 0};
    std::size_t more = 0;  // tokens of the best node behind the match: of twins the one that says more
    // Twins begin alike, and either may lead further: all that match are looked at.
    std::vector<NodeId> open{found->second};
    while (!open.empty()) {
        auto const end = nodes_[open.back()].end;
        auto const& children = nodes_[open.back()].children;
        open.pop_back();
        if (end == text.size()) continue;
        auto const rest = text.subspan(end);
        auto at = std::lower_bound(children.begin(), children.end(), std::pair{rest.front(), NodeId{0}});
        for (; at != children.end() && at->first == rest.front(); ++at) {
            auto const& tokens = nodes_[at->second].tokens;
            auto const common = common_prefix(tokens, rest);
            auto const matched = end + static_cast<std::uint32_t>(common);
            if (matched > best.tokens || (matched == best.tokens && tokens.size() - common > more)) {
                best = {space, at->second, matched};
                more = tokens.size() - common;
            }
            if (common == tokens.size()) open.push_back(at->second);
        }
    }
    return best;
}

PrefixTree::Match PrefixTree::find_state(Space space, std::span<Token const> text) const {
    auto const found = roots_.find(space);
    if (found == roots_.end()) return {space, kNone, 0};
    Match best{space, found->second, 0};
    // Twins begin alike, and only one may have a state: all that match are looked at.
    std::vector<NodeId> open{found->second};
    while (!open.empty()) {
        NodeId const node = open.back();
        open.pop_back();
        auto const end = nodes_[node].end;
        if (end > best.tokens && has_state(node)) best = {space, node, end};
        if (end == text.size()) continue;
        auto const rest = text.subspan(end);
        auto const& children = nodes_[node].children;
        auto at = std::lower_bound(children.begin(), children.end(), std::pair{rest.front(), NodeId{0}});
        for (; at != children.end() && at->first == rest.front(); ++at) {
            auto const& tokens = nodes_[at->second].tokens;
            if (common_prefix(tokens, rest) == tokens.size()) open.push_back(at->second);
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
    NodeId node = match.node == kNone ? root(match.space) : match.node;
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
    while (nodes_[node].holder == kNoHolder && !nodes_[node].children.empty())
        node = nodes_[node].children.front().second;
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

PrefixTree::Appended PrefixTree::append(NodeId node, std::span<Token const> more, Holder holder) {
    HEARTH_ASSERT(!more.empty() && nodes_[node].pins > 0, "what is appended to is pinned");
    cells_ += more.size();
    now_ += more.size();
    Node& leaf = nodes_[node];
    if (leaf.holder == holder && leaf.pins == 1 && leaf.children.empty() && leaf.checkpoint.empty()) {
        leaf.tokens.insert(leaf.tokens.end(), more.begin(), more.end());
        leaf.end += static_cast<std::uint32_t>(more.size());
        return Appended{node};
    }
    Appended appended{add_leaf(node, more, holder)};
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

std::vector<Token> PrefixTree::continuation(Space space, std::span<Token const> text, std::uint32_t most) const {
    auto const match = find(space, text);
    std::vector<Token> out;
    if (match.tokens < text.size() || match.node == kNone) return out;
    auto const take = [&](NodeId node, std::size_t from) {
        auto const rest = std::span(nodes_[node].tokens).subspan(from);
        auto const count = std::min<std::size_t>(rest.size(), most - out.size());
        out.insert(out.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(count));
    };
    NodeId node = match.node;
    take(node, match.tokens - nodes_[node].begin());
    while (out.size() < most && !nodes_[node].children.empty()) {
        auto const& children = nodes_[node].children;
        node = std::ranges::max_element(children, {}, [this](auto const& child) {
                   return nodes_[child.second].hits;
               })->second;
        take(node, 0);
    }
    return out;
}

PrefixTree::Space PrefixTree::space_of(NodeId node) const {
    while (nodes_[node].parent != kNone) node = nodes_[node].parent;
    return nodes_[node].space;
}

std::optional<PrefixTree::Eviction> PrefixTree::evict() {
    if (leaves_.empty()) return std::nullopt;
    return drop(leaves_.begin()->second);
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
    cells_ -= node.tokens.size();
    reclaimable_ -= node.tokens.size();
    checkpoint_bytes_ -= node.checkpoint.size();
    Node& parent = nodes_[parent_id];
    std::erase_if(parent.children, [id](auto const& entry) { return entry.second == id; });
    if (parent.parent != kNone && parent.children.empty() && parent.holder == kNoHolder) {
        parent.holder = eviction.holder;
        parent.kept = true;
        eviction.keep = parent.end;
    } else {
        --kept_;
    }
    node = Node{};
    free_.push_back(id);
    list(parent_id);
    drop_empty_root(parent_id);
    return eviction;
}

PrefixTree::NodeId PrefixTree::root(Space space) {
    auto const [found, fresh] = roots_.try_emplace(space, kNone);
    if (fresh) {
        found->second = make_node();
        nodes_[found->second].space = space;
    }
    return found->second;
}

void PrefixTree::drop_empty_root(NodeId id) {
    Node& node = nodes_[id];
    if (node.parent != kNone || node.active != 0 || !node.children.empty()) return;
    roots_.erase(node.space);
    node = Node{};
    free_.push_back(id);
}

PrefixTree::NodeId PrefixTree::make_node() {
    if (!free_.empty()) {
        NodeId const id = free_.back();
        free_.pop_back();
        return id;
    }
    nodes_.emplace_back();
    return static_cast<NodeId>(nodes_.size() - 1);
}

void PrefixTree::link(NodeId parent, NodeId node) {
    auto& children = nodes_[parent].children;
    std::pair const entry{nodes_[node].tokens.front(), node};
    children.insert(std::lower_bound(children.begin(), children.end(), entry), entry);
    nodes_[node].parent = parent;
}

// Cuts `node` in two; the upper part, which ends at `end`, is new.
PrefixTree::NodeId PrefixTree::split(NodeId node, std::uint32_t end) {
    NodeId const upper = make_node();
    Node& below = nodes_[node];
    Node& above = nodes_[upper];
    auto const cut = below.tokens.begin() + static_cast<std::ptrdiff_t>(end - below.begin());
    above.tokens.assign(below.tokens.begin(), cut);
    above.end = end;
    above.hits = below.hits;
    above.active = below.active;
    above.used = below.used;
    auto& siblings = nodes_[below.parent].children;
    std::erase_if(siblings, [node](auto const& entry) { return entry.second == node; });
    link(below.parent, upper);
    nodes_[node].tokens.erase(nodes_[node].tokens.begin(), cut);
    link(upper, node);
    return upper;
}

PrefixTree::NodeId PrefixTree::add_leaf(NodeId parent, std::span<Token const> tokens, Holder holder) {
    unlist(parent);
    NodeId const id = make_node();
    Node& leaf = nodes_[id];
    leaf.tokens.assign(tokens.begin(), tokens.end());
    leaf.end = nodes_[parent].end + static_cast<std::uint32_t>(tokens.size());
    leaf.holder = holder;
    reclaimable_ += tokens.size();  // until it is pinned
    link(parent, id);
    return id;
}

void PrefixTree::add_active(NodeId node, bool more) {
    for (; node != kNone; node = nodes_[node].parent) {
        Node& at = nodes_[node];
        at.used = now_;
        if (more && at.active++ == 0) reclaimable_ -= at.tokens.size();
        if (!more && --at.active == 0) reclaimable_ += at.tokens.size();
    }
}

void PrefixTree::list(NodeId id) {
    if (evictable(nodes_[id])) leaves_.emplace(nodes_[id].used, id);
}

void PrefixTree::unlist(NodeId id) {
    if (evictable(nodes_[id])) leaves_.erase({nodes_[id].used, id});
}

void PrefixTree::check_integrity() const {
    std::uint64_t cells = 0;
    std::uint64_t reclaimable = 0;
    std::uint64_t checkpoint_bytes = 0;
    std::uint32_t kept = 0;
    std::size_t evictables = 0;
    std::vector<bool> unused(nodes_.size(), false);
    for (NodeId const id : free_) unused[id] = true;
    for (NodeId id = 0; id < nodes_.size(); ++id) {
        if (unused[id]) continue;
        Node const& node = nodes_[id];
        std::uint32_t active = node.pins;
        for (auto const& [first, below] : node.children) {
            HEARTH_ASSERT(nodes_[below].parent == id && nodes_[below].tokens.front() == first, "links go both ways");
            HEARTH_ASSERT(nodes_[below].begin() == node.end, "a child begins where its parent ends");
            active += nodes_[below].active;
        }
        HEARTH_ASSERT(active == node.active, "pins are counted upwards");
        HEARTH_ASSERT((node.parent == kNone) == node.tokens.empty(), "only roots are empty");
        cells += node.tokens.size();
        reclaimable += node.active == 0 ? node.tokens.size() : 0;
        checkpoint_bytes += node.checkpoint.size();
        kept += node.kept ? 1 : 0;
        if (node.parent != kNone) HEARTH_ASSERT(donor(id) != kNoHolder, "every cell has a sequence");
        HEARTH_ASSERT(!node.kept || node.children.empty(), "sequences are kept for leaves");
        if (evictable(node)) {
            ++evictables;
            HEARTH_ASSERT(node.kept && leaves_.contains({node.used, id}), "a leaf nobody pins can be evicted");
        }
    }
    HEARTH_ASSERT(cells == cells_ && reclaimable == reclaimable_ && kept == kept_, "the counts are right");
    HEARTH_ASSERT(checkpoint_bytes == checkpoint_bytes_, "checkpoints are counted");
    HEARTH_ASSERT(evictables == leaves_.size(), "nothing else can be evicted");
}

}  // namespace hearth::sched
