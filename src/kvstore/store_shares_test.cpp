// Tenants that fill the tiers: who keeps what.
#include <algorithm>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "kvstore/store.h"
#include "kvstore/testing/texts.h"
#include "testing/memory_folder.h"

namespace hearth::kvstore {
namespace {

using testing::are_right;
using testing::MemoryFolder;
using testing::put_all;
using testing::text_of;

constexpr std::size_t kText = 100;  // tokens, in two segments
constexpr std::uint64_t kTextBytes = kText * 24;
constexpr std::uint64_t kFileBytes = 2 * (80 + 60 + 16 + 16) + kTextBytes + 4 * kText;
constexpr std::uint64_t kTexts = 20;  // that there is room for

Space const kQuiet = space_of("quiet tenant", "");
Space const kBusy = space_of("busy tenant", "");

enum class Where : std::uint8_t { memory, disk };

class kvstore_shares : public ::testing::TestWithParam<Where> {
protected:
    void SetUp() override { open(); }

    void open(double weight_of_quiet = 1) {
        store.reset();  // writes what is left
        Options options;
        options.state_key = "model";
        if (weight_of_quiet != 1) options.tenant_weights = {{"quiet tenant", weight_of_quiet}};
        if (GetParam() == Where::memory) {
            options.memory_bytes = kTexts * kTextBytes;
        } else {
            options.disk_bytes = kTexts * kFileBytes;
            options.folder = folder;
        }
        store = Store::create(options);
    }

    void put(Space const& space, std::uint64_t first, std::uint64_t count) {
        auto const keep = GetParam() == Where::memory ? Keep::while_room : Keep::until_written;
        for (auto seed = first; seed < first + count; ++seed) {
            put_all(*store, space, text_of(seed, kText), kText / 2, keep);
            store->settle();
            store->check_integrity();
        }
    }

    // Of those texts, how many are there whole, and right.
    std::uint64_t kept(Space const& space, std::uint64_t first, std::uint64_t count) {
        std::uint64_t whole = 0;
        for (auto seed = first; seed < first + count; ++seed) {
            auto const text = text_of(seed, kText);
            if (store->find(space, text) < kText) continue;
            auto const fetch = store->fetch(space, text, 0);
            store->settle();
            std::uint32_t end = 0;
            EXPECT_TRUE(are_right(fetch->pieces(), space, text, end));
            whole += end == kText ? 1 : 0;
        }
        return whole;
    }

    std::shared_ptr<MemoryFolder> folder = std::make_shared<MemoryFolder>();
    std::unique_ptr<Store> store;
};

INSTANTIATE_TEST_SUITE_P(tiers, kvstore_shares, ::testing::Values(Where::memory, Where::disk));

TEST_P(kvstore_shares, who_computes_much_pushes_out_nobody_within_his_share) {
    put(kQuiet, 0, 8);
    put(kBusy, 1000, 5 * kTexts);
    EXPECT_EQ(kept(kQuiet, 0, 8), 8U);
    EXPECT_GE(kept(kBusy, 1000, 5 * kTexts), kTexts - 8 - 1) << "and has the rest";
}

TEST_P(kvstore_shares, who_is_alone_may_have_all_and_gives_what_is_beyond_his_share_to_others) {
    put(kBusy, 1000, 2 * kTexts);
    EXPECT_GE(kept(kBusy, 1000, 2 * kTexts), kTexts - 1);
    put(kQuiet, 0, 2 * kTexts);
    auto const quiet = kept(kQuiet, 0, 2 * kTexts);
    auto const busy = kept(kBusy, 1000, 2 * kTexts);
    EXPECT_NEAR(static_cast<double>(quiet), kTexts / 2.0, 1);
    EXPECT_NEAR(static_cast<double>(busy), kTexts / 2.0, 1);
}

TEST_P(kvstore_shares, go_by_weight) {
    open(3);
    put(kQuiet, 0, kTexts);
    put(kBusy, 1000, 2 * kTexts);
    EXPECT_NEAR(static_cast<double>(kept(kQuiet, 0, kTexts)), kTexts * 0.75, 1);
}

// Were they three accounts, a third would be all that is left to the quiet one.
TEST_P(kvstore_shares, of_a_tenant_do_not_grow_with_its_salts) {
    put(kQuiet, 0, 9);
    for (std::uint64_t round = 0; round < 4; ++round) {
        put(space_of("busy tenant", "a"), 1000 + 20 * round, kTexts / 2);
        put(space_of("busy tenant", "b"), 2000 + 20 * round, kTexts / 2);
    }
    EXPECT_EQ(kept(kQuiet, 0, 9), 9U);
}

TEST_P(kvstore_shares, are_no_store_for_ever) {
    put(kQuiet, 0, 8);
    put(kBusy, 1000, 12 * kTexts);
    EXPECT_EQ(kept(kQuiet, 0, 4), 4U) << "these were of use";
    put(kBusy, 2000, 8 * kTexts);
    EXPECT_EQ(kept(kQuiet, 0, 4), 4U);
    EXPECT_EQ(kept(kQuiet, 4, 4), 0U);
}

TEST_P(kvstore_shares, are_remembered_after_a_restart) {
    if (GetParam() == Where::memory) GTEST_SKIP() << "memory is gone then";
    put(kQuiet, 0, 8);
    put(kBusy, 1000, kTexts);
    open();
    put(kBusy, 2000, 3 * kTexts);
    open();
    EXPECT_EQ(kept(kQuiet, 0, 8), 8U);
    EXPECT_GE(kept(kBusy, 2000, 3 * kTexts), kTexts - 8 - 1);
}

TEST_P(kvstore_shares, files_do_not_name_the_tenant) {
    if (GetParam() == Where::memory) GTEST_SKIP() << "there are none";
    put(kQuiet, 0, 2);
    ASSERT_EQ(folder->files().size(), 4U);
    for (auto const& [name, bytes] : folder->files()) {
        std::string_view const text(reinterpret_cast<char const*>(bytes.data()), bytes.size());
        EXPECT_EQ(text.find("quiet"), std::string_view::npos);
        EXPECT_EQ(name.find("quiet"), std::string::npos);
    }
}

}  // namespace
}  // namespace hearth::kvstore
