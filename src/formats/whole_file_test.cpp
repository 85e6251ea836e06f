#include "formats/whole_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::formats {
namespace {

class Whole : public ::testing::Test {
protected:
    [[nodiscard]] std::string path() const { return folder_ / "m.gguf"; }
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> names;
        for (auto const& entry : std::filesystem::directory_iterator(folder_.path()))
            names.push_back(entry.path().filename());
        return names;
    }
    Result<WholeFile> create(Existing existing = Existing::refuse) {
        return WholeFile::create({path(), existing, 0640});
    }
    Status write_model(WholeFile& output) const {
        EXPECT_EQ(::write(output.fd(), model_.data(), model_.size()), static_cast<::ssize_t>(model_.size()));
        return output.finish();
    }

    hearth::testing::TemporaryFolder const folder_;
    std::string const model_ = models::testing::tiny_llama().build();
};

TEST_F(Whole, AppearsUnderItsNameWithTheModeAskedFor) {
    auto output = create();
    ASSERT_TRUE(output) << output.error().message;
    EXPECT_FALSE(std::filesystem::exists(path()));
    auto const written = write_model(*output);
    ASSERT_TRUE(written) << written.error().message;
    EXPECT_EQ(files(), std::vector<std::string>{"m.gguf"});
    EXPECT_EQ(std::filesystem::file_size(path()), model_.size());
    EXPECT_EQ(std::filesystem::status(path()).permissions(), std::filesystem::perms{0640});
}

TEST_F(Whole, MayGetAnotherName) {
    auto output = create();
    ASSERT_TRUE(output);
    std::ofstream(folder_ / "taken.gguf") << "x";
    EXPECT_EQ(output->rename_target("taken.gguf").error().code, Code::invalid_argument);
    ASSERT_TRUE(output->rename_target("other.gguf"));
    ASSERT_TRUE(write_model(*output));
    EXPECT_EQ(output->path(), folder_ / "other.gguf");
    EXPECT_EQ(files().size(), 2U);
}

TEST_F(Whole, LeavesNothingBehindWhenItIsDropped) {
    {
        auto output = create();
        ASSERT_TRUE(output);
        ASSERT_EQ(files().size(), 1U);
        struct ::stat stat{};
        ASSERT_EQ(::stat((folder_ / files()[0]).c_str(), &stat), 0);
        EXPECT_EQ(stat.st_mode & 0777U, 0600U);
    }
    EXPECT_TRUE(files().empty());
}

TEST_F(Whole, IsNotNamedWhenTheValidatorRefusesIt) {
    {
        auto output = create();
        ASSERT_TRUE(output);
        ASSERT_EQ(::write(output->fd(), "GGUF", 4), 4);
        auto const written = output->finish();
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error().code, Code::unsupported);
    }
    EXPECT_TRUE(files().empty());
}

TEST_F(Whole, ReplacesAnExistingFileOnlyWhenAsked) {
    std::ofstream(path()) << "old";
    EXPECT_EQ(create().error().code, Code::invalid_argument);
    auto output = create(Existing::replace);
    ASSERT_TRUE(output);
    EXPECT_EQ(std::filesystem::file_size(path()), 3U);
    ASSERT_TRUE(write_model(*output));
    EXPECT_EQ(std::filesystem::file_size(path()), model_.size());
}

TEST_F(Whole, DoesNotReplaceAFileThatAppearsMeanwhile) {
    auto output = create();
    ASSERT_TRUE(output);
    std::ofstream(path()) << "other";
    EXPECT_EQ(write_model(*output).error().code, Code::invalid_argument);
    EXPECT_EQ(std::filesystem::file_size(path()), 5U);
}

TEST_F(Whole, RemovesWhatAKilledProcessLeftButNotWhatAnotherStillWrites) {
    std::ofstream(folder_ / ".m.gguf.abcdef.part") << "left";
    std::ofstream(folder_ / ".other.gguf.abcdef.part") << "not ours";
    auto first = create();
    auto second = create();
    ASSERT_TRUE(first && second);
    EXPECT_EQ(files().size(), 3U);
    EXPECT_FALSE(std::filesystem::exists(folder_ / ".m.gguf.abcdef.part"));
    EXPECT_TRUE(std::filesystem::exists(folder_ / ".other.gguf.abcdef.part"));
}

TEST_F(Whole, SaysWhereItCannotWriteAndThatThereIsNoRoom) {
    auto const nowhere = WholeFile::create({folder_ / "no/such/m.gguf"});
    ASSERT_FALSE(nowhere);
    EXPECT_EQ(nowhere.error().code, Code::io);
    auto output = create();
    ASSERT_TRUE(output);
    auto const reserved = output->reserve(std::uint64_t{1} << 62);
    ASSERT_FALSE(reserved);
    EXPECT_NE(reserved.error().message.find("no room for 4611686018427387904 bytes"), std::string::npos);
}

}  // namespace
}  // namespace hearth::formats
