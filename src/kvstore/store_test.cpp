#include "kvstore/store.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <random>

#include <gtest/gtest.h>

#include "kvstore/segment_file.h"
#include "kvstore/testing/texts.h"
#include "testing/memory_folder.h"

namespace hearth::kvstore {
namespace {

using testing::are_right;
using testing::MemoryFolder;
using testing::put_all;
using testing::state_of;
using testing::text_of;

Space const kAlice = space_of("alice", "");
Space const kBob = space_of("bob", "");

Options in_memory(std::uint64_t bytes) {
    Options options;
    options.memory_bytes = bytes;
    return options;
}

Options on_disk(std::shared_ptr<Folder> folder, std::uint64_t bytes = 1U << 30) {
    Options options;
    options.disk_bytes = bytes;
    options.folder = std::move(folder);
    options.state_key = "model a";
    return options;
}

// Fetches all of `text` there is; the tokens got, or a failed test.
std::uint32_t got(Store& store, Space const& space, std::span<Token const> text) {
    auto const fetch = store.fetch(space, text, 0);
    store.settle();
    EXPECT_TRUE(fetch->done());
    std::uint32_t end = 0;
    EXPECT_TRUE(are_right(fetch->pieces(), space, text, end));
    store.check_integrity();
    return end;
}

TEST(kvstore, finds_the_longest_prefix_also_within_a_segment) {
    auto const store = Store::create(in_memory(1U << 20));
    auto const text = text_of(1, 300);
    EXPECT_EQ(store->find(kAlice, text), 0U);
    put_all(*store, kAlice, text, 128);
    EXPECT_EQ(got(*store, kAlice, text), 300U);
    auto fork = text;
    fork[200] = -1;
    EXPECT_EQ(got(*store, kAlice, fork), 200U);
    put_all(*store, kAlice, fork, 64);
    EXPECT_EQ(got(*store, kAlice, fork), 300U);
    EXPECT_EQ(got(*store, kAlice, text), 300U);
    EXPECT_EQ(store->stats().memory_bytes, (300U + 100U) * 24U) << "what is shared is stored once";
    EXPECT_EQ(got(*store, kAlice, std::span(text).first(150)), 150U);
}

TEST(kvstore, memory_can_be_taken_away_and_given_back) {
    auto const store = Store::create(in_memory(100U * 24U));
    auto const text = text_of(1, 80);
    put_all(*store, kAlice, text, 20);
    store->limit_memory(50U * 24U);
    EXPECT_EQ(got(*store, kAlice, text), 40U) << "the beginning is worth most";
    put_all(*store, kAlice, text, 20);
    EXPECT_LE(store->stats().memory_bytes, 50U * 24U);
    store->limit_memory(0);
    EXPECT_EQ(store->stats().memory_bytes, 0U);
    put_all(*store, kAlice, text, 20);
    EXPECT_EQ(got(*store, kAlice, text), 0U);
    store->limit_memory(1U << 30);
    put_all(*store, kAlice, text, 20);
    EXPECT_EQ(got(*store, kAlice, text), 80U);
    auto const other = text_of(2, 80);
    put_all(*store, kAlice, other, 20);
    EXPECT_LE(store->stats().memory_bytes, 100U * 24U) << "never more than it was created with";
}

TEST(kvstore, what_is_on_disk_stays_there_without_memory) {
    auto const store = Store::create(on_disk(std::make_shared<testing::MemoryFolder>()));
    auto const text = text_of(1, 80);
    store->limit_memory(0);
    put_all(*store, kAlice, text, 20);
    store->settle();
    EXPECT_EQ(store->stats().memory_bytes, 0U);
    EXPECT_EQ(got(*store, kAlice, text), 80U);
}

TEST(kvstore, what_lacks_what_it_stands_on_is_not_taken) {
    auto const store = Store::create(in_memory(1U << 20));
    auto const text = text_of(1, 100);
    store->put(kAlice, text, 50, state_of(kAlice, text, 50), Keep::while_room);
    EXPECT_EQ(store->stats().memory_segments, 0U);
    put_all(*store, kAlice, std::span(text).first(80), 80);
    store->put(kAlice, text, 50, state_of(kAlice, text, 50), Keep::while_room);
    EXPECT_EQ(store->stats().memory_segments, 1U) << "a part of it is there";
}

// Fetches as far as a state lets go on; the tokens got, with the state at their end.
std::uint32_t got_with_state(Store& store, Space const& space, std::span<Token const> text) {
    auto const place = store.find_state(space, text);
    auto const fetch = store.fetch(space, text.first(place), 0, Want::cells_and_state);
    store.settle();
    std::uint32_t end = 0;
    EXPECT_TRUE(are_right(fetch->pieces(), space, text, end));
    store.check_integrity();
    bool const whole = !fetch->pieces().empty() && fetch->pieces().back().is_state;
    EXPECT_TRUE(!whole || end == place);
    return whole ? end : 0;
}

void put_state(Store& store, Space const& space, std::span<Token const> text, Keep keep = Keep::while_room) {
    store.put_state(space, text, testing::whole_state_of(space, text), keep);
}

TEST(kvstore, states_are_found_where_they_are) {
    auto const store = Store::create(in_memory(1U << 20));
    auto const text = text_of(1, 300);
    put_state(*store, kAlice, text);
    EXPECT_EQ(store->stats().memory_segments, 0U) << "a state stands on the cells before it";
    put_all(*store, kAlice, text, 100);
    EXPECT_EQ(store->find_state(kAlice, text), 0U);
    for (std::size_t const at : {std::size_t{100}, std::size_t{150}, std::size_t{270}}) {
        put_state(*store, kAlice, std::span(text).first(at));
        EXPECT_TRUE(store->has_state(kAlice, std::span(text).first(at)));
        EXPECT_EQ(got_with_state(*store, kAlice, text), at);
    }
    EXPECT_FALSE(store->has_state(kAlice, std::span(text).first(151)));
    EXPECT_EQ(got_with_state(*store, kAlice, std::span(text).first(269)), 150U);
    EXPECT_EQ(got_with_state(*store, kAlice, std::span(text).first(99)), 0U);
    EXPECT_EQ(got_with_state(*store, kBob, text), 0U);
    auto fork = text;
    fork[200] = -1;
    put_all(*store, kAlice, fork, 100);
    EXPECT_EQ(got_with_state(*store, kAlice, fork), 150U);
    put_state(*store, kAlice, fork);
    EXPECT_EQ(got_with_state(*store, kAlice, fork), 300U);
    EXPECT_EQ(got_with_state(*store, kAlice, text), 270U);
    EXPECT_EQ(got(*store, kAlice, text), 300U) << "cells are found without them";
}

TEST(kvstore, states_go_on_after_a_restart_and_a_bad_one_is_not_used) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 300);
    {
        auto const store = Store::create(on_disk(folder));
        put_all(*store, kAlice, text, 100, Keep::until_written);
        for (std::size_t const at : {std::size_t{120}, std::size_t{300}})
            put_state(*store, kAlice, std::span(text).first(at), Keep::until_written);
    }
    EXPECT_EQ(folder->files().size(), 5U);
    {
        auto const store = Store::create(on_disk(folder));
        EXPECT_EQ(got_with_state(*store, kAlice, text), 300U);
        EXPECT_EQ(got_with_state(*store, kAlice, std::span(text).first(299)), 120U);
    }
    for (auto const& [name, bytes] : folder->files()) {
        auto const copy = std::make_shared<MemoryFolder>();
        for (auto& [other, content] : folder->files()) copy->set(other, content);
        auto bent = bytes;
        bent[bytes.size() - 20] ^= std::byte{1};
        copy->set(name, bent);
        auto const store = Store::create(on_disk(copy));
        EXPECT_LE(got_with_state(*store, kAlice, text), 300U);
        auto const left = got_with_state(*store, kAlice, text);
        EXPECT_TRUE(left == 300 || left == 120 || left == 0) << left;
    }
}

TEST(kvstore, states_and_cells_share_the_bounds) {
    auto const folder = std::make_shared<MemoryFolder>();
    std::uint64_t const bound = 20000;
    auto options = on_disk(folder, bound);
    options.memory_bytes = 6000;
    auto const store = Store::create(options);
    for (std::uint64_t seed = 2; seed < 60; ++seed) {
        auto const text = text_of(seed, 100);
        put_all(*store, kAlice, text, 50);
        put_state(*store, kAlice, std::span(text).first(60));
        put_state(*store, kAlice, text);
        store->settle();
        EXPECT_LE(folder->bytes(), bound);
        store->check_integrity();
    }
    EXPECT_EQ(got_with_state(*store, kAlice, text_of(59, 100)), 100U);
}

TEST(kvstore, spaces_never_see_each_other) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 100);
    {
        auto const store = Store::create(on_disk(folder));
        put_all(*store, kAlice, text, 50);
        EXPECT_EQ(store->find(kBob, text), 0U);
        store->settle();
    }
    auto const store = Store::create(on_disk(folder));
    EXPECT_EQ(got(*store, kAlice, text), 100U);
    EXPECT_EQ(got(*store, kBob, text), 0U);
    EXPECT_NE(space_of("a", "b"), space_of("ab", ""));
    EXPECT_NE(space_of("a", "b"), space_of("", "ab"));
}

TEST(kvstore, memory_is_bounded_and_the_worthless_goes_first) {
    auto const store = Store::create(in_memory(100 * 24));
    auto const popular = text_of(1, 40);
    put_all(*store, kAlice, popular, 40);
    for (std::uint64_t seed = 2; seed < 50; ++seed) {
        EXPECT_EQ(got(*store, kAlice, popular), 40U) << seed;
        put_all(*store, kAlice, text_of(seed, 20), 20);
        EXPECT_LE(store->stats().memory_bytes, 100U * 24U);
    }
    put_all(*store, kAlice, text_of(99, 101), 101);
    EXPECT_EQ(store->find(kAlice, text_of(99, 101)), 0U) << "larger than all room";
}

TEST(kvstore, goes_on_after_a_restart) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 1000);
    auto fork = text;
    fork[500] = -1;
    {
        auto const store = Store::create(on_disk(folder));
        put_all(*store, kAlice, text, 128, Keep::until_written);
        put_all(*store, kAlice, fork, 128, Keep::until_written);
        store->settle();
        EXPECT_EQ(store->stats().memory_bytes, 0U) << "what is written is not kept";
        EXPECT_EQ(store->stats().disk_segments, 12U);
    }
    auto const store = Store::create(on_disk(folder));
    EXPECT_EQ(got(*store, kAlice, text), 1000U);
    EXPECT_EQ(got(*store, kAlice, fork), 1000U);
    EXPECT_EQ(store->stats().files_read_total, 16U);
    auto other = on_disk(folder);
    other.state_key = "model b";
    EXPECT_EQ(got(*Store::create(other), kAlice, text), 0U);
}

TEST(kvstore, sealed_files_need_their_key_and_plain_ones_go) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 100);
    put_all(*Store::create(on_disk(folder)), kAlice, text, 50);
    ASSERT_EQ(folder->files().size(), 2U) << "closing writes what is left";
    auto sealed = on_disk(folder);
    sealed.seal_key.emplace().fill(std::byte{7});
    {
        auto const store = Store::create(sealed);
        EXPECT_EQ(got(*store, kAlice, text), 0U);
        EXPECT_TRUE(folder->files().empty());
        put_all(*store, kAlice, text, 50);
    }
    EXPECT_EQ(got(*Store::create(sealed), kAlice, text), 100U);
    auto wrong = sealed;
    wrong.seal_key->fill(std::byte{8});
    EXPECT_EQ(got(*Store::create(wrong), kAlice, text), 0U);
    EXPECT_EQ(got(*Store::create(on_disk(folder)), kAlice, text), 0U);
    EXPECT_EQ(folder->files().size(), 2U);
}

TEST(kvstore, the_disk_is_bounded_and_files_of_others_go_first) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto other = on_disk(folder);
    other.state_key = "an older build";
    put_all(*Store::create(other), kAlice, text_of(1, 100), 50);
    folder->set("notes.txt", std::vector<std::byte>(5000));
    std::uint64_t const bound = 20000;
    auto const store = Store::create(on_disk(folder, bound));
    for (std::uint64_t seed = 2; seed < 40; ++seed) {
        put_all(*store, kAlice, text_of(seed, 100), 50);
        store->settle();
        EXPECT_LE(store->stats().disk_bytes, bound);
        EXPECT_LE(folder->bytes(), bound + 5000);
    }
    EXPECT_LE(folder->bytes_most(), bound + 5000) << "room is made before";
    EXPECT_GT(store->stats().disk_bytes, bound / 2);
    EXPECT_TRUE(folder->files().contains("notes.txt"));
    EXPECT_EQ(got(*store, kAlice, text_of(39, 100)), 100U);
    EXPECT_EQ(got(*Store::create(other), kAlice, text_of(1, 100)), 0U);
}

TEST(kvstore, a_smaller_bound_takes_effect_at_the_start) {
    auto const folder = std::make_shared<MemoryFolder>();
    put_all(*Store::create(on_disk(folder)), kAlice, text_of(1, 1000), 50);
    auto const store = Store::create(on_disk(folder, 6000));
    EXPECT_LE(folder->bytes(), 6000U);
    EXPECT_GT(got(*store, kAlice, text_of(1, 1000)), 0U) << "the beginning stays";
}

TEST(kvstore, the_medium_is_spared) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto options = on_disk(folder);
    options.write_burst_bytes = 4000;
    options.write_bytes_per_s = 1;
    options.memory_bytes = 1U << 20;
    auto const store = Store::create(options);
    auto const text = text_of(1, 1000);
    put_all(*store, kAlice, text, 50);
    EXPECT_EQ(store->find(kAlice, text), 1000U);
    while (store->stats().bytes_written_total < 4000) std::this_thread::yield();
    EXPECT_LE(store->stats().bytes_written_total, 6000U);
    EXPECT_EQ(store->find(kAlice, text), 1000U);
}

// --- several stores in one folder, as of several processes ---

TEST(kvstore, what_another_wrote_counts_and_is_found) {
    auto const folder = std::make_shared<MemoryFolder>();
    std::uint64_t const bound = 200000;
    auto const one = Store::create(on_disk(folder, bound));
    auto const other = Store::create(on_disk(folder, bound));
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        put_all(seed % 2 == 0 ? *one : *other, kAlice, text_of(seed, 100), 50, Keep::until_written);
        one->settle();
        other->settle();
    }
    EXPECT_GT(folder->bytes(), bound / 2);
    EXPECT_LE(folder->bytes_most(), bound + bound / 8) << "each sees what the other wrote, after a while";
    EXPECT_EQ(one->stats().disk_errors_total + other->stats().disk_errors_total, 0U);
    EXPECT_EQ(one->stats().files_bad_total + other->stats().files_bad_total, 0U);
    std::uint32_t found = 0;
    for (std::uint64_t seed = 1; seed < 400; seed += 2) found += got(*one, kAlice, text_of(seed, 100)) > 0 ? 1 : 0;
    EXPECT_GT(found, 10U) << "of the other's";
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        got(*one, kAlice, text_of(seed, 100));
        got(*other, kAlice, text_of(seed, 100));
    }
    EXPECT_EQ(one->stats().disk_errors_total + other->stats().disk_errors_total, 0U) << "what is gone is a miss";
}

TEST(kvstore, a_file_that_another_removed_is_a_miss) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 100);
    auto const store = Store::create(on_disk(folder));
    put_all(*store, kAlice, text, 25, Keep::until_written);
    store->settle();
    for (auto const& [name, bytes] : folder->files()) ASSERT_TRUE(folder->remove(name));
    EXPECT_EQ(store->find(kAlice, text), 100U) << "nobody told";
    EXPECT_EQ(got(*store, kAlice, text), 0U);
    EXPECT_EQ(store->find(kAlice, text), 0U);
    auto const stats = store->stats();
    EXPECT_EQ(stats.disk_errors_total + stats.files_bad_total + stats.disk_bytes, 0U);
    put_all(*store, kAlice, text, 25, Keep::until_written);
    EXPECT_EQ(got(*store, kAlice, text), 100U);
}

// Every file of a store damaged in every way a byte can be: what is got is right, and what is bad is gone.
TEST(kvstore, a_bad_file_is_never_used_and_is_removed) {
    auto const text = text_of(1, 40);
    MemoryFolder clean;
    {
        auto const folder = std::make_shared<MemoryFolder>();
        put_all(*Store::create(on_disk(folder)), kAlice, text, 10, Keep::while_room, 3);
        for (auto& [name, bytes] : folder->files()) clean.set(name, bytes);
    }
    std::uint64_t bad = 0;
    for (auto const& [bent_name, bent_bytes] : clean.files()) {
        for (std::size_t at = 0; at < bent_bytes.size(); ++at) {
            auto const folder = std::make_shared<MemoryFolder>();
            for (auto& [name, bytes] : clean.files()) folder->set(name, bytes);
            auto damaged = bent_bytes;
            if (at % 2 == 0) damaged[at] ^= std::byte{0x40};
            else damaged.resize(at);
            folder->set(bent_name, damaged);
            auto const store = Store::create(on_disk(folder));
            auto const fetch = store->fetch(kAlice, text, 0);
            store->settle();
            std::uint32_t end = 0;
            ASSERT_TRUE(are_right(fetch->pieces(), kAlice, text, end, 3)) << at;
            EXPECT_LT(end, 40U);
            bad += store->stats().files_bad_total;
            EXPECT_FALSE(folder->files().contains(bent_name));
            EXPECT_EQ(store->find(kAlice, text), end);
            store->check_integrity();
        }
    }
    EXPECT_GT(bad, 4U * 100U);
}

// A disk that fails at any operation, once or for good: the store goes on, and what a restart finds is right.
TEST(kvstore, a_disk_that_fails_at_any_moment_costs_nothing_but_itself) {
    for (auto const failure : {MemoryFolder::Failure::once, MemoryFolder::Failure::from_then_on}) {
        std::uint64_t at = 0;
        for (bool reached = true; reached; ++at) {
            auto const folder = std::make_shared<MemoryFolder>();
            folder->set("0123456789abcdef.tmp", std::vector<std::byte>(10));
            folder->fail_at(at, failure);
            auto options = on_disk(folder, 4000);
            options.memory_bytes = 1U << 20;
            {
                auto const store = Store::create(options);
                for (std::uint64_t seed = 1; seed < 5; ++seed) {
                    put_all(*store, kAlice, text_of(seed, 60), 20);
                    store->settle();
                    EXPECT_EQ(got(*store, kAlice, text_of(seed, 60)), 60U) << "memory has it";
                }
            }
            reached = folder->operations() > at;
            folder->fail_at(~std::uint64_t{0}, MemoryFolder::Failure::once);
            auto const store = Store::create(options);
            for (std::uint64_t seed = 1; seed < 5; ++seed) got(*store, kAlice, text_of(seed, 60));
        }
        EXPECT_GT(at, 20U);
    }
}

TEST(kvstore, a_read_that_fails_ends_the_fetch_before_it) {
    auto const folder = std::make_shared<MemoryFolder>();
    auto const text = text_of(1, 100);
    put_all(*Store::create(on_disk(folder)), kAlice, text, 20);
    std::uint32_t least = 100;
    for (std::uint64_t at = 0; at < 20; ++at) {
        auto const copy = std::make_shared<MemoryFolder>();
        for (auto& [name, bytes] : folder->files()) copy->set(name, bytes);
        auto const store = Store::create(on_disk(copy));
        copy->fail_at(at, MemoryFolder::Failure::from_then_on);
        auto const end = got(*store, kAlice, text);
        least = std::min(least, end);
        EXPECT_LE(end, 20 * (at / 4 + 1));
    }
    EXPECT_EQ(least, 0U);
}

// --- on the real file system ---

class kvstore_files : public ::testing::Test {
protected:
    void SetUp() override {
        // In memory if possible: what a process leaves when it is killed does not depend on the medium.
        std::filesystem::path const shm = "/dev/shm";
        auto const parent = ::access(shm.c_str(), W_OK) == 0 ? shm : std::filesystem::temp_directory_path();
        auto pattern = (parent / "hearth-kvstore-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        path = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(path); }

    std::shared_ptr<Folder> open() {
        auto folder = SystemFolder::open(path);
        EXPECT_TRUE(folder.has_value()) << folder.error().message;
        return std::shared_ptr<Folder>(std::move(folder).value());
    }

    std::string path;
};

TEST_F(kvstore_files, goes_on_after_a_restart) {
    auto const text = text_of(1, 5000);
    put_all(*Store::create(on_disk(open())), kAlice, text, 256);
    EXPECT_EQ(got(*Store::create(on_disk(open())), kAlice, text), 5000U);
}

TEST_F(kvstore_files, a_folder_others_may_write_into_is_refused) {
    std::filesystem::permissions(path, std::filesystem::perms::others_write, std::filesystem::perm_options::add);
    auto const folder = SystemFolder::open(path);
    ASSERT_FALSE(folder.has_value());
    EXPECT_EQ(folder.error().code, Code::io);
    auto const made = SystemFolder::open(path + "/a/b");
    EXPECT_TRUE(made.has_value());
    EXPECT_EQ(std::filesystem::status(path + "/a/b").permissions(), std::filesystem::perms::owner_all);
}

TEST_F(kvstore_files, what_another_is_writing_is_left_alone) {
    auto const first = open();
    std::array<std::byte, 3> bytes{};
    std::array<std::span<std::byte const>, 1> parts{bytes};
    ASSERT_TRUE(first->write("0123456789abcdef.tmp", parts));
    auto const second = Store::create(on_disk(open()));
    ASSERT_TRUE(first->rename("0123456789abcdef.tmp", "fedcba9876543210.tmp")) << "it is still there";
}

TEST_F(kvstore_files, a_full_disk_is_survived) {
    auto const child = ::fork();
    if (child == 0) {
        ::signal(SIGXFSZ, SIG_IGN);
        rlimit const limit{3000, 3000};
        ::setrlimit(RLIMIT_FSIZE, &limit);  // write() takes a part, then fails
        auto options = on_disk(open());
        options.memory_bytes = 1U << 20;
        auto const store = Store::create(options);
        put_all(*store, kAlice, text_of(1, 100), 100);
        put_all(*store, kAlice, text_of(2, 300), 300);
        store->settle();
        auto const stats = store->stats();
        bool const right = got(*store, kAlice, text_of(2, 300)) == 300 && stats.disk_segments == 1 &&
                           stats.disk_failing && stats.disk_errors_total > 0;
        ::_exit(right ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path), {}), 1) << "nothing half-written stays";
}

// Says each operation to a pipe before it is done.
class TellingFolder final : public Folder {
public:
    TellingFolder(std::shared_ptr<Folder> folder, int fd) : folder_(std::move(folder)), fd_(fd) {}
    Result<std::vector<File>> list(std::size_t max) override { return tell(), folder_->list(max); }
    Status read(std::string const& name, std::uint64_t offset, std::span<std::byte> out) override {
        return folder_->read(name, offset, out);
    }
    Status write(std::string const& name, std::span<std::span<std::byte const> const> parts) override {
        return tell(), folder_->write(name, parts);
    }
    Status rename(std::string const& from, std::string const& to) override { return tell(), folder_->rename(from, to); }
    Status remove(std::string const& name) override { return tell(), folder_->remove(name); }
    Status touch(std::string const& name) override { return folder_->touch(name); }

private:
    void tell() const {
        char const byte = 'x';
        if (::write(fd_, &byte, 1) != 1) ::_exit(3);
    }
    std::shared_ptr<Folder> folder_;
    int fd_;
};

constexpr std::size_t kBigState = 2000;  // bytes a token: a write takes a while

[[noreturn]] void write_until_killed(std::string const& path, std::uint64_t seed, int fd) {
    auto folder = SystemFolder::open(path);
    if (!folder) ::_exit(2);
    auto const store = Store::create(
        on_disk(std::make_shared<TellingFolder>(std::shared_ptr<Folder>(std::move(folder).value()), fd), 4U << 20));
    for (std::uint64_t i = 0;; ++i) {
        auto const text = text_of((seed + i) % 12, 200);
        put_all(*store, kAlice, text, 50, Keep::until_written, kBigState);
        put_state(*store, kAlice, std::span(text).first(120), Keep::until_written);
        put_state(*store, kAlice, text, Keep::until_written);
        store->settle();
    }
}

TEST_F(kvstore_files, killed_at_any_moment_no_bad_file_is_used) {
    std::mt19937_64 random(20261121);
    std::uint64_t kept = 0;
    std::uint64_t states = 0;
    for (int round = 0; round < 200; ++round) {
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        auto const child = ::fork();
        if (child == 0) write_until_killed(path, static_cast<std::uint64_t>(round), ends[1]);
        ::close(ends[1]);
        char byte = 0;
        for (auto left = random() % 40; left > 0; --left) {
            if (::read(ends[0], &byte, 1) != 1) break;
        }
        // Within the operation, anywhere.
        auto const until = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 1500);
        while (std::chrono::steady_clock::now() < until) {}
        ::kill(child, SIGKILL);
        int status = -1;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ::close(ends[0]);
        ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed by itself: " << status;

        auto const store = Store::create(on_disk(open(), 4U << 20));
        EXPECT_EQ(store->stats().files_bad_total, 0U) << "a file has its name only when it is whole";
        for (std::uint64_t seed = 0; seed < 12; ++seed) {
            auto const text = text_of(seed, 200);
            auto const fetch = store->fetch(kAlice, text, 0, Want::cells_and_state);
            store->settle();
            std::uint32_t end = 0;
            ASSERT_TRUE(are_right(fetch->pieces(), kAlice, text, end, kBigState)) << "round " << round;
            kept += end;
            states += store->find_state(kAlice, text) > 0 ? 1 : 0;
        }
        EXPECT_EQ(store->stats().files_bad_total, 0U);
        store->check_integrity();
        for (auto const& entry : std::filesystem::directory_iterator(path))
            EXPECT_NE(entry.path().extension(), ".tmp") << "what a crash left is removed";
    }
    EXPECT_GT(kept, 100000U);
    EXPECT_GT(states, 200U);
}

}  // namespace
}  // namespace hearth::kvstore
