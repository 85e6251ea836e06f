// Models made of files that cannot be linked: by whom they are copied, and what waits meanwhile.
#include "library/copies.h"

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "library/disk.h"
#include "library/testing/elsewhere.h"
#include "library/testing/library_fixture.h"
#include "testing/gguf_writer.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using models::testing::tiny_llama;

// Copies begin at once and go on when they may.
class LibraryCopiesTest : public testing::LibraryTest {
public:
    void SetUp() override {
        if (!elsewhere.there()) GTEST_SKIP() << "there is one file system here";
        fs::create_directory(models);
        place("base.gguf", base);
        note("base", base);
    }
    // Models go to another file system than the one that `base` is on.
    Options copying() {
        auto out = options();
        out.folders.insert(out.folders.begin(), models);
        out.copy_file = [this](std::string const& from, std::string const& to, auto const& watch) -> Status {
            std::unique_lock lock(mutex);
            ++begun;
            going_on.wait(lock, [this] { return may_go_on; });
            lock.unlock();
            return copy_file(from, to, watch);
        };
        return out;
    }
    void TearDown() override {
        let_go_on();
        library.reset();  // its threads use what is below
    }
    void let_go_on() {
        std::lock_guard const lock(mutex);
        may_go_on = true;
        going_on.notify_all();
    }
    net::Task<void> until_begun() {
        for (bool is_begun = false; !is_begun; co_await loop.sleep(1ms)) {
            std::lock_guard const lock(mutex);
            is_begun = begun > 0;
        }
    }
    net::Task<std::shared_ptr<Creation>> begin_creation(std::string name) {
        CreateOrder order;
        order.name = std::move(name);
        order.modelfile.from = "base";
        auto const creation = co_await library->create(std::move(order));
        if (!creation) fail_here(creation.error().message);
        co_return creation ? *creation : nullptr;
    }
    static net::Task<Result<catalog::Created>> result_of(std::shared_ptr<Creation> creation) {
        while (creation->result() == nullptr) static_cast<void>(co_await creation->changed_within(1s));
        co_return *creation->result();
    }
    net::Task<void> copy_quietly(std::string from, std::string to, bool& over) {
        auto const copied = co_await library->copy(std::move(from), std::move(to));
        EXPECT_TRUE(copied) << (copied ? "" : copied.error().message);
        over = true;
    }
    static std::vector<std::string> entries(std::string const& path) {
        std::vector<std::string> out;
        for (auto const& entry : fs::directory_iterator(path)) out.push_back(entry.path().filename());
        std::ranges::sort(out);
        return out;
    }
    static std::string content_of(std::string const& path) {
        std::ifstream file(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }

    testing::Elsewhere elsewhere{folder.path()};
    std::string const models = elsewhere / "models";
    std::string const base = tiny_llama().build();
    std::mutex mutex;  // guards the rest
    std::condition_variable going_on;
    bool may_go_on = false;
    int begun = 0;
};

TEST_F(LibraryCopiesTest, NothingWaitsForTheCopyAModelIsMadeOf) {
    create(copying());
    run([](LibraryCopiesTest& t) -> net::Task<void> {
        auto const creation = co_await t.begin_creation("made");
        if (!creation) co_return;
        co_await t.until_begun();
        auto const looked = co_await t.library->refresh();
        EXPECT_TRUE(looked) << "the library's thread has time";
        auto const opened = co_await t.library->open("base");
        EXPECT_TRUE(opened);
        EXPECT_EQ(creation->result(), nullptr);
        t.let_go_on();
        auto const made = co_await t.result_of(creation);
        if (!made) co_return t.fail_here(made.error().message);
        EXPECT_EQ(made->path, t.models + "/made.gguf");
        EXPECT_EQ(content_of(made->path), t.base);
        EXPECT_EQ(entries(t.models), (std::vector<std::string>{"made.gguf", "made.hearth.json"}));
        auto const said = creation->take_news();
        EXPECT_TRUE(!said.empty() && said.back().text == "copying model" && said.back().done == t.base.size());
        co_await t.until_found("made", true);
        auto const file = t.library->find("made")->model->files.front();
        EXPECT_TRUE(file.recorded && file.sha256 == digest::sha256_hex(t.base)) << "as of the other one";
    }(*this));
}

TEST_F(LibraryCopiesTest, NothingWaitsForACopyThatWasAskedFor) {
    std::ofstream(elsewhere / "models/far.gguf", std::ios::binary) << base;
    fs::remove(folder / "base.gguf");
    fs::create_symlink(elsewhere / "models/far.gguf", folder / "base.gguf");
    auto wanted = copying();
    std::ranges::reverse(wanted.folders);
    create(std::move(wanted));
    run([](LibraryCopiesTest& t) -> net::Task<void> {
        bool over = false;
        t.loop.spawn(t.copy_quietly("base", "mine", over));
        co_await t.until_begun();
        auto const looked = co_await t.library->refresh();
        EXPECT_TRUE(looked);
        EXPECT_FALSE(over);
        t.let_go_on();
        while (!over) co_await t.loop.sleep(1ms);
        EXPECT_FALSE(fs::is_symlink(t.folder / "mine.gguf"));
        EXPECT_EQ(content_of(t.folder / "mine.gguf"), t.base);
        EXPECT_EQ(entries(t.folder.path()),
                  (std::vector<std::string>{"base.gguf", "base.hearth.json", "mine.gguf", "mine.hearth.json"}));
    }(*this));
}

TEST_F(LibraryCopiesTest, OfAModelThatChangesMeanwhileNoneIsMade) {
    create(copying());
    run([](LibraryCopiesTest& t) -> net::Task<void> {
        auto const creation = co_await t.begin_creation("made");
        if (!creation) co_return;
        co_await t.until_begun();
        t.place("base.gguf", tiny_llama(0, 64).build());
        t.let_go_on();
        auto const made = co_await t.result_of(creation);
        if (made) co_return t.fail_here("nobody knows what it holds");
        EXPECT_NE(made.error().message.find("'base.gguf' changed"), std::string::npos) << made.error().message;
        EXPECT_EQ(entries(t.models), std::vector<std::string>());
    }(*this));
}

TEST_F(LibraryCopiesTest, WhoLeavesEndsTheCopy) {
    create(copying());
    run([](LibraryCopiesTest& t) -> net::Task<void> {
        auto const creation = co_await t.begin_creation("made");
        if (!creation) co_return;
        co_await t.until_begun();
        creation->cancel();
        t.let_go_on();
        auto const made = co_await t.result_of(creation);
        if (made) co_return t.fail_here("it was made nevertheless");
        EXPECT_EQ(made.error().code, Code::cancelled);
        EXPECT_EQ(entries(t.models), std::vector<std::string>());
    }(*this));
}

TEST_F(LibraryCopiesTest, WhatCanBeLinkedIsNotCopied) {
    auto wanted = copying();
    std::ranges::reverse(wanted.folders);
    create(std::move(wanted));
    run([](LibraryCopiesTest& t) -> net::Task<void> {
        auto const creation = co_await t.begin_creation("made");
        if (!creation) co_return;
        auto const made = co_await t.result_of(creation);
        EXPECT_TRUE(made) << (made ? "" : made.error().message);
        EXPECT_TRUE(fs::equivalent(t.folder / "made.gguf", t.folder / "base.gguf"));
        EXPECT_EQ(t.begun, 0);
    }(*this));
}

}  // namespace
}  // namespace hearth::library
