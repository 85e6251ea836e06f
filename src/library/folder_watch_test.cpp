#include "library/folder_watch.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "catalog/imported.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;

class FolderWatchTest : public ::testing::Test {
protected:
    void write(std::string const& name) const {
        fs::create_directories(fs::path(folder / name).parent_path());
        std::ofstream(folder / name) << "x";
    }
    // It is written into a folder that is there already, and watched.
    bool is_noticed(std::string const& name) {
        fs::create_directories(fs::path(folder / name).parent_path());
        FolderWatch watch({folder.path()}, data.path());
        EXPECT_FALSE(watch.changed()) << name << ": nothing happened yet";
        write(name);
        bool const noticed = watch.changed();
        EXPECT_FALSE(watch.changed()) << name << ": once is enough";
        return noticed;
    }

    hearth::testing::TemporaryFolder folder, data;
    std::string const sha256 = std::string(64, 'a');
};

TEST_F(FolderWatchTest, FilesOfModelsAreNoticedInEveryLayout) {
    for (auto const& name : {std::string("m.gguf"),
                             std::string("M.GGUF"),
                             std::string("m.hearth.json"),
                             std::string("m.lora-1"),
                             std::string("m.lora-12"),
                             std::string("org/repo/m.gguf"),
                             std::string("org/repo/Q8/m.gguf"),
                             std::string("lm/config.json"),
                             std::string("lm/model.safetensors"),
                             std::string("lm/tokenizer.json"),
                             std::string("lm/tokenizer.model"),
                             std::string("lm/chat_template.jinja"),
                             std::string("lm/merges.txt"),
                             std::string("lm/1_Pooling/config.json"),
                             std::string("org/lm/model.safetensors"),
                             "blobs/sha256-" + sha256,
                             std::string("manifests/host/space/model/latest"),
                             std::string("models--org--repo/refs/main"),
                             std::string("models--org--repo/snapshots/abc/model.safetensors"),
                             std::string("models--org--repo/snapshots/abc/Q8/m.gguf"),
                             std::string("hub/models--org--repo/snapshots/abc/config.json"),
                             "hub/models--org--repo/blobs/" + sha256,
                             "models--org--repo/blobs/" + std::string(40, '0')})
        EXPECT_TRUE(is_noticed(name)) << name;
}

TEST_F(FolderWatchTest, WhatIsNoModelsIsNotNoticed) {
    for (auto const& name :
         {std::string("m.gguf.partial"), std::string("m.gguf.partial.state"), std::string("notes.txt"),
          std::string("config.json"), std::string("m.lora-x"), std::string("m.lora-1.new"),
          std::string("lm/model.safetensors.partial"), std::string("lm/.hidden.json"),
          std::string("lm/consolidated.safetensors"), std::string(".git/config.json"),
          "blobs/sha256-" + sha256 + "-partial", "hub/models--org--repo/blobs/" + sha256 + ".incomplete",
          std::string("hub/models--org--repo/config.json"), std::string("a/b/c/d/m.gguf")})
        EXPECT_FALSE(is_noticed(name)) << name;
}

TEST_F(FolderWatchTest, FoldersThatComeAreWatchedOnceTheyWereLookedAt) {
    FolderWatch watch({folder.path()}, "");
    write("org/repo/m.gguf");
    EXPECT_TRUE(watch.changed()) << "a folder came";
    watch.renew({folder.path()});
    write("org/repo/m.gguf");
    EXPECT_TRUE(watch.changed());
    fs::remove(folder / "org/repo/m.gguf");
    EXPECT_TRUE(watch.changed());
    fs::remove_all(folder / "org");
    EXPECT_TRUE(watch.changed());
}

TEST_F(FolderWatchTest, FoldersThatAreNamedNoMoreAreNotWatched) {
    hearth::testing::TemporaryFolder other;
    FolderWatch watch({folder.path(), other.path()}, "");
    watch.renew({folder.path()});
    std::ofstream(other / "m.gguf") << "x";
    EXPECT_FALSE(watch.changed());
    write("m.gguf");
    EXPECT_TRUE(watch.changed());
}

TEST_F(FolderWatchTest, OfTheListsFolderOnlyTheListCounts) {
    FolderWatch watch({folder.path()}, data.path());
    std::ofstream(data / "jobs.db") << "x";
    EXPECT_FALSE(watch.changed());
    std::ofstream(data / std::string(catalog::kImportedFile)) << "/somewhere\n";
    EXPECT_TRUE(watch.changed());
    FolderWatch both({data.path()}, data.path());
    std::ofstream(data / "m.gguf") << "x";
    EXPECT_TRUE(both.changed()) << "a folder that is both";
}

TEST_F(FolderWatchTest, LinksAreFollowedWhereTheCatalogFollowsThem) {
    hearth::testing::TemporaryFolder other;
    fs::create_directories(other / "models--org--repo/refs");
    fs::create_directory_symlink(other.path(), folder / "hub");
    fs::create_directory_symlink(other.path(), folder / "plain");
    fs::create_directory_symlink(folder.path(), folder / "loop");
    FolderWatch watch({folder.path()}, "");
    std::ofstream(other / "models--org--repo/refs/main") << "abc";
    EXPECT_TRUE(watch.changed());
    std::ofstream(other / "config.json") << "{}";
    EXPECT_FALSE(watch.changed());
}

TEST_F(FolderWatchTest, BeyondTheLimitTheTopIsStillWatched) {
    for (std::size_t i = 0; i < kWatchesMax + 8; ++i) fs::create_directories(folder / ("lm" + std::to_string(i)));
    hearth::testing::TemporaryFolder other;
    FolderWatch watch({folder.path(), other.path()}, "");
    write("m.gguf");
    EXPECT_TRUE(watch.changed());
    std::ofstream(other / "m.gguf") << "x";
    EXPECT_TRUE(watch.changed()) << "all models folders come before what is in them";
}

}  // namespace
}  // namespace hearth::library
