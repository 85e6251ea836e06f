// What models are called: names of pulls, copies, and what goes with the last one.
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "library/library.h"
#include "library/testing/library_fixture.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class LibraryNamesTest : public testing::LibraryTest {
public:
    std::vector<std::string> entries() {
        std::vector<std::string> names;
        for (auto const& known : library->entries()) names.push_back(known.name);
        return names;
    }
    // As if that file had been pulled by that name.
    net::Task<void> pulled_as(std::string file, std::string name) {
        library.reset();
        {
            auto const opened = catalog::Catalog::open(data / "catalog.db", catalog::Access::read_write);
            EXPECT_TRUE(opened);
            EXPECT_TRUE((*opened)->set_alias(name, file, catalog::AliasBy::pull));
        }
        create(options());
        co_await library->settled();
    }
};

TEST_F(LibraryNamesTest, ACopyReplacesWhatHadItsName) {
    write("one.gguf");
    write("two.gguf", "another template");
    create(options());
    run([](LibraryNamesTest& t) -> net::Task<void> {
        auto const named = co_await t.library->copy("one", "me/it");
        EXPECT_TRUE(named);
        auto const renamed = co_await t.library->copy("two", "ME/it:latest");
        EXPECT_TRUE(renamed) << (renamed ? "" : renamed.error().message);
        co_await t.loop.sleep(1ms);  // what the scan found is told
        EXPECT_EQ(t.library->find("me/it")->model->name, "two") << "an alias moves";

        auto const opened = co_await t.library->open("one");
        EXPECT_TRUE(opened);
        auto const replaced = co_await t.library->copy("two", "ONE:latest");
        EXPECT_TRUE(replaced) << (replaced ? "" : replaced.error().message);
        co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.entries(), (std::vector<std::string>{"ME/it:latest", "ONE", "two"}));
        EXPECT_EQ(fs::hard_link_count(t.folder / "two.gguf"), 2U);
        EXPECT_FALSE(fs::exists(t.folder / "one.gguf"));
        EXPECT_TRUE(t.pool->models().empty()) << "nobody is answered by the one that was";

        auto const none = co_await t.library->copy("ONE", "two");
        EXPECT_EQ(none.error().code, Code::invalid_argument) << "its other name would go, too";
        EXPECT_TRUE(fs::exists(t.folder / "two.gguf"));
    }(*this));
}

TEST_F(LibraryNamesTest, WhatWasPulledGoesByTheNameItWasPulledBy) {
    write("file-Q4.gguf");
    create(options());
    run([](LibraryNamesTest& t) -> net::Task<void> {
        co_await t.library->settled();
        co_await t.pulled_as("file-Q4", "hf.co/org/repo:Q4");
        co_await t.pulled_as("file-Q4", "small:1b");
        EXPECT_EQ(t.entries(), (std::vector<std::string>{"hf.co/org/repo:Q4", "small:1b"}));
        EXPECT_EQ(t.listed(), std::vector<std::string>{"file-Q4"}) << "which is one model";
        auto const opened = co_await t.library->open("Small:1B");
        EXPECT_EQ(*opened, "file-Q4");
        auto const known = t.library->find("file-Q4");
        EXPECT_EQ(t.library->asked_as(*known), "small:1b");
        auto const first = co_await t.library->remove("small:1b");
        EXPECT_TRUE(first);
        co_await t.loop.sleep(1ms);
        EXPECT_TRUE(fs::exists(t.folder / "file-Q4.gguf"));
        EXPECT_EQ(t.entries(), std::vector<std::string>{"hf.co/org/repo:Q4"});
        EXPECT_EQ(t.library->asked_as(*t.library->find("file-Q4")), "hf.co/org/repo:Q4") << "it lost the other one";
        auto const last = co_await t.library->remove("HF.co/org/repo:q4");
        EXPECT_TRUE(last) << (last ? "" : last.error().message);
        EXPECT_FALSE(fs::exists(t.folder / "file-Q4.gguf")) << "with its last name it goes";
        co_await t.until_found("file-Q4", false);
        EXPECT_TRUE(t.entries().empty());
    }(*this));
}

TEST_F(LibraryNamesTest, ACopyOfWhatWasPulledKeepsIt) {
    write("file-Q4.gguf");
    create(options());
    run([](LibraryNamesTest& t) -> net::Task<void> {
        co_await t.library->settled();
        co_await t.pulled_as("file-Q4", "small:1b");
        auto const copied = co_await t.library->copy("small:1b", "me/it");
        EXPECT_TRUE(copied);
        auto const removed = co_await t.library->remove("small:1b");
        EXPECT_TRUE(removed);
        co_await t.loop.sleep(1ms);
        EXPECT_TRUE(fs::exists(t.folder / "file-Q4.gguf"));
        EXPECT_EQ(t.entries(), std::vector<std::string>{"me/it:latest"});
        auto const last = co_await t.library->remove("me/it");
        EXPECT_TRUE(last) << (last ? "" : last.error().message);
        EXPECT_FALSE(fs::exists(t.folder / "file-Q4.gguf"));
    }(*this));
}

// As `cp a ns/b` and `rm a` rename a model.
TEST_F(LibraryNamesTest, ACopyThatIsAnotherNameOutlivesTheFirst) {
    write("file.gguf");
    create(options());
    run([](LibraryNamesTest& t) -> net::Task<void> {
        co_await t.library->settled();
        for (auto const* const name : {"me/it", "me/that"}) {
            auto const copied = co_await t.library->copy("file", name);
            EXPECT_TRUE(copied);
        }
        auto const first = co_await t.library->remove("file");
        EXPECT_TRUE(first) << (first ? "" : first.error().message);
        co_await t.loop.sleep(1ms);
        EXPECT_TRUE(fs::exists(t.folder / "file.gguf"));
        EXPECT_EQ(t.entries(), (std::vector<std::string>{"me/it:latest", "me/that:latest"}));
        auto const opened = co_await t.library->open("me/it");
        EXPECT_TRUE(opened);
        auto const second = co_await t.library->remove("me/it");
        EXPECT_TRUE(second);
        co_await t.loop.sleep(1ms);
        EXPECT_TRUE(fs::exists(t.folder / "file.gguf"));
        auto const last = co_await t.library->remove("me/that");
        EXPECT_TRUE(last) << (last ? "" : last.error().message);
        EXPECT_FALSE(fs::exists(t.folder / "file.gguf")) << "with its last name it goes";
    }(*this));
}

}  // namespace
}  // namespace hearth::library
