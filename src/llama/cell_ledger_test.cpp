#include "llama/cell_ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace hearth::llama {
namespace {

TEST(CellLedger, StartsFreeAndEmpty) {
    CellLedger const ledger(4, 100);
    EXPECT_EQ(ledger.free(), 100U);
    EXPECT_EQ(ledger.used(), 0U);
    for (std::uint32_t s = 0; s < 4; ++s) EXPECT_EQ(ledger.length(s), 0U);
}

TEST(CellLedger, CountsSharedCellsOnce) {
    CellLedger ledger(4, 100);
    ledger.append(0, 60);
    ledger.share(0, 1, 40);
    ledger.share(0, 2, 60);
    EXPECT_EQ(ledger.used(), 60U);
    ledger.append(1, 10);
    EXPECT_EQ(ledger.used(), 70U);
    EXPECT_EQ(ledger.length(1), 50U);
}

TEST(CellLedger, ACellLivesWhileAnySequenceOwnsIt) {
    CellLedger ledger(4, 100);
    ledger.append(0, 60);
    ledger.share(0, 1, 40);
    ledger.truncate(0, 0);
    EXPECT_EQ(ledger.used(), 40U);
    ledger.truncate(1, 10);
    EXPECT_EQ(ledger.used(), 10U);
    ledger.truncate(1, 0);
    EXPECT_EQ(ledger.free(), 100U);
}

TEST(CellLedger, TruncatingBeyondTheEndChangesNothing) {
    CellLedger ledger(1, 10);
    ledger.append(0, 5);
    ledger.truncate(0, 7);
    EXPECT_EQ(ledger.length(0), 5U);
}

TEST(CellLedger, AgreesWithAModelOverRandomOperations) {
    std::mt19937 random(7);
    auto const draw = [&](std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); };
    constexpr std::uint32_t kSequences = 8, kCells = 64;
    CellLedger ledger(kSequences, kCells);
    // The model: each sequence is the set of ids that its positions were given.
    std::vector<std::vector<int>> model(kSequences);
    int next_id = 0;
    for (int step = 0; step < 20000; ++step) {
        std::set<int> live;
        for (auto const& s : model) live.insert(s.begin(), s.end());
        ASSERT_EQ(ledger.used(), live.size()) << "step " << step;
        ASSERT_EQ(ledger.used() + ledger.free(), kCells);
        std::uint32_t const a = draw(kSequences), b = draw(kSequences);
        ASSERT_EQ(ledger.length(a), model[a].size());
        switch (draw(3)) {
            case 0: {
                std::uint32_t const count = std::min(draw(8), ledger.free());
                ledger.append(a, count);
                for (std::uint32_t i = 0; i < count; ++i) model[a].push_back(next_id++);
                break;
            }
            case 1: {
                if (a == b || !model[b].empty()) break;
                std::uint32_t const count = draw(ledger.length(a) + 1);
                ledger.share(a, b, count);
                model[b].assign(model[a].begin(), model[a].begin() + count);
                break;
            }
            default: {
                std::uint32_t const keep = draw(ledger.length(a) + 1);
                ledger.truncate(a, keep);
                model[a].resize(keep);
            }
        }
    }
}

}  // namespace
}  // namespace hearth::llama
