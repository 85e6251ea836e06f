// What is made of models, copied, pushed and read: of whole ones only, of what lies where it
// lies now, and one not behind the other.
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "catalog/create.h"
#include "catalog/imported.h"
#include "digest/sha256.h"
#include "library/blobs.h"
#include "library/permits.h"
#include "library/testing/library_fixture.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using models::testing::tiny_adapter;
using models::testing::tiny_llama;

class LibraryChangesTest : public testing::LibraryTest {
public:
    // What comes of it. `adapter`: the digest of one; empty: none.
    net::Task<Result<catalog::Created>> make(std::string name, std::string from, std::string adapter = {}) {
        CreateOrder order;
        order.name = std::move(name);
        order.modelfile.from = std::move(from);
        if (!adapter.empty()) order.adapters.emplace_back("any name.gguf", std::move(adapter));
        auto const creation = co_await library->create(std::move(order));
        if (!creation) co_return creation.error();
        while ((*creation)->result() == nullptr) co_await (*creation)->changed_within(1s);
        co_return *(*creation)->result();
    }
    // Its digest, as if a client had uploaded it.
    std::string uploaded(std::string const& bytes) {
        BlobStore const blobs({.folder = data / "blobs", .bytes_spare = 0});
        auto const hex = digest::sha256_hex(bytes);
        auto const upload = blobs.begin(hex, bytes.size());
        EXPECT_TRUE(upload && *upload && (*upload)->append(bytes) && (*upload)->finish());
        return "sha256:" + hex;
    }
    static std::string flipped(std::string bytes) {
        bytes[bytes.size() / 2] ^= 1;
        return bytes;
    }
};

TEST_F(LibraryChangesTest, WhatIsDamagedIsPassedOnUnderNoName) {
    auto const good = tiny_llama().build();
    place("tiny.gguf", good);
    note("tiny", good);
    create(options());
    run([](LibraryChangesTest& t, std::string good) -> net::Task<void> {
        co_await t.library->settled();
        t.place("tiny.gguf", flipped(good));
        co_await t.until_damaged("tiny", true);
        auto const copied = co_await t.library->copy("tiny", "mine");
        EXPECT_EQ(copied.error().param, kDamaged);
        auto const named = co_await t.library->copy("tiny", "me/tiny");
        EXPECT_EQ(named.error().param, kDamaged);
        CreateOrder order;
        order.name = "made";
        order.modelfile.from = "tiny";
        auto const made = co_await t.library->create(std::move(order));
        EXPECT_EQ(made.error().param, kDamaged);
        auto const pushed = co_await t.library->push(PushWish("tiny"));
        EXPECT_EQ(pushed.error().param, kDamaged);
        EXPECT_FALSE(fs::exists(t.folder / "mine.gguf"));
    }(*this, good));
}

TEST_F(LibraryChangesTest, WhoWaitsForAModelToBeReadDoesNotWaitForQuietReading) {
    write("tiny.gguf");
    auto wanted = options();
    wanted.read_bytes_per_s = 1;  // beyond the patience of any test
    create(wanted);
    run([](LibraryChangesTest& t) -> net::Task<void> {
        auto const opened = co_await t.library->open("tiny");
        EXPECT_TRUE(opened);
        jobs::Filter quiet;
        quiet.kind = kReadKind;
        quiet.state = jobs::State::running;
        for (bool reading = false; !reading; co_await t.loop.sleep(2ms)) {
            auto const running = co_await t.library->jobs(quiet);
            reading = running && running->size() == 1;
        }
        auto const asked = co_await t.library->verify("tiny");
        if (!asked) co_return t.fail_here(asked.error().message);
        EXPECT_EQ(asked->kind, kVerifyKind);
        auto const feed = co_await t.library->watch(asked->id);
        while (!jobs::is_final((*feed)->job().state)) co_await (*feed)->changed_within(1s);
        EXPECT_EQ((*feed)->job().state, jobs::State::done);
        auto const still = co_await t.library->jobs(quiet);
        EXPECT_EQ(still->size(), 1U);
    }(*this));
}

TEST_F(LibraryChangesTest, WhyAPushFailedIsToldToWhoWatchesIt) {
    place("broken.gguf", "GGUF and nothing else");
    create(options());
    run([](LibraryChangesTest& t) -> net::Task<void> {
        // What is no model is found before anybody is asked to take it.
        auto const job = co_await t.library->push(PushWish("broken"));
        if (!job) co_return t.fail_here(job.error().message);
        auto const feed = co_await t.library->watch(job->id);
        while (!jobs::is_final((*feed)->job().state)) co_await (*feed)->changed_within(1s);
        EXPECT_EQ((*feed)->job().state, jobs::State::failed);
        if (!(*feed)->failure()) co_return t.fail_here("nobody said why");
        EXPECT_EQ((*feed)->failure()->code, Code::corrupt);
        EXPECT_EQ((*feed)->failure()->message, (*feed)->job().error);
    }(*this));
}

TEST_F(LibraryChangesTest, AModelIsMadeOfOneInAFolderThatWasImportedMeanwhile) {
    hearth::testing::TemporaryFolder elsewhere;
    std::ofstream(elsewhere / "base.gguf", std::ios::binary) << tiny_llama().build();
    create(options());
    run([](LibraryChangesTest& t, std::string folder) -> net::Task<void> {
        co_await t.library->settled();
        EXPECT_TRUE(catalog::set_imported_folders(t.data.path(), {folder}));
        co_await t.until_found("base", true);
        auto const made = co_await t.make("made", "base");
        EXPECT_EQ(made.has_value() ? made->path : made.error().message, t.folder / "made.gguf");
        EXPECT_TRUE(catalog::set_imported_folders(t.data.path(), {}));
        co_await t.until_found("base", false);
        EXPECT_TRUE(t.library->find("made"));
    }(*this, elsewhere.path()));
}

TEST_F(LibraryChangesTest, ANameThatLoraGaveIsNoModelToMakeOneOf) {
    write("tiny.gguf");
    serving::ModelSpec spec;
    spec.id = "given";
    spec.path = folder / "tiny.gguf";
    spec.lazy = true;
    spec.variants.push_back({"pirate", {{folder / "pirate.gguf", 1.0F}}, nullptr});
    ASSERT_TRUE(pool->add(spec));
    create(options());
    run([](LibraryChangesTest& t) -> net::Task<void> {
        auto const refused = co_await t.make("made", "pirate");
        EXPECT_EQ(refused.error().code, Code::unsupported);
        EXPECT_NE(refused.error().message.find("'pirate' is 'given' with adapters"), std::string::npos)
            << refused.error().message;
        EXPECT_FALSE(fs::exists(t.folder / "made.gguf"));
        auto const made = co_await t.make("made", "given");
        EXPECT_TRUE(made) << (made ? "" : made.error().message);
    }(*this));
}

TEST_F(LibraryChangesTest, OfWhatModelGaveTheFileIsTakenThatItsNoteLiesBeside) {
    hearth::testing::TemporaryFolder elsewhere;
    std::ofstream(elsewhere / "given.gguf", std::ios::binary) << tiny_llama().build();
    fs::create_directory(elsewhere / "lm");
    for (std::string const name : {"given", "lm"})
        std::ofstream(elsewhere / (name + ".hearth.json")) << R"({"source": "x", "system": "I am )" + name + R"(."})";
    auto wanted = options();
    for (std::string const name : {"given", "lm"}) {
        serving::ModelSpec spec;
        spec.id = name;
        spec.path = data / (name + ".made");  // as it is served
        std::ofstream(spec.path, std::ios::binary) << tiny_llama(0, 64).build();
        spec.lazy = true;
        ASSERT_TRUE(pool->add(spec));
        wanted.made_of[name] = elsewhere / (name == "lm" ? "lm" : "given.gguf");
    }
    std::vector<std::string> converted;
    wanted.make_file = [&](MakeOrder const& order, auto const&) -> Status {
        converted.push_back(order.source);
        std::ofstream(order.output, std::ios::binary) << tiny_llama().build();
        return ok();
    };
    create(std::move(wanted));
    run([](LibraryChangesTest& t, std::string elsewhere) -> net::Task<void> {
        for (std::string const name : {"given", "lm"}) {
            auto const made = co_await t.make("of-" + name, name);
            if (!made) co_return t.fail_here(made.error().message);
            auto const note = catalog::definition_of(made->name, made->path, {t.folder.path()});
            EXPECT_EQ(note ? note->system : note.error().message, "I am " + name + ".");
        }
        EXPECT_TRUE(fs::equivalent(t.folder / "of-given.gguf", elsewhere + "/given.gguf"));
    }(*this, elsewhere.path()));
    EXPECT_EQ(converted, std::vector<std::string>{elsewhere / "lm"});
}

TEST_F(LibraryChangesTest, OnlyWhatIsAboutAdaptersSaysSo) {
    write("base.gguf");
    write("own.gguf");
    create(options());
    run([](LibraryChangesTest& t) -> net::Task<void> {
        auto const wide = t.uploaded(tiny_adapter(64).build());
        auto const other = co_await t.make("made", "base", wide);
        EXPECT_EQ(other.error().param, "adapters");
        EXPECT_TRUE(other.error().message.starts_with("adapters: ")) << other.error().message;
        EXPECT_EQ(other.error().message.find(t.data.path()), std::string::npos) << other.error().message;
        auto const fits = t.uploaded(tiny_adapter().build());
        auto const taken = co_await t.make("own", "base", fits);
        EXPECT_EQ(taken.error().param, "model");
        EXPECT_TRUE(taken.error().message.starts_with("there is a model 'own' already")) << taken.error().message;
        auto const made = co_await t.make("made", "base", fits);
        EXPECT_TRUE(made) << (made ? "" : made.error().message);
        EXPECT_TRUE(fs::exists(t.folder / "made.lora-1"));
    }(*this));
}

}  // namespace
}  // namespace hearth::library
