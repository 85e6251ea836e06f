// The cache, with a maker that is a shell script and counts its runs. With the
// real one: tests/integration/test_quantize.py.
#include "formats/cache.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::formats {
namespace {

namespace fs = std::filesystem;

class Cache : public ::testing::Test {
protected:
    void SetUp() override {
        std::ofstream(folder_ / "maker.sh") << "#!/bin/sh\n"
                                            << "cat \"$3\" >\"$4\"; echo run >>" << folder_ / "runs" << "\n"
                                            << "echo plan llama Q4_1 3 100 0 >&3; echo done >&3\n";
        ::chmod((folder_ / "maker.sh").c_str(), 0700);
        for (auto const* name : {"a", "b", "c"}) write_source(name, name);
    }

    void write_source(std::string const& name, std::string const& said) {
        std::ofstream(folder_ / (name + ".gguf")) << models::testing::tiny_llama().text("general.name", said).build();
    }
    [[nodiscard]] std::uint64_t model_bytes() const { return fs::file_size(folder_ / "a.gguf"); }
    Result<QuantCache::Entry> provide(std::string const& name, std::uint64_t models = 8, Form const& form = kForm,
                                      std::string const& version = "1") {
        QuantCache const cache({folder_ / "cache", models * model_bytes(), version});
        return cache.provide(folder_ / (name + ".gguf"), form,
                             {.executable = folder_ / "maker.sh", .environment = {"PATH=/usr/bin:/bin"}}, {});
    }
    // Whether it had to be made.
    bool makes(std::string const& name, std::uint64_t models = 8) {
        auto const entry = provide(name, models);
        EXPECT_TRUE(entry) << (entry ? "" : entry.error().message);
        return entry && entry->made;
    }
    [[nodiscard]] std::size_t runs() const {
        std::ifstream file(folder_ / "runs");
        std::size_t count = 0;
        for (std::string line; std::getline(file, line);) ++count;
        return count;
    }
    [[nodiscard]] std::string file_with(std::string const& ending) const {
        for (auto const& entry : fs::directory_iterator(folder_ / "cache")) {
            if (entry.path().extension() == ending) return entry.path();
        }
        return {};
    }

    inline static Form const kForm = form_of(Profile::fast);
    hearth::testing::TemporaryFolder const folder_;
};

TEST_F(Cache, MakesAModelOnce) {
    EXPECT_TRUE(makes("a"));
    auto const again = provide("a");
    ASSERT_TRUE(again);
    EXPECT_FALSE(again->made);
    EXPECT_EQ(fs::file_size(again->path), model_bytes());
    EXPECT_EQ(runs(), 1U);
    EXPECT_EQ(fs::status(folder_ / "cache").permissions(), fs::perms::owner_all);
}

TEST_F(Cache, AnotherSourceFormOrVersionIsAnotherModel) {
    EXPECT_TRUE(makes("a"));
    EXPECT_TRUE(makes("b"));
    EXPECT_TRUE(provide("a", 8, form_of(Profile::quality))->made);
    EXPECT_TRUE(provide("a", 8, kForm, "2")->made);
    write_source("a", "z");  // as long as before
    EXPECT_TRUE(makes("a"));
    EXPECT_FALSE(makes("a"));
    EXPECT_EQ(runs(), 5U);
    fs::copy_file(folder_ / "b.gguf", folder_ / "copy.gguf");
    EXPECT_FALSE(makes("copy")) << "the same bytes in another place";
}

TEST_F(Cache, ADamagedModelIsMadeAgain) {
    ASSERT_TRUE(makes("a"));
    auto const model = file_with(".gguf");
    auto const flip = [&](std::streamoff at) {
        std::fstream file(model, std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(at);
        auto const byte = static_cast<char>(file.get() ^ 1);
        file.seekp(at);
        file.put(byte);
    };
    for (std::streamoff const at : {std::streamoff{0}, static_cast<std::streamoff>(model_bytes()) - 1}) {
        flip(at);
        EXPECT_TRUE(makes("a"));
        EXPECT_FALSE(makes("a"));
    }
    fs::resize_file(model, model_bytes() - 1);
    EXPECT_TRUE(makes("a"));
    fs::remove(model);
    EXPECT_TRUE(makes("a"));
}

// As if killed at each step of storing a model.
TEST_F(Cache, WhatACrashLeavesIsNeverGiven) {
    ASSERT_TRUE(makes("a"));
    fs::remove(file_with(".entry"));
    EXPECT_TRUE(makes("a"));
    for (auto const* text : {"", "hearth-quantised-1", "hearth-quantised-1 12", "something else 1 2"}) {
        std::ofstream(file_with(".entry"), std::ios::trunc) << text;
        EXPECT_TRUE(makes("a")) << text;
        EXPECT_FALSE(makes("a"));
    }
    for (auto const* text : {"", "hearth-source-1 x y"}) {
        std::ofstream(file_with(".source"), std::ios::trunc) << text;
        EXPECT_FALSE(makes("a")) << text;
    }
}

TEST_F(Cache, TheOneAskedForLongestAgoGoesUnlessSomebodyHoldsIt) {
    EXPECT_TRUE(makes("a", 2));
    EXPECT_TRUE(makes("b", 2));
    EXPECT_FALSE(makes("a", 2));
    EXPECT_TRUE(makes("c", 2));
    EXPECT_FALSE(makes("a", 2));
    {
        auto const held = provide("a", 2);
        ASSERT_TRUE(held);
        EXPECT_FALSE(makes("c", 2));
        EXPECT_TRUE(makes("b", 2)) << "c goes, for a is held";
        EXPECT_TRUE(fs::exists(held->path));
    }
    EXPECT_FALSE(makes("a", 2));
}

TEST_F(Cache, WhatDoesNotFitAloneIsRefusedWithBothSizes) {
    QuantCache const cache({folder_ / "cache", model_bytes() - 1, "1"});
    auto const entry = cache.provide(folder_ / "a.gguf", kForm,
                                     {.executable = folder_ / "maker.sh", .environment = {"PATH=/usr/bin:/bin"}}, {});
    ASSERT_FALSE(entry);
    EXPECT_EQ(entry.error().code, Code::too_large);
    EXPECT_NE(entry.error().message.find(std::to_string(model_bytes() - 1)), std::string::npos);
    EXPECT_EQ(file_with(".gguf"), "");
}

TEST_F(Cache, StopsWhenToldTo) {
    QuantCache const cache({folder_ / "cache", 1 << 20, "1"});
    auto const entry = cache.provide(folder_ / "a.gguf", kForm, {}, [](Progress const&) { return false; });
    ASSERT_FALSE(entry);
    EXPECT_EQ(entry.error().code, Code::cancelled);
    EXPECT_EQ(provide("nowhere").error().code, Code::not_found);
}

}  // namespace
}  // namespace hearth::formats
