#include "kvstore/segment_index.h"

#include <algorithm>
#include <array>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "kvstore/testing/texts.h"

namespace hearth::kvstore {
namespace {

// The texts that are stored, whole: what of another text is there is its longest prefix of any.
class Naive {
public:
    void add(std::vector<Token> text) { texts_.insert(std::move(text)); }
    [[nodiscard]] std::uint32_t find(std::vector<Token> const& text) const {
        std::size_t best = 0;
        for (auto const& stored : texts_) {
            auto const end = std::mismatch(stored.begin(), stored.end(), text.begin(), text.end()).first;
            best = std::max(best, static_cast<std::size_t>(end - stored.begin()));
        }
        return static_cast<std::uint32_t>(best);
    }

private:
    std::set<std::vector<Token>> texts_;
};

std::vector<Token> random_text(std::mt19937_64& random) {
    std::vector<Token> text(1 + random() % 24);
    for (Token& token : text) token = static_cast<Token>(random() % 2);
    return text;
}

TEST(segment_index, finds_what_a_naive_list_finds) {
    std::mt19937_64 random(1);
    SegmentFormat const format("", {});
    for (int round = 0; round < 200; ++round) {
        SegmentIndex index;
        Naive naive;
        for (int i = 0; i < 30; ++i) {
            auto const text = random_text(random);
            auto const path = index.find({}, text);
            std::uint32_t const end = path.empty() ? 0 : path.back().end;
            ASSERT_EQ(end, naive.find(text)) << "round " << round;
            if (end == text.size()) continue;
            SegmentHead head;
            head.begin = end;
            head.tokens.assign(text.begin() + end, text.end());
            SegmentId const parent = path.empty() ? kNoSegment : path.back().id;
            if (parent != kNoSegment) head.parent = index.at(parent).key;
            auto const key = format.key_of(head);
            SegmentId const id = index.add(std::move(head), key, parent);
            if (random() % 2 == 0) index.set_blob(id, std::make_shared<Blob const>(3));
            else index.set_file(id, 5);
            naive.add(text);
            index.check_integrity();
        }
    }
}

TEST(segment_index, drops_leaves_first_and_ends_empty) {
    std::mt19937_64 random(2);
    SegmentFormat const format("", {});
    for (int round = 0; round < 100; ++round) {
        SegmentIndex index;
        for (int i = 0; i < 20; ++i) {
            auto const text = random_text(random);
            auto const path = index.find({}, text);
            std::uint32_t const end = path.empty() ? 0 : path.back().end;
            if (end == text.size()) continue;
            SegmentHead head;
            head.begin = end;
            head.tokens.assign(text.begin() + end, text.end());
            SegmentId const parent = path.empty() ? kNoSegment : path.back().id;
            if (parent != kNoSegment) head.parent = index.at(parent).key;
            auto const key = format.key_of(head);
            SegmentId const id = index.add(std::move(head), key, parent);
            bool const under_a_file = parent == kNoSegment || index.at(parent).file_bytes > 0;
            if (under_a_file && random() % 2 == 0) index.set_file(id, 5);
            if (index.at(id).file_bytes == 0 || random() % 2 == 0) index.set_blob(id, std::make_shared<Blob const>(3));
        }
        if (random() % 2 == 0) {
            auto const path = index.find({}, random_text(random));
            if (!path.empty()) {
                index.pin(path.back().id);
                index.condemn(path.front().id);
                (void)index.sweep();
                index.check_integrity();
                EXPECT_NE(index.get(path.back().id), nullptr) << "what is pinned stays";
                index.unpin(path.back().id);
                (void)index.sweep();
                EXPECT_EQ(index.get(path.front().id), nullptr);
            }
        }
        while (index.size() > 0) {
            SegmentId const blob = index.pick_blob();
            SegmentId const file = index.pick_file();
            ASSERT_TRUE(blob != kNoSegment || file != kNoSegment) << "something can always go";
            if (blob != kNoSegment && (file == kNoSegment || random() % 2 == 0)) index.drop_blob(blob);
            else index.drop_file(file);
            index.check_integrity();
        }
        EXPECT_EQ(index.memory_bytes() + index.disk_bytes(), 0U);
    }
}

// Three tenants of different weight, roots of different sizes in both tiers: who gives, by the rule said again.
TEST(segment_index, who_is_within_its_share_gives_nothing) {
    std::mt19937_64 random(3);
    SegmentFormat const format("", {});
    std::array const spaces{space_of("a", ""), space_of("b", ""), space_of("c", "")};
    std::array const weights{0.5, 1.0, 3.0};
    SegmentIndex index;
    for (std::size_t i = 0; i < spaces.size(); ++i) index.set_weight(spaces[i], weights[i]);
    std::uint64_t spared = 0;
    for (int step = 0; step < 3000; ++step) {
        SegmentHead head;
        head.space = spaces[random() % spaces.size()];
        head.tokens = {static_cast<Token>(step)};
        auto const key = format.key_of(head);
        SegmentId const id = index.add(std::move(head), key, kNoSegment);
        auto const tier = random() % 2 == 0 ? Tier::memory : Tier::disk;
        if (tier == Tier::memory) index.set_blob(id, std::make_shared<Blob const>(1 + random() % 50));
        else index.set_file(id, 1 + random() % 50);
        if (random() % 3 == 0) index.hit(id);
        index.check_integrity();
        auto const all = tier == Tier::memory ? index.memory_bytes() : index.disk_bytes();
        if (all < 1000) continue;
        SegmentId const victim = tier == Tier::memory ? index.pick_blob() : index.pick_file();
        double weight = 0;  // of those who have something
        for (std::size_t i = 0; i < spaces.size(); ++i) weight += index.bytes_of(spaces[i], tier) > 0 ? weights[i] : 0;
        bool others_had_less = true;
        double of_victim = 0;
        for (std::size_t i = 0; i < spaces.size(); ++i) {
            auto const part = static_cast<double>(index.bytes_of(spaces[i], tier)) / static_cast<double>(all);
            auto const filled = part / (weights[i] / weight);
            if (spaces[i] == index.at(victim).head.space) of_victim = filled;
        }
        EXPECT_GE(of_victim, 1 - 1e-9) << "within its share";
        for (SegmentId other = 0; other < victim; ++other) {
            auto const* const segment = index.get(other);
            bool const here = segment != nullptr && (tier == Tier::memory) == (segment->blob != nullptr);
            others_had_less = others_had_less && !(here && segment->worth < index.at(victim).worth);
        }
        spared += others_had_less ? 0 : 1;
        if (tier == Tier::memory) index.drop_blob(victim);
        else index.drop_file(victim);
    }
    EXPECT_GT(spared, 100U) << "the worth alone would have chosen others";
}

}  // namespace
}  // namespace hearth::kvstore
