// Folders of safetensors as models, the templates of models that --model gave, and what
// models are beside their weights.
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>

#include <gtest/gtest.h>

#include "library/library.h"
#include "library/permits.h"
#include "library/testing/library_fixture.h"
#include "testing/gguf_writer.h"
#include "testing/safetensors_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using models::testing::tiny_llama;
using testing::LibraryTest;

// Two models that --model gave: one of the folder, one from elsewhere.
class LibraryGivenTest : public LibraryTest {
public:
    void SetUp() override { write_both("first"); }
    void write_both(std::string const& chat_template) {
        write("tiny.gguf", chat_template);
        std::ofstream(outside, std::ios::binary) << tiny_llama().text("tokenizer.chat_template", chat_template).build();
    }
    void give() {
        for (auto const& [id, path] :
             {std::pair(std::string("inside"), folder / "tiny.gguf"), std::pair(std::string("outside"), outside)}) {
            serving::ModelSpec spec;
            spec.id = id;
            spec.path = path;
            spec.lazy = true;
            ASSERT_TRUE(pool->add(spec));
        }
        create(options());
    }
    std::unique_ptr<catalog::Catalog> books() {
        library.reset();
        auto opened = catalog::Catalog::open(data / "catalog.db", catalog::Access::read_write);
        EXPECT_TRUE(opened) << (opened ? "" : opened.error().message);
        return opened ? *std::move(opened) : nullptr;
    }

    hearth::testing::TemporaryFolder elsewhere;
    std::string const outside = elsewhere / "m.gguf";
};

TEST_F(LibraryGivenTest, TheTemplateIsRememberedAtFirstUse) {
    give();
    run([](LibraryGivenTest& t) -> net::Task<void> {
        for (auto const* id : {"inside", "outside", "inside"}) {
            auto const opened = co_await t.library->open(id);
            EXPECT_TRUE(opened) << id;
        }
    }(*this));
    auto const catalog = books();
    ASSERT_TRUE(catalog);
    auto const sha256 = catalog::template_sha256_of(outside);
    EXPECT_EQ(catalog->find("tiny")->template_pinned, sha256);
    EXPECT_EQ(*catalog->compare_file("outside", outside, sha256), catalog::Pin::same);
}

TEST_F(LibraryGivenTest, AnotherTemplateIsRefusedUntilItIsTrusted) {
    {
        auto const catalog = books();
        ASSERT_TRUE(catalog && catalog->scan({folder.path()}) && catalog->pin_template("tiny"));
        ASSERT_TRUE(catalog->confirm_file("outside", outside, catalog::template_sha256_of(outside)));
    }
    write_both("second, which is longer");
    give();
    run([](LibraryGivenTest& t) -> net::Task<void> {
        for (auto const* id : {"inside", "outside"}) {
            auto const refused = co_await t.library->open(id);
            if (refused) co_return t.fail_here("it was not refused");
            EXPECT_EQ(refused.error().param, kTemplateChanged) << refused.error().message;
            auto const trusted = co_await t.library->trust(id);
            EXPECT_TRUE(trusted) << id;
            auto const opened = co_await t.library->open(id);
            EXPECT_TRUE(opened) << id;
        }
    }(*this));
}

// A folder of safetensors and what it becomes.
class LibraryFolderTest : public LibraryTest {
public:
    void SetUp() override {
        using models::testing::write_file;
        auto const weights = models::testing::SafetensorsWriter().tensor("a", "F32", {2}, "12345678").build();
        write_file(fs::path(folder / "lm/model.safetensors"), weights);
        write_file(fs::path(folder / "lm/config.json"), R"({"model_type": "llama"})");
        write_file(fs::path(folder / "lm/1_Pooling/config.json"), "{}");
        write_file(fs::path(made), tiny_llama().build());
    }
    Options converting() {
        auto wanted = options();
        wanted.reshape.wanted = [](std::string const& path) -> Result<bool> { return fs::is_directory(path); };
        wanted.reshape.make = [this](std::string const& source, auto const& watch) -> Result<Reshaped> {
            ++conversions;
            EXPECT_EQ(fs::path(source), fs::canonical(folder / "lm"));
            EXPECT_TRUE(watch({false, 1, 4}));
            std::unique_lock lock(mutex);
            let_go.wait(lock, [this] { return !held; });
            if (!failure.empty()) return Error(Code::unsupported, failure);
            return Reshaped{made, hold};
        };
        wanted.reshape.original_meanwhile = true;  // there is none to serve of a folder
        return wanted;
    }

    void hold_back(bool wanted) {
        std::lock_guard const lock(mutex);
        held = wanted;
        let_go.notify_all();
    }
    void TearDown() override {
        hold_back(false);
        library.reset();  // its threads use what is below
    }

    hearth::testing::TemporaryFolder cache;
    std::string const made = cache / "made.gguf";
    std::shared_ptr<int> hold = std::make_shared<int>(0);
    std::atomic<int> conversions = 0;
    std::string failure;
    std::mutex mutex;  // guards the rest
    std::condition_variable let_go;
    bool held = false;
};

TEST_F(LibraryFolderTest, IsConvertedOnceWhenItIsAskedFor) {
    hold_back(true);
    create(converting());
    run([](LibraryFolderTest& t) -> net::Task<void> {
        co_await t.library->settled();
        EXPECT_EQ(t.listed(), std::vector<std::string>{"lm"});
        EXPECT_EQ(t.conversions, 0) << "nobody asked yet";
        int opened = 0;
        for (int i = 0; i < 3; ++i) {
            t.loop.spawn([](LibraryFolderTest& test, int& count) -> net::Task<void> {
                auto const id = co_await test.library->open("LM:latest");
                EXPECT_EQ(id.has_value() ? *id : id.error().message, "lm");
                ++count;
            }(t, opened));
        }
        while (t.conversions == 0) co_await t.loop.sleep(1ms);
        // Behind what all of them ask of the library's thread: where the model lies, then the job.
        for (int i = 0; i < 2; ++i) {
            auto const looked = co_await t.library->refresh();
            EXPECT_TRUE(looked);
        }
        EXPECT_TRUE(t.pool->models().empty()) << "the original of a folder is nothing to serve";
        t.hold_back(false);
        while (opened < 3) co_await t.loop.sleep(1ms);
        EXPECT_EQ(t.conversions, 1) << "once for all of them";
        EXPECT_EQ(t.pool->status("lm")->path, t.made);
        EXPECT_EQ(t.listed(), std::vector<std::string>{"lm"});
        EXPECT_GT(t.hold.use_count(), 1) << "what was made stays where it is";

        fs::remove(t.folder / "lm/model.safetensors");
        co_await t.until_found("lm", false);
        while (!t.pool->models().empty()) co_await t.loop.sleep(1ms);
        while (t.hold.use_count() > 1) co_await t.loop.sleep(1ms);  // and it may go
    }(*this));
}

TEST_F(LibraryFolderTest, WhatCannotBeConvertedIsToldAndAskedAnew) {
    failure = "no such architecture";
    auto wanted = converting();
    wanted.reshape.try_again_after = Duration::zero();
    create(std::move(wanted));
    run([](LibraryFolderTest& t) -> net::Task<void> {
        for (int i = 1; i <= 2; ++i) {
            auto const refused = co_await t.library->open("lm");
            if (refused) co_return t.fail_here("it was not refused");
            EXPECT_EQ(refused.error().param, kNotReshaped);
            EXPECT_NE(refused.error().message.find("cannot be converted: no such architecture"), std::string::npos);
            EXPECT_EQ(t.conversions, i);
        }
    }(*this));
}

TEST_F(LibraryFolderTest, IsRemovedWithItsFilesAndNoOthers) {
    place("lm.hearth.json", R"({"source": "hf.co/org/lm", "files": []})");
    create(converting());
    run([](LibraryFolderTest& t) -> net::Task<void> {
        auto const named = co_await t.library->copy("lm", "other");
        EXPECT_TRUE(named);
        co_await t.until_found("other", true);
        EXPECT_FALSE(fs::exists(t.folder / "other")) << "another name, no other folder";
        t.place("lm/mine.txt.bak", "mine");
        auto const first = co_await t.library->remove("lm");
        EXPECT_TRUE(first) << (first ? "" : first.error().message);
        EXPECT_TRUE(fs::exists(t.folder / "lm/config.json")) << "it has another name";
        auto const removed = co_await t.library->remove("other");
        EXPECT_TRUE(removed) << (removed ? "" : removed.error().message);
        co_await t.until_found("lm", false);
        EXPECT_FALSE(fs::exists(t.folder / "lm/config.json"));
        EXPECT_FALSE(fs::exists(t.folder / "lm/1_Pooling"));
        EXPECT_FALSE(fs::exists(t.folder / "lm.hearth.json"));
        EXPECT_TRUE(fs::exists(t.folder / "lm/mine.txt.bak"));
    }(*this));
}

TEST_F(LibraryFolderTest, WhatItTakesIsKnownOnceItIsConverted) {
    create(converting());
    run([](LibraryFolderTest& t) -> net::Task<void> {
        auto const unknown = co_await t.library->describe("lm");
        if (unknown) co_return t.fail_here("nothing is known of what is not converted");
        EXPECT_EQ(unknown.error().code, Code::unsupported) << unknown.error().message;
        EXPECT_NE(unknown.error().message.find("folder of safetensors"), std::string::npos);
        EXPECT_EQ(t.conversions, 0);
        auto const opened = co_await t.library->open("lm");
        EXPECT_TRUE(opened);
        auto const spec = co_await t.library->describe("lm");
        EXPECT_EQ(spec.has_value() ? spec->path : spec.error().message, t.made);
    }(*this));
}

TEST_F(LibraryFolderTest, GivenAtTheStartIsTheSameModel) {
    serving::ModelSpec spec;
    spec.id = "lm";
    spec.path = made;
    spec.lazy = true;
    ASSERT_TRUE(pool->add(spec));
    auto wanted = converting();
    wanted.made_of = {{"lm", folder / "lm"}};
    create(std::move(wanted));
    run([](LibraryFolderTest& t) -> net::Task<void> {
        co_await t.library->settled();
        EXPECT_EQ(t.listed(), std::vector<std::string>{"lm"});
        EXPECT_TRUE(t.library->find("lm")->model);
        auto const opened = co_await t.library->open("lm");
        EXPECT_TRUE(opened);
        EXPECT_EQ(t.conversions, 0);
    }(*this));
}

TEST_F(LibraryTest, SaysWhatAModelIsBesideItsWeights) {
    write("tiny.gguf");
    place("tiny.hearth.json", R"({"source": "x", "system": "Be brief.", "params": "{\"temperature\":0}"})");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        auto const described = co_await t.library->definition("TINY");
        if (!described) co_return t.fail_here(described.error().message);
        EXPECT_EQ(described->definition.system, "Be brief.");
        EXPECT_EQ(described->definition.options, R"({"temperature":0})");
        EXPECT_EQ(described->path, t.folder / "tiny.gguf");
        EXPECT_TRUE(described->model && described->model->name == "tiny");
        auto const none = co_await t.library->definition("none");
        EXPECT_EQ(none.error().code, Code::not_found);
    }(*this));
}

}  // namespace
}  // namespace hearth::library
