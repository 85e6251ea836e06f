// What a store does with what is not written yet: at its end, and for who waits for it.
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include <gtest/gtest.h>

#include "kvstore/store.h"
#include "kvstore/testing/texts.h"
#include "testing/memory_folder.h"

namespace hearth::kvstore {
namespace {

using testing::MemoryFolder;
using testing::put_all;
using testing::text_of;

Space const kAlice = space_of("alice", "");

Options on_disk(std::shared_ptr<Folder> folder) {
    Options options;
    options.disk_bytes = 1U << 30;
    options.folder = std::move(folder);
    options.state_key = "model a";
    return options;
}

TEST(kvstore_end, the_end_leaves_nothing_unwritten) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 1000);
    auto const store = Store::create(on_disk(folder));
    put_all(*store, kAlice, text, 128, Keep::until_written);
    store->finish();
    EXPECT_EQ(Store::create(on_disk(folder))->find(kAlice, text), 1000U) << "a process may end before its destructors";
    auto const late = text_of(2, 100);
    put_all(*store, kAlice, late, 100, Keep::until_written);
    EXPECT_EQ(store->find(kAlice, late), 0U);
    store->finish();
}

TEST(kvstore_end, a_fetch_after_the_end_is_over_at_once_and_has_nothing) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 1000);
    put_all(*Store::create(on_disk(folder)), kAlice, text, 128, Keep::until_written);
    auto const store = Store::create(on_disk(folder));
    ASSERT_EQ(store->find(kAlice, text), 1000U) << "on disk, so a fetch has to read";
    store->finish();
    auto const fetch = store->fetch(kAlice, text, 0);
    ASSERT_TRUE(fetch->done()) << "who waits for it would wait for ever";
    EXPECT_TRUE(fetch->pieces().empty());
}

TEST(kvstore_end, who_waits_for_the_disk_goes_on_when_it_caught_up) {
    auto const store = Store::create(on_disk(std::make_shared<MemoryFolder>()));
    auto const text = text_of(1, 51'200);
    for (int i = 0; i < 4 && store->writes(); ++i)  // 30 MB each time
        put_all(*store, kAlice, std::span(text).first(static_cast<std::size_t>(i + 1) * 12'800), 128,
                Keep::until_written, 2400);
    EXPECT_TRUE(store->wait_to_write(std::chrono::seconds(60)));
    EXPECT_TRUE(store->writes());
    Options in_memory;
    in_memory.memory_bytes = 1U << 20;
    EXPECT_FALSE(Store::create(in_memory)->wait_to_write(std::chrono::seconds(60))) << "there is no disk";
}

}  // namespace
}  // namespace hearth::kvstore
