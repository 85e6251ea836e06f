#include "llama/content_hash.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace hearth::llama {
namespace {

class ContentHashTest : public ::testing::Test {
protected:
    void SetUp() override {
        path_ = (std::filesystem::temp_directory_path() / ("hearth-hash-" + std::to_string(::getpid()))).string();
    }
    void TearDown() override { std::filesystem::remove(path_); }

    std::string hash(std::string const& content) {
        std::ofstream(path_, std::ios::binary) << content;
        auto const sum = hash_file(path_);
        EXPECT_TRUE(sum.has_value());
        return sum ? *sum : "";
    }
    std::string path_;
};

TEST_F(ContentHashTest, SeesEveryByte) {
    std::string const content((3U << 20) + 17, 'x');
    auto const sum = hash(content);
    EXPECT_EQ(sum.size(), 32U);
    EXPECT_EQ(hash(content), sum);
    EXPECT_NE(hash(content + "x"), sum);
    EXPECT_NE(hash(content.substr(1)), sum);
    for (std::size_t at = 0; at < content.size(); at += 99'991) {
        auto changed = content;
        changed[at] = 'y';
        EXPECT_NE(hash(changed), sum) << at;
    }
}

// XXH3_128bits of nothing, as its specification has it (xxhash_spec.md, test vectors of xxHash).
TEST_F(ContentHashTest, IsXxh3) { EXPECT_EQ(hash(""), "99aa06d3014798d86001c324468d497f"); }

TEST_F(ContentHashTest, FilesAreHashedOneAfterTheOther) {
    auto const sum = hash("a part");
    EXPECT_EQ(ContentHash({path_, path_}).take(), " " + sum + " " + sum);
}

TEST_F(ContentHashTest, AFileThatCannotBeReadLeavesNothing) {
    auto const sum = hash_file(path_ + "-absent");
    ASSERT_FALSE(sum.has_value());
    EXPECT_EQ(sum.error().code, Code::io);
    EXPECT_EQ(ContentHash({path_ + "-absent"}).take(), "");
}

TEST_F(ContentHashTest, StopsWhenNobodyWaits) {
    std::atomic<bool> const stop = true;
    std::ofstream(path_) << "something";
    auto const sum = hash_file(path_, &stop);
    ASSERT_FALSE(sum.has_value());
    EXPECT_EQ(sum.error().code, Code::cancelled);
    ContentHash const unused({path_});  // its end waits for no file
}

}  // namespace
}  // namespace hearth::llama
