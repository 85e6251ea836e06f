#include "library/keeper.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <latch>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "catalog/imported.h"
#include "library/job_kinds.h"
#include "telemetry/log.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

class KeeperTest : public ::testing::Test {
protected:
    KeeperTest() { keeper.start(); }
    Keeper::Options options() const {
        Keeper::Options out;
        out.folders = {folder.path()};
        out.data_folder = data.path();
        out.new_id = [] { return std::string("job"); };
        out.on_shelf = [](auto const&) {};
        out.on_job = [](auto const&) {};
        return out;
    }

    hearth::testing::TemporaryFolder folder, data;
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
    Keeper keeper{options(), *log};
};

TEST_F(KeeperTest, WhatIsStoppedBeforeItWasBegunNeverIs) {
    std::latch busy(1), release(1), after(1);
    ASSERT_TRUE(keeper.post([&](Keeper::Desk&) {
        busy.count_down();
        release.wait();
    }));
    busy.wait();
    auto const touched = std::make_shared<bool>(false);
    std::stop_source stop;
    stop.request_stop();
    auto const stopped = keeper.run(
        [touched](Keeper::Desk&) {
            *touched = true;
            return ok();
        },
        stop.get_token());
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code, Code::cancelled);
    release.count_down();
    ASSERT_TRUE(keeper.post([&](Keeper::Desk&) { after.count_down(); }));
    after.wait();
    EXPECT_FALSE(*touched) << "its caller has gone, and what it was given with it";
}

TEST_F(KeeperTest, WhatIsStoppedOnceItWasBegunIsWaitedFor) {
    std::stop_source stop;
    std::string const mine = "the caller's";
    auto const done = keeper.run(
        [&](Keeper::Desk&) -> Status {
            stop.request_stop();
            return Error(Code::not_found, mine);
        },
        stop.get_token());
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error(), Error(Code::not_found, mine));
}

TEST_F(KeeperTest, ItsFoldersAreThoseGivenAndThenThoseImportedNow) {
    auto const folders = [&] {
        std::vector<std::string> out;
        EXPECT_TRUE(keeper.run(
            [&](Keeper::Desk& desk) {
                out = desk.folders();
                return ok();
            },
            {}));
        return out;
    };
    ASSERT_TRUE(catalog::set_imported_folders(data.path(), {"/somewhere/else", folder.path()}));
    EXPECT_EQ(folders(), (std::vector<std::string>{folder.path(), "/somewhere/else"}));
    ASSERT_TRUE(catalog::set_imported_folders(data.path(), {}));
    EXPECT_EQ(folders(), std::vector<std::string>{folder.path()});
}

TEST_F(KeeperTest, WhatIsPostedBeforeItStartsIsDoneThen) {
    hearth::testing::TemporaryFolder other;
    auto wanted = options();
    wanted.data_folder = other.path();
    std::atomic<bool> told = false;
    wanted.on_shelf = [&](auto const&) { told = true; };
    std::latch done(1);
    Keeper later(wanted, *log);
    ASSERT_TRUE(later.post([&](Keeper::Desk&) { done.count_down(); }));
    EXPECT_FALSE(told) << "who owns it has not got it yet";
    later.start();
    done.wait();
    EXPECT_TRUE(told);
}

TEST_F(KeeperTest, OneThatWasNeverStartedEnds) { Keeper const never(options(), *log); }

class NoHandler final : public jobs::Handler {
public:
    jobs::Outcome run(jobs::Context&) override { return {Error(Code::internal, "no job is to run here")}; }
};

// What a first look into a folder leaves of a download that nobody touched for two days.
class KeeperSweep : public ::testing::Test {
protected:
    static constexpr std::string_view kFile = "mine.gguf.partial";

    // A paused job, of another process by now.
    void pause(std::string_view kind, jobs::Progress const& progress) const {
        jobs::Options options;
        options.path = data / "jobs.db";
        options.now = [] { return jobs::UnixMs{1'000'000}; };
        options.new_id = [] { return std::string("old"); };
        auto const queue = jobs::Queue::open(std::move(options));
        ASSERT_TRUE(queue) << queue.error().message;
        ASSERT_TRUE((*queue)->enqueue({std::string(kind), "key", "{}"}));
        auto const lease = (*queue)->claim(kind, "other", std::chrono::seconds(30));
        ASSERT_TRUE(lease && *lease);
        ASSERT_TRUE((*queue)->report(**lease, progress));
        ASSERT_TRUE((*queue)->pause((*lease)->job.id));
        ASSERT_TRUE((*queue)->release(**lease));
    }
    bool stays() {
        auto const path = folder / std::string(kFile);
        std::ofstream(path) << "half of it";
        std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() - std::chrono::hours(48));
        NoHandler handler;
        Keeper::Options options;
        options.folders = {folder.path()};
        options.data_folder = data.path();
        options.new_id = [] { return std::string("job"); };
        options.kinds = {{kPullKind, &handler, 1}};
        options.on_shelf = [](auto const&) {};
        options.on_job = [](auto const&) {};
        Keeper keeper(std::move(options), *log);
        keeper.start();
        EXPECT_TRUE(keeper.run([](Keeper::Desk&) { return ok(); }, {}));
        return std::filesystem::exists(path);
    }
    static jobs::Progress progress(std::size_t parts) {
        jobs::Progress out;
        out.done = 1;
        for (std::size_t i = 0; i < parts; ++i)
            out.parts.push_back({.name = std::to_string(i), .file = std::to_string(i)});
        return out;
    }

    hearth::testing::TemporaryFolder folder, data;
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
};

TEST_F(KeeperSweep, TakesWhatNoJobIsAt) {
    pause(kPullKind, progress(2));
    EXPECT_FALSE(stays());
}

TEST_F(KeeperSweep, LeavesWhatAJobSaysItIsAt) {
    auto mine = progress(1);
    mine.parts.front().file = "mine.gguf";
    pause(kPullKind, mine);
    EXPECT_TRUE(stays());
}

TEST_F(KeeperSweep, LeavesAllWhereAJobDoesNotSayWhatItIsAt) {
    pause(kPullKind, progress(0));
    EXPECT_TRUE(stays()) << "a job of an older version";
}

TEST_F(KeeperSweep, LeavesAllWhereAJobIsAtMoreThanIsKept) {
    pause(kRestoreKind, progress(jobs::kPartsMax + 1));
    EXPECT_TRUE(stays());
}

TEST_F(KeeperSweep, JobsThatDownloadNothingNeedSayNothing) {
    pause(kVerifyKind, progress(0));
    EXPECT_FALSE(stays());
}

}  // namespace
}  // namespace hearth::library
