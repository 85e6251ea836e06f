#include "sched/prefix_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace hearth::sched {
namespace {

using Text = std::vector<Token>;

Text iota(std::size_t count, Token first = 0) {
    Text text(count);
    for (std::size_t i = 0; i < count; ++i) text[i] = first + static_cast<Token>(i);
    return text;
}

// A request that computes what is missing of `text` at once, and ends.
void store(PrefixTree& tree, Text const& text, Holder holder, PrefixTree::Key const& key = {}) {
    auto const match = tree.find(key, text);
    auto node = tree.pin(match);
    if (match.tokens < text.size()) node = tree.append(node, std::span(text).subspan(match.tokens), holder, key).node;
    ASSERT_TRUE(tree.leave(node, holder));
    tree.check_integrity();
}

TEST(PrefixTree, AnEmptyTreeKnowsNothing) {
    PrefixTree tree;
    EXPECT_EQ(tree.find(0, iota(5)).tokens, 0U);
    EXPECT_FALSE(tree.evict());
    EXPECT_EQ(tree.cells(), 0U);
}

TEST(PrefixTree, FindsTheLongestPrefixEvenInsideANode) {
    PrefixTree tree;
    store(tree, iota(100), 1);
    EXPECT_EQ(tree.find(0, iota(40)).tokens, 40U);
    EXPECT_EQ(tree.find(0, iota(200)).tokens, 100U);
    auto other = iota(100);
    other[70] = -1;
    EXPECT_EQ(tree.find(0, other).tokens, 70U);
}

TEST(PrefixTree, SpacesShareNothing) {
    PrefixTree tree;
    store(tree, iota(100), 1, 7);
    EXPECT_EQ(tree.find(8, iota(100)).tokens, 0U);
}

TEST(PrefixTree, SharedCellsAreCountedOnce) {
    PrefixTree tree;
    store(tree, iota(100), 1);
    auto other = iota(120);
    other[60] = -1;
    store(tree, other, 2);
    EXPECT_EQ(tree.cells(), 100U + 60U);
    EXPECT_EQ(tree.kept(), 2U);
}

TEST(PrefixTree, WhatIsBeingComputedIsFoundAtOnce) {
    PrefixTree tree;
    auto const text = iota(100);
    auto const start = tree.pin(tree.find(0, text));
    auto const first = tree.append(start, std::span(text).first(30), 5).node;
    auto const match = tree.find(0, text);
    EXPECT_EQ(match.tokens, 30U);
    EXPECT_EQ(tree.donor(match.node), 5);
    auto const second = tree.append(first, std::span(text).subspan(30, 40), 5).node;
    EXPECT_EQ(second, first) << "a leaf that one request grows stays one node";
    EXPECT_EQ(tree.text(second), iota(70));
    EXPECT_FALSE(tree.evict()) << "it is pinned";
    tree.check_integrity();
}

TEST(PrefixTree, TheSameComputedTwiceHasCellsTwice) {
    PrefixTree tree;
    auto const text = iota(50);
    auto const a = tree.pin(tree.find(0, text));
    auto const b = tree.pin(tree.find(0, text));
    auto const a_end = tree.append(a, text, 1).node;
    auto const b_end = tree.append(b, std::span(text).first(40), 2).node;
    EXPECT_EQ(tree.cells(), 90U);
    EXPECT_EQ(tree.find(0, text).node, a_end) << "the longer one";
    EXPECT_TRUE(tree.leave(a_end, 1));
    EXPECT_TRUE(tree.leave(b_end, 2));
    tree.check_integrity();
    EXPECT_TRUE(tree.evict());
    EXPECT_TRUE(tree.evict());
    EXPECT_EQ(tree.cells(), 0U);
    EXPECT_EQ(tree.nodes(), 0U);
}

TEST(PrefixTree, ASequenceThatIsNoLongerALeafsIsGivenBack) {
    PrefixTree tree;
    store(tree, iota(50), 1);
    auto const longer = iota(80);
    auto const node = tree.pin(tree.find(0, longer));
    auto const appended = tree.append(node, std::span(longer).subspan(50), 2);
    EXPECT_EQ(appended.freed, 1);
    EXPECT_EQ(tree.donor(node), 2);
    EXPECT_EQ(tree.kept(), 0U);
    tree.check_integrity();
}

TEST(PrefixTree, AConversationGoesOnInItsOwnSequence) {
    PrefixTree tree;
    store(tree, iota(50), 1);
    auto const longer = iota(80);
    auto const node = tree.pin(tree.find(0, longer));
    EXPECT_EQ(tree.take(node), 1);
    auto const appended = tree.append(node, std::span(longer).subspan(50), 1);
    EXPECT_EQ(appended.node, node);
    EXPECT_EQ(appended.freed, kNoHolder);
    EXPECT_EQ(tree.find(0, longer).tokens, 80U);
    tree.check_integrity();
}

TEST(PrefixTree, ASequenceThatAnotherUsesTooIsNotTaken) {
    PrefixTree tree;
    store(tree, iota(50), 1);
    auto const a = tree.pin(tree.find(0, iota(50)));
    auto const b = tree.pin(tree.find(0, iota(50)));
    EXPECT_EQ(a, b);
    EXPECT_EQ(tree.take(b), kNoHolder);
    EXPECT_EQ(tree.hand_over(a, 7), 1) << "but handed to one of them";
    EXPECT_EQ(tree.donor(b), 7);
    EXPECT_EQ(tree.kept(), 0U);
    EXPECT_FALSE(tree.leave(b, 8));
    EXPECT_TRUE(tree.leave(a, 7));
    tree.check_integrity();
}

TEST(PrefixTree, ARequestThatOnlyReadSomethingLeavesNothing) {
    PrefixTree tree;
    store(tree, iota(50), 1);
    auto const node = tree.pin(tree.find(0, iota(50)));
    EXPECT_FALSE(tree.leave(node, 2));
    tree.check_integrity();
}

TEST(PrefixTree, EvictingALeafCutsItsHolderBackToTheParent) {
    PrefixTree tree;
    store(tree, iota(100), 1);
    auto other = iota(100);
    other[60] = -1;
    store(tree, other, 2);
    auto const first = tree.evict();
    ASSERT_TRUE(first);
    EXPECT_EQ(tree.cells(), 100U);
    EXPECT_EQ(first->keep, 0U) << "the other leaf holds the parent";
    auto const second = tree.evict();
    ASSERT_TRUE(second);
    EXPECT_EQ(second->keep, 60U) << "now nobody else does";
    auto const third = tree.evict();
    ASSERT_TRUE(third);
    EXPECT_EQ(third->keep, 0U);
    EXPECT_FALSE(tree.evict());
    EXPECT_EQ(tree.cells(), 0U);
    EXPECT_EQ(tree.kept(), 0U);
    tree.check_integrity();
}

TEST(PrefixTree, WhatWasUnusedLongestGoesFirst) {
    PrefixTree tree;
    store(tree, iota(100, 0), 1);
    store(tree, iota(100, 1000), 2);
    store(tree, iota(100, 2000), 3);
    tree.unpin(tree.pin(tree.find(0, iota(100, 0))));
    auto const evicted = tree.evict();
    ASSERT_TRUE(evicted);
    EXPECT_EQ(evicted->holder, 2);
}

TEST(PrefixTree, TellsWhatOthersSaidBehindATextAndOfSeveralWhatWasUsedMost) {
    PrefixTree tree;
    auto rare = iota(50);
    for (std::size_t i = 20; i < 50; ++i) rare[i] = -1;
    store(tree, iota(50), 1);
    store(tree, rare, 2);
    auto const node = tree.find(0, iota(50)).node;
    tree.hit(node);
    EXPECT_EQ(tree.continuation(0, iota(20), 100), iota(30, 20));
    EXPECT_EQ(tree.continuation(0, iota(10), 15), iota(15, 10)) << "from inside a node, and no more than asked for";
    EXPECT_TRUE(tree.continuation(0, iota(50), 10).empty()) << "nobody said more";
    EXPECT_TRUE(tree.continuation(0, iota(60), 10).empty()) << "nobody said that";
    EXPECT_TRUE(tree.continuation(1, iota(20), 10).empty()) << "not to this tenant";
}

TEST(PrefixTree, WhatWasOftenUsedLongAgoGoesInTheEnd) {
    PrefixTree tree;
    store(tree, iota(10, 0), 1);
    for (int i = 0; i < 30; ++i) tree.hit(tree.find(0, iota(10, 0)).node);
    for (int i = 1; i < 200; ++i) {
        store(tree, iota(10, 1000 * i), 1 + i);
        ASSERT_TRUE(tree.evict());
    }
    EXPECT_EQ(tree.find(0, iota(10, 0)).tokens, 0U);
}

// A cache as the plain truth: each sequence is a list of cells, shared when copied.
class Naive {
public:
    explicit Naive(std::uint32_t seed) : random_(seed) {}

    void run(int steps) {
        for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
            switch (random_() % 4) {
                case 0: arrive(); break;
                case 1: compute(); break;
                case 2: end(); break;
                default: evict(); break;
            }
            check();
        }
        while (!requests_.empty()) end();
        while (tree_.reclaimable() > 0) evict();
        check();
        EXPECT_EQ(tree_.cells(), 0U);
        EXPECT_EQ(tree_.nodes(), 0U);
        EXPECT_TRUE(sequences_.empty());
    }

private:
    struct Cell {
        int id;
        Token token;
        bool operator<(Cell const& other) const { return id < other.id; }
    };
    struct Sequence {
        PrefixTree::Key key;
        std::vector<Cell> cells;
        void cut(std::size_t size) { cells.erase(cells.begin() + static_cast<std::ptrdiff_t>(size), cells.end()); }
        [[nodiscard]] Text text() const {
            Text text;
            for (auto const& cell : cells) text.push_back(cell.token);
            return text;
        }
    };
    struct Request {
        Text text;
        PrefixTree::NodeId node;
        PrefixTree::Key key;
    };
    using Place = std::pair<PrefixTree::Space, Text>;  // a prefix, and who may stand on it

    // Two spaces of owner 1, one of owner 2; for these two begins of text are public.
    static PrefixTree::Key key_of(PrefixTree::Space space, Text const& text) {
        auto const begins = [&text](Text const& with) {
            return text.size() >= with.size() && std::equal(with.begin(), with.end(), text.begin());
        };
        bool const sees = space != 1;
        std::uint32_t const shared = sees && begins({1, 2, 0}) ? 3 : sees && begins({1}) ? 1 : 0;
        return {space, space == 2 ? 2U : 1U, shared};
    }
    static Place place(PrefixTree::Key const& key, Text const& prefix) {
        return {prefix.size() <= key.shared ? PrefixTree::kPublic : key.space, prefix};
    }

    Text random_text() {
        Text text(1 + random_() % 12);
        for (auto& token : text) token = static_cast<Token>(random_() % 3);
        return text;
    }

    void arrive() {
        auto const text = random_text();
        auto const key = key_of(random_() % 3, text);
        auto const match = tree_.find(key, text);
        auto const node = tree_.pin(match);
        if (random_() % 2 == 0) tree_.hit(node);
        Holder id = random_() % 2 == 0 ? tree_.take(node) : kNoHolder;
        if (id == kNoHolder) {
            id = next_++;
            if (match.tokens > 0) {
                sequences_[id] = sequences_.at(tree_.donor(node));
                sequences_[id].cut(match.tokens);
            }
        }
        sequences_[id].key = key;
        ASSERT_EQ(sequences_.at(id).text(), Text(text.begin(), text.begin() + match.tokens));
        requests_[id] = {text, node, key};
    }

    auto pick() { return std::next(requests_.begin(), static_cast<std::ptrdiff_t>(random_() % requests_.size())); }

    void compute() {
        if (requests_.empty()) return;
        auto& [id, request] = *pick();
        auto& cells = sequences_.at(id).cells;
        if (cells.size() == request.text.size()) return;
        auto const more =
            std::span(request.text).subspan(cells.size(), 1 + random_() % (request.text.size() - cells.size()));
        for (Token const token : more) cells.push_back({next_cell_++, token});
        auto const appended = tree_.append(request.node, more, id, request.key);
        request.node = appended.node;
        if (appended.freed != kNoHolder) ASSERT_EQ(sequences_.erase(appended.freed), 1U);
    }

    void end() {
        if (requests_.empty()) return;
        auto const at = pick();
        auto const id = at->first;
        if (!tree_.leave(at->second.node, id)) sequences_.erase(id);
        requests_.erase(at);
    }

    void evict() {
        auto const evicted = tree_.evict();
        if (!evicted) return;
        ASSERT_FALSE(requests_.contains(evicted->holder));
        if (evicted->keep == 0) {
            ASSERT_EQ(sequences_.erase(evicted->holder), 1U);
            return;
        }
        sequences_.at(evicted->holder).cut(evicted->keep);
        auto const heir =
            std::ranges::find_if(requests_, [&](auto const& r) { return r.second.node == evicted->parent; });
        if (heir == requests_.end() || random_() % 2 == 0) return;
        ASSERT_EQ(tree_.hand_over(evicted->parent, heir->first), evicted->holder);
        sequences_.erase(evicted->holder);
    }

    void check() {
        tree_.check_integrity();
        std::set<Cell> cells;
        std::set<Place> prefixes;
        for (auto const& [id, sequence] : sequences_) {
            cells.insert(sequence.cells.begin(), sequence.cells.end());
            for (auto text = sequence.text(); !text.empty(); text.pop_back())
                prefixes.insert(place(sequence.key, text));
        }
        ASSERT_EQ(tree_.cells(), cells.size());
        for (auto const& [id, request] : requests_) ASSERT_EQ(tree_.text(request.node), sequences_.at(id).text());
        auto const text = random_text();
        for (PrefixTree::Space space = 0; space < 3; ++space) {
            auto const key = key_of(space, text);
            std::size_t longest = 0;
            while (longest < text.size()) {
                Text const longer(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(longest + 1));
                if (!prefixes.contains(place(key, longer))) break;
                ++longest;
            }
            ASSERT_EQ(tree_.find(key, text).tokens, longest);
        }
    }

    std::mt19937 random_;
    PrefixTree tree_;
    std::map<Holder, Request> requests_;
    std::map<Holder, Sequence> sequences_;
    Holder next_ = 0;
    int next_cell_ = 0;
};

TEST(PrefixTree, CountsTheCellsThatSequencesHave) {
    for (std::uint32_t seed = 1; seed <= 300 && !::testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        Naive(seed).run(200);
    }
}

// A private text that another space has as well, behind the same public one.
TEST(PrefixTreePublic, IsSharedAndWhatIsBehindItIsNot) {
    PrefixTree tree;
    auto const text = iota(50);
    store(tree, text, 1, {7, 1, 30});
    EXPECT_EQ(tree.cells(), 50U);
    EXPECT_EQ(tree.find({7, 1, 30}, text).tokens, 50U);
    EXPECT_EQ(tree.find({8, 2, 30}, text).tokens, 30U);
    EXPECT_EQ(tree.find({8, 2, 10}, text).tokens, 10U) << "only what its key calls public";
    EXPECT_EQ(tree.find({8, 2, 0}, text).tokens, 0U);
    EXPECT_TRUE(tree.continuation({8, 2, 30}, std::span(text).first(30), 10).empty());
    EXPECT_EQ(tree.continuation({7, 1, 30}, std::span(text).first(30), 10), iota(10, 30));
    store(tree, text, 2, {8, 2, 30});
    EXPECT_EQ(tree.cells(), 70U) << "the public part once";
    EXPECT_EQ(tree.holding(PrefixTree::kEverybody).cells, 30U);
    EXPECT_EQ(tree.holding(1).cells, 20U);
    EXPECT_EQ(tree.holding(2).cells, 20U);
    EXPECT_TRUE(tree.knows(7) && tree.knows(8) && !tree.knows(9));
    while (tree.evict()) tree.check_integrity();
    EXPECT_FALSE(tree.knows(7) || tree.knows(PrefixTree::kPublic));
}

TEST(PrefixTreePublic, BeginningsOfOneAnotherKeepApartWhatIsBehind) {
    PrefixTree tree;
    auto other = iota(60);
    for (std::size_t i = 35; i < 60; ++i) other[i] = -1;
    store(tree, iota(60), 1, {7, 1, 40});
    store(tree, other, 2, {7, 1, 20});
    EXPECT_EQ(tree.cells(), 60U + 40U) << "behind its own public part it sees nothing that is public of others";
    EXPECT_EQ(tree.find({7, 1, 40}, iota(60)).tokens, 60U);
    EXPECT_EQ(tree.find({7, 1, 20}, other).tokens, 60U);
    EXPECT_EQ(tree.find({8, 2, 40}, iota(60)).tokens, 40U);
    tree.check_integrity();
}

TEST(PrefixTreePublic, IsFoundWhileItIsComputedAndGrownIntoByItsOwner) {
    PrefixTree tree;
    auto const text = iota(50);
    PrefixTree::Key const a{7, 1, 30}, b{8, 2, 30};
    auto node = tree.append(tree.pin(tree.find(a, text)), std::span(text).first(10), 1, a).node;
    EXPECT_EQ(tree.find(b, text).tokens, 10U);
    node = tree.append(node, std::span(text).subspan(10, 25), 1, a).node;
    EXPECT_EQ(tree.depth(node), 35U);
    EXPECT_EQ(tree.space_of(node), 7U);
    EXPECT_EQ(tree.find(b, text).tokens, 30U);
    EXPECT_EQ(tree.donor(tree.find(b, text).node), 1);
    ASSERT_TRUE(tree.leave(node, 1));
    tree.check_integrity();
}

TEST(PrefixTreePublic, OnlyPlacesWithAStateAreFoundOnBothSidesOfTheBorder) {
    PrefixTree tree;
    auto const text = iota(50);
    PrefixTree::Key const a{7, 1, 30}, b{8, 2, 30};
    auto node = tree.append(tree.pin(tree.find(a, text)), std::span(text).first(30), 1, a).node;
    tree.set_checkpoint(node, std::vector<std::byte>(5));
    node = tree.append(node, std::span(text).subspan(30), 1, a).node;
    EXPECT_EQ(tree.find_state(a, text).tokens, 50U);
    EXPECT_EQ(tree.find_state(b, text).tokens, 30U);
    EXPECT_EQ(tree.find_state({8, 2, 20}, text).tokens, 0U) << "its border is elsewhere";
    ASSERT_TRUE(tree.leave(node, 1));
    tree.check_integrity();
}

TEST(PrefixTreeShares, WhoFloodsDoesNotPushOutWhoOwnsLittle) {
    PrefixTree tree;
    store(tree, iota(100), 1, {1, 1});
    Holder next = 2;
    for (int i = 0; i < 12; ++i) {
        for (int j = 0; j < 4; ++j, ++next) store(tree, iota(100, 1000 * next), next, {2, 2});
        while (tree.cells() > 400) ASSERT_TRUE(tree.evict());
    }
    EXPECT_EQ(tree.find({1, 1}, iota(100)).tokens, 100U);
    EXPECT_EQ(tree.holding(1).unused, 100U);
    EXPECT_EQ(tree.holding(1).share, 0.5);
    EXPECT_EQ(tree.holding(2).unused, 300U);
}

TEST(PrefixTreeShares, WhoIsAloneMayHaveAll) {
    PrefixTree tree;
    for (int i = 1; i <= 10; ++i) store(tree, iota(100, 1000 * i), i, {2, 2});
    EXPECT_EQ(tree.holding(2).share, 1.0);
    EXPECT_EQ(tree.evict()->holder, 1) << "the oldest goes";
}

TEST(PrefixTreeShares, WhatNobodyAskedForInManyTurnsIsNotKept) {
    PrefixTree tree;
    store(tree, iota(100), 1, {1, 1});
    Holder next = 2;
    int rounds = 0;
    for (; tree.find({1, 1}, iota(100)).tokens > 0 && rounds < 1000; ++rounds, ++next) {
        store(tree, iota(100, 1000 * next), next, {2, 2});
        while (tree.cells() > 400) ASSERT_TRUE(tree.evict());
    }
    EXPECT_NEAR(rounds, 5 * static_cast<int>(PrefixTree::kTurns), 1) << "it holds 500 when one has to go";
}

// Texts that share nothing, so that who has what is a plain list.
TEST(PrefixTreeShares, TheLeafThatGoesIsWhatAPlainListSays) {
    struct Entry {
        PrefixTree::Owner owner;
        std::uint64_t size, used;
        Holder holder;
    };
    for (std::uint32_t seed = 1; seed <= 100; ++seed) {
        std::mt19937 random(seed);
        PrefixTree tree;
        std::vector<double> const weights{1, 1, 2.5, 0.3};
        for (PrefixTree::Owner owner = 2; owner < 4; ++owner) tree.set_weight(owner, weights[owner]);
        std::vector<Entry> list;
        std::uint64_t now = 0;
        std::uint64_t cells = 0;
        Holder next = 1;
        auto const evict = [&] {
            std::map<PrefixTree::Owner, double> unused;
            for (auto const& entry : list) unused[entry.owner] += static_cast<double>(entry.size);
            double all_weights = 0;
            for (auto const& [owner, size] : unused) all_weights += weights[owner];
            auto const older = [](Entry const& a, Entry const& b) { return a.used < b.used; };
            auto at = std::ranges::min_element(list, older);
            bool const aged = now - at->used >= PrefixTree::kTurns * cells;
            bool const over = unused[at->owner] * all_weights + 1e-9 >= weights[at->owner] * static_cast<double>(cells);
            if (!aged && !over) {
                auto const rank = [&](Entry const& entry) { return unused[entry.owner] / weights[entry.owner]; };
                at = std::ranges::max_element(list, [&](Entry const& a, Entry const& b) {
                    return std::pair(rank(a), a.owner) < std::pair(rank(b), b.owner) ||
                           (a.owner == b.owner && older(b, a));
                });
            }
            auto const evicted = tree.evict();
            ASSERT_TRUE(evicted);
            ASSERT_EQ(evicted->holder, at->holder) << "seed " << seed;
            cells -= at->size;
            list.erase(at);
        };
        for (int i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) {
            PrefixTree::Owner const owner = random() % 4 == 0 ? 1 + random() % 3 : 2;
            auto const size = 1 + random() % 40;
            store(tree, iota(size, 1000 * next), next, {owner * 10 + random() % 2, owner});
            now += size;
            cells += size;
            list.push_back({owner, size, now, next++});
            while (cells > 300) evict();
        }
        while (!list.empty() && !::testing::Test::HasFailure()) evict();
        EXPECT_EQ(tree.nodes(), 0U);
    }
}

std::vector<std::byte> state_of(std::size_t bytes) { return std::vector<std::byte>(bytes); }

TEST(PrefixTreeStates, OnlyPlacesWithAStateAreFound) {
    PrefixTree tree;
    auto const text = iota(100);
    auto node = tree.append(tree.pin(tree.find(0, text)), std::span(text).first(40), 1).node;
    EXPECT_EQ(tree.find_state(0, text).tokens, 40U) << "the holder ends there";
    tree.set_checkpoint(node, state_of(7));
    node = tree.append(node, std::span(text).subspan(40), 1).node;
    EXPECT_EQ(tree.depth(node), 100U);
    EXPECT_EQ(tree.find_state(0, text).tokens, 100U);
    EXPECT_EQ(tree.find_state(0, iota(99)).tokens, 40U);
    EXPECT_EQ(tree.find_state(0, iota(39)).tokens, 0U);
    EXPECT_EQ(tree.find_state(1, text).tokens, 0U);
    auto const place = tree.find_state(0, iota(99));
    EXPECT_EQ(tree.checkpoint(place.node).size(), 7U);
    EXPECT_EQ(tree.donor(place.node), 1);
    tree.check_integrity();
}

TEST(PrefixTreeStates, OfTwinsTheOneWithAStateIsFound) {
    PrefixTree tree;
    auto const text = iota(50);
    auto const first = tree.pin(tree.find(0, text)), second = tree.pin(tree.find(0, text));
    auto const long_one = tree.append(first, text, 1).node;
    auto const short_one = tree.append(second, std::span(text).first(30), 2).node;
    tree.set_checkpoint(short_one, state_of(1));
    auto const other = tree.append(short_one, iota(5, 500), 2).node;
    EXPECT_EQ(tree.find_state(0, iota(45)).tokens, 30U);
    EXPECT_TRUE(tree.leave(long_one, 1));
    EXPECT_TRUE(tree.leave(other, 2));
    tree.check_integrity();
}

TEST(PrefixTreeStates, GoWithTheirNodesAndStayWhereANodeIsSplit) {
    PrefixTree tree;
    auto const text = iota(60);
    auto node = tree.append(tree.pin(tree.find(0, text)), std::span(text).first(40), 1).node;
    tree.set_checkpoint(node, state_of(10));
    tree.set_checkpoint(node, state_of(8));
    EXPECT_EQ(tree.checkpoint_bytes(), 8U);
    node = tree.append(node, std::span(text).subspan(40), 1).node;
    tree.unpin(tree.pin(tree.find(0, iota(20))));
    EXPECT_EQ(tree.find_state(0, iota(50)).tokens, 40U) << "the lower part keeps it";
    ASSERT_TRUE(tree.leave(node, 1));
    auto const leaf = tree.evict();
    ASSERT_TRUE(leaf);
    EXPECT_EQ(leaf->keep, 40U);
    EXPECT_EQ(tree.exchange(leaf->parent, 9), 1);
    EXPECT_EQ(tree.donor(leaf->parent), 9);
    EXPECT_EQ(tree.checkpoint_bytes(), 8U);
    ASSERT_TRUE(tree.evict());
    EXPECT_EQ(tree.checkpoint_bytes(), 0U);
    tree.check_integrity();
}

}  // namespace
}  // namespace hearth::sched
