#include "llama/file_sample.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace hearth::llama {
namespace {

class FileSample : public ::testing::Test {
protected:
    void SetUp() override {
        path_ = (std::filesystem::temp_directory_path() / ("hearth-sample-" + std::to_string(::getpid()))).string();
    }
    void TearDown() override { std::filesystem::remove(path_); }

    std::uint64_t sample(std::string const& content) {
        std::ofstream(path_, std::ios::binary) << content;
        auto const sum = sample_file(path_);
        EXPECT_TRUE(sum.has_value());
        return sum ? *sum : 0;
    }
    std::string path_;
};

TEST_F(FileSample, TellsFilesApartByLengthHeadAndBlocksBehindIt) {
    std::string const content((kSampleHeadBytes) + 10 * kSampleStrideMin + 17, 'x');
    auto const sum = sample(content);
    EXPECT_EQ(sample(content), sum);
    EXPECT_NE(sample(content + "x"), sum);
    EXPECT_NE(sample(content.substr(0, content.size() - 1)), sum);
    for (std::size_t const at : {std::size_t{0}, std::size_t{kSampleHeadBytes - 1}, std::size_t{kSampleHeadBytes},
                                 std::size_t{kSampleHeadBytes + 3 * kSampleStrideMin + 100}, content.size() - 1}) {
        auto changed = content;
        changed[at] = 'y';
        EXPECT_NE(sample(changed), sum) << at;
    }
}

TEST_F(FileSample, SmallAndEmptyFilesWork) {
    EXPECT_NE(sample(""), sample("a"));
    EXPECT_NE(sample("b"), sample("a"));
}

TEST_F(FileSample, AMissingFileIsAnError) {
    auto const sum = sample_file(path_ + "-absent");
    ASSERT_FALSE(sum.has_value());
    EXPECT_EQ(sum.error().code, Code::io);
}

}  // namespace
}  // namespace hearth::llama
