// What is acknowledged stays: through kill -9 at any moment, through disks that
// are full or fail at any write.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <random>

#include <gtest/gtest.h>

#include "base/sanitized.h"
#include "store/database.h"
#include "store/testing/fault_vfs.h"
#include "testing/temporary_folder.h"

namespace hearth::store {
namespace {

constexpr int kKills = kSanitized ? 40 : 200;
constexpr int kTransactions = 6;  // of a sweep through the writes of a disk

// A transaction adds one row to each; half of one would show.
constexpr std::array kSchema{Migration{"two tables",
                                       "CREATE TABLE first(n INTEGER PRIMARY KEY, filler TEXT) STRICT;"
                                       "CREATE TABLE second(n INTEGER PRIMARY KEY) STRICT"}};

Result<std::unique_ptr<Database>> open(std::string const& path, std::string vfs = {}) {
    return Database::open({.path = path, .application_id = 0x48740002, .migrations = kSchema, .vfs = std::move(vfs)});
}

Status add(Database& db, std::int64_t number) {
    return db.transact([&]() -> Status {
        HEARTH_CHECK(db.run("INSERT INTO first VALUES(?, ?)", {number, std::string(3000, 'x')}));
        HEARTH_CHECK(db.run("INSERT INTO second VALUES(?)", {number}));
        return ok();
    });
}

// The last number, when every one from 1 is there, whole; -1 otherwise.
std::int64_t last_whole(Database& db) {
    auto const count = *db.query_integer("SELECT count(*) FROM first JOIN second USING(n)");
    for (auto const* sql :
         {"SELECT count(*) FROM first", "SELECT count(*) FROM second", "SELECT coalesce(max(n), 0) FROM first"}) {
        if (*db.query_integer(sql) != count) return -1;
    }
    return *count;
}

// Writes as long as it lives, and says each number that is committed.
[[noreturn]] void write_until_killed(std::string const& path, int out) {
    auto db = open(path);
    if (!db) ::_exit(2);
    for (std::int64_t number = last_whole(**db) + 1;; ++number) {
        if (!add(**db, number) || ::write(out, &number, sizeof number) != sizeof number) ::_exit(3);
    }
}

TEST(store_faults, kill_9_at_any_moment_loses_nothing_that_was_committed) {
    hearth::testing::TemporaryFolder const folder;
    auto const path = folder / "t.db";
    std::mt19937_64 random(20261122);
    std::int64_t acknowledged = 0;
    for (int round = 0; round < kKills; ++round) {
        int pipe[2];
        ASSERT_EQ(::pipe(pipe), 0);
        auto const child = ::fork();
        if (child == 0) write_until_killed(path, pipe[1]);
        ::close(pipe[1]);
        // The kill comes so many commits after the start and at any point of the next.
        auto left = random() % 8;
        std::int64_t number = 0;
        while (left-- > 0 && ::read(pipe[0], &number, sizeof number) == sizeof number) acknowledged = number;
        for (auto spin = random() % 400'000; spin > 0; --spin) asm volatile("");
        ::kill(child, SIGKILL);
        while (::read(pipe[0], &number, sizeof number) == sizeof number) acknowledged = number;
        ::close(pipe[0]);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status)) << "round " << round << ": the child ended by itself, status " << status;

        auto db = open(path);
        ASSERT_TRUE(db) << "round " << round << ": " << db.error().message;
        ASSERT_GE(last_whole(**db), acknowledged) << "round " << round;
        ASSERT_TRUE((*db)->check());
    }
    EXPECT_GT(acknowledged, kKills / 4);
}

// The disk fails from the n-th write on, for every n until none is left to fail;
// then there is room again.
void sweep(testing::Fault kind, std::uint64_t failures) {
    testing::FaultVfs disk;
    std::uint64_t swept = 0;
    for (std::uint64_t n = 1;; ++n, ++swept) {
        ASSERT_LT(n, 2000U) << "the sweep does not end";
        hearth::testing::TemporaryFolder const folder;
        auto const path = folder / "t.db";
        disk.fail(kind, n, failures);
        std::int64_t acknowledged = 0;
        {
            auto db = open(path, testing::FaultVfs::name());
            if (!db) EXPECT_EQ(db.error().code, Code::io) << db.error().message;
            for (std::int64_t i = 0; db && i < kTransactions; ++i) {
                auto const added = add(**db, acknowledged + 1);
                if (added) ++acknowledged;
                else EXPECT_EQ(added.error().code, Code::io) << added.error().message;
            }
            bool const hit = disk.failed() > 0;
            disk.heal();
            if (db) {  // goes on without being opened again
                auto const healed = add(**db, acknowledged + 1);
                ASSERT_TRUE(healed) << "write " << n << ": " << healed.error().message;
                ++acknowledged;
                ASSERT_EQ(last_whole(**db), acknowledged) << "write " << n;
            }
            if (!hit) break;
        }
        auto db = open(path);
        ASSERT_TRUE(db) << "write " << n << ": " << db.error().message;
        ASSERT_EQ(last_whole(**db), acknowledged) << "write " << n;
        ASSERT_TRUE((*db)->check());
    }
    EXPECT_GT(swept, 40U);
}

TEST(store_faults, a_disk_that_is_full_from_any_write_on_loses_nothing) {
    sweep(testing::Fault::disk_full, testing::FaultVfs::kForever);
}

TEST(store_faults, any_single_write_that_finds_no_room_loses_nothing) { sweep(testing::Fault::disk_full, 1); }

TEST(store_faults, any_single_write_that_fails_loses_nothing) { sweep(testing::Fault::io_error, 1); }

TEST(store_faults, a_full_disk_is_called_that) {
    testing::FaultVfs disk;
    hearth::testing::TemporaryFolder const folder;
    auto db = open(folder / "t.db", testing::FaultVfs::name());
    ASSERT_TRUE(db);
    disk.fail(testing::Fault::disk_full, 1);
    auto const failed = add(**db, 1);
    disk.heal();
    ASSERT_FALSE(failed);
    EXPECT_NE(failed.error().message.find("disk is full"), std::string::npos) << failed.error().message;
    EXPECT_NE(failed.error().message.find("t.db"), std::string::npos) << failed.error().message;
}

}  // namespace
}  // namespace hearth::store
