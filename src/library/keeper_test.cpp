#include "library/keeper.h"

#include <latch>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "catalog/imported.h"
#include "telemetry/log.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

class KeeperTest : public ::testing::Test {
protected:
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

}  // namespace
}  // namespace hearth::library
