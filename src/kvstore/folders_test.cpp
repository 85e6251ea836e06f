#include "kvstore/folders.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "kvstore/folder.h"

namespace hearth::kvstore {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kFileBytes = 1000;

class kvstore_folders : public ::testing::Test {
protected:
    void SetUp() override {
        auto pattern = (fs::temp_directory_path() / "hearth-folders-XXXXXX").string();
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        path = pattern;
    }
    void TearDown() override { fs::remove_all(path); }

    // A model's folder with so many files, used that many hours ago.
    fs::path model(char digit, int files, int hours) {
        auto const folder = path / std::string(32, digit);
        fs::create_directory(folder);
        auto const time = fs::file_time_type::clock::now() - std::chrono::hours(hours);
        for (int i = 0; i < files; ++i) {
            auto const name = std::string(32, digit) + "-" + std::string(31, '0') + std::to_string(i) + ".kv";
            std::ofstream(folder / name) << std::string(kFileBytes, 'x');
            fs::last_write_time(folder / name, time);
        }
        fs::last_write_time(folder, time);
        return folder;
    }

    fs::path path;
};

TEST_F(kvstore_folders, those_unused_longest_go_until_the_rest_fits) {
    auto const oldest = model('a', 3, 50), older = model('b', 2, 40), fresh = model('c', 4, 1);
    auto const trimmed = trim_folders(path, 6 * kFileBytes);
    ASSERT_TRUE(trimmed) << trimmed.error().message;
    EXPECT_EQ(trimmed->bytes_before, 9 * kFileBytes);
    EXPECT_EQ(trimmed->bytes_after, 6 * kFileBytes);
    EXPECT_EQ(trimmed->folders, 1U);
    EXPECT_FALSE(fs::exists(oldest));
    EXPECT_TRUE(fs::exists(older) && fs::exists(fresh));
    EXPECT_EQ(trim_folders(path, 6 * kFileBytes)->folders, 0U);
    EXPECT_EQ(trim_folders(path, 0)->bytes_after, 0U);
    EXPECT_FALSE(fs::exists(older) || fs::exists(fresh));
}

TEST_F(kvstore_folders, what_a_process_has_open_stays) {
    auto const oldest = model('a', 3, 50), fresh = model('c', 4, 1);
    auto const open = SystemFolder::open(oldest.string());
    ASSERT_TRUE(open);
    auto const trimmed = trim_folders(path, 0);
    EXPECT_EQ(trimmed->bytes_after, 3 * kFileBytes);
    EXPECT_TRUE(fs::exists(oldest));
    EXPECT_FALSE(fs::exists(fresh));
}

TEST_F(kvstore_folders, what_is_not_ours_is_not_touched) {
    auto const folder = model('a', 1, 50);
    std::ofstream(folder / "notes.txt") << "mine";
    fs::create_directory(path / "backup");
    std::ofstream(path / "backup" / "x.kv") << "mine";
    fs::create_directory_symlink(path / "backup", path / std::string(32, 'd'));
    EXPECT_EQ(trim_folders(path, 0)->bytes_after, 0U);
    EXPECT_TRUE(fs::exists(folder / "notes.txt"));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
    EXPECT_TRUE(fs::exists(path / "backup" / "x.kv"));
    EXPECT_FALSE(trim_folders((path / "nowhere").string(), 0));
}

TEST_F(kvstore_folders, one_that_was_removed_is_made_again) {
    auto const folder = (path / std::string(32, 'e')).string();
    { ASSERT_TRUE(SystemFolder::open(folder)); }
    model('e', 1, 1);
    EXPECT_EQ(trim_folders(path, 0)->folders, 1U);
    auto const again = SystemFolder::open(folder);
    ASSERT_TRUE(again);
    EXPECT_FALSE((*again)->is_shared());
    auto const second = SystemFolder::open(folder);
    ASSERT_TRUE(second);
    EXPECT_TRUE((*second)->is_shared());
}

}  // namespace
}  // namespace hearth::kvstore
