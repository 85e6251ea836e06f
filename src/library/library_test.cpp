#include "library/library.h"

#include <atomic>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "library/permits.h"
#include "library/testing/library_fixture.h"
#include "serving/launcher.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using models::testing::tiny_llama;

using testing::LibraryTest;

TEST_F(LibraryTest, ServesWhatLiesInTheFolderWhenItIsAskedFor) {
    write("tiny.gguf");
    write("other:small.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        co_await t.library->settled();
        EXPECT_EQ(t.listed(), (std::vector<std::string>{"other:small", "tiny"}));
        EXPECT_TRUE(t.pool->models().empty()) << "nobody asked yet";
        for (auto const* name : {"tiny", "TINY:latest", "registry.ollama.ai/library/tiny"}) {
            auto const id = co_await t.library->open(name);
            EXPECT_EQ(id.has_value() ? *id : id.error().message, "tiny");
        }
        EXPECT_EQ(t.specs, 1) << "once";
        EXPECT_EQ(t.pool->status("tiny")->state, serving::ModelState::cold);
        auto const none = co_await t.library->open("none");
        EXPECT_EQ(none.error().code, Code::not_found);
        auto const first = co_await t.library->open("");
        EXPECT_EQ(*first, "other:small") << "the first by name, though another one is in the pool";
    }(*this));
}

TEST_F(LibraryTest, FilesThatComeAndGoAreNoticed) {
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        co_await t.library->settled();
        auto const nothing = t.library->find("");
        EXPECT_EQ(nothing.error().code, Code::not_found);
        t.write("tiny.gguf");
        co_await t.until_found("tiny", true);
        auto const opened = co_await t.library->open("tiny");
        EXPECT_TRUE(opened);
        fs::remove(t.folder / "tiny.gguf");
        co_await t.until_found("tiny", false);
        while (!t.pool->models().empty()) co_await t.loop.sleep(2ms);  // and then it is not in the pool any more
    }(*this));
}

TEST_F(LibraryTest, AnotherTemplateIsRefusedUntilItIsTrusted) {
    write("tiny.gguf", "first");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        auto const before = co_await t.library->open("tiny");
        EXPECT_TRUE(before);
        t.write("tiny.gguf", "second, which is longer");
        auto const looked = co_await t.library->refresh();
        EXPECT_TRUE(looked);
        co_await t.loop.sleep(1ms);  // what the scan found is told
        auto const refused = co_await t.library->open("tiny");
        if (refused) co_return t.fail_here("it was not refused");
        EXPECT_EQ(refused.error().param, kTemplateChanged);
        EXPECT_NE(refused.error().message.find("hearth trust tiny"), std::string::npos);
        auto const trusted = co_await t.library->trust("tiny");
        EXPECT_TRUE(trusted);
        auto const after = co_await t.library->open("tiny");
        EXPECT_TRUE(after);
    }(*this));
}

TEST_F(LibraryTest, ACopyOutlivesItsOriginal) {
    write("tiny.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        auto const copied = co_await t.library->copy("tiny", "mine:latest");
        EXPECT_TRUE(copied) << (copied ? "" : copied.error().message);
        co_await t.until_found("mine", true);
        EXPECT_EQ(fs::hard_link_count(t.folder / "mine.gguf"), 2U) << "no byte was copied";
        auto const itself = co_await t.library->copy("tiny", "Tiny");
        EXPECT_TRUE(itself) << "which changes nothing";
        EXPECT_EQ(t.listed(), (std::vector<std::string>{"mine", "tiny"}));
        auto const none = co_await t.library->copy("none", "x");
        EXPECT_EQ(none.error().code, Code::not_found);

        // A name that can be no file's is an alias.
        auto const named = co_await t.library->copy("tiny", "me/tiny");
        EXPECT_TRUE(named);
        co_await t.until_found("me/tiny", true);
        auto const unnamed = co_await t.library->remove("me/tiny:latest");
        EXPECT_TRUE(unnamed);
        co_await t.until_found("me/tiny", false);
        EXPECT_TRUE(t.library->find("tiny")) << "only the alias went";

        auto const opened = co_await t.library->open("tiny");
        EXPECT_TRUE(opened);
        auto const removed = co_await t.library->remove("tiny");
        EXPECT_TRUE(removed);
        co_await t.until_found("tiny", false);
        EXPECT_FALSE(fs::exists(t.folder / "tiny.gguf"));
        EXPECT_TRUE(t.library->find("mine"));
        auto const gone = co_await t.library->remove("tiny");
        EXPECT_EQ(gone.error().code, Code::not_found);

        // Also while the pool has it still: a request is inside.
        auto const served = co_await t.library->open("mine");
        EXPECT_TRUE(served);
        domain::GenerateRequest request;
        request.prompt = domain::TextPrompt{"x"};
        request.model = "mine";
        auto const inside = t.pool->submit(request);
        EXPECT_TRUE(inside);
        auto const leaving = co_await t.library->remove("mine");
        EXPECT_TRUE(leaving);
        EXPECT_TRUE(t.pool->status("mine")->removing);
        EXPECT_EQ(t.listed(), std::vector<std::string>());
        auto const left = co_await t.library->remove("mine");
        EXPECT_EQ(left.error().code, Code::not_found);
    }(*this));
}

TEST_F(LibraryTest, WhatWasGivenIsTheDefaultAndStays) {
    write("tiny.gguf");
    write("a-first.gguf");
    serving::ModelSpec spec;
    spec.id = "given";
    spec.path = folder / "tiny.gguf";
    spec.lazy = true;
    ASSERT_TRUE(pool->add(spec));
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        co_await t.library->settled();
        EXPECT_EQ(t.listed(), (std::vector<std::string>{"given", "a-first"})) << "one file is one model";
        auto const opened = co_await t.library->open("");
        EXPECT_EQ(*opened, "given");
        auto const by_file = co_await t.library->open("tiny");
        EXPECT_EQ(*by_file, "given");
        auto const removed = co_await t.library->remove("given");
        EXPECT_EQ(removed.error().param, kNotAllowed);
        EXPECT_TRUE(fs::exists(t.folder / "tiny.gguf"));
    }(*this));
}

TEST_F(LibraryTest, OnlyWhatIsAllowedIsListedAndChanged) {
    write("tiny.gguf");
    write("other.gguf");
    auto wanted = options();
    wanted.allowed = {"ti*"};
    create(wanted);
    run([](LibraryTest& t) -> net::Task<void> {
        co_await t.library->settled();
        EXPECT_EQ(t.listed(), std::vector<std::string>{"tiny"});
        auto const hidden = co_await t.library->open("other");
        EXPECT_EQ(hidden.error().code, Code::not_found);
        auto const pull = co_await t.library->pull(PullWish("hf.co/org/repo"));
        EXPECT_EQ(pull.error().param, kNotAllowed);
        auto const local = co_await t.library->pull(PullWish("tiny2", "/etc/model.gguf"));
        EXPECT_EQ(local.error().code, Code::invalid_argument) << "a client names no files of the server";
    }(*this));
}

TEST_F(LibraryTest, ASecondOneOnTheSameDataReadsAndSaysSo) {
    write("tiny.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        co_await t.library->settled();
        auto pool = serving::Pool::create(t.loop, {}, t.launcher, t.clock, *t.log, t.metrics);
        auto second = Library::create(t.loop, *pool, *t.log, t.options(),
                                      [&t](SpecOrder const& order) { return t.spec_of(order); });
        co_await (*second)->settled();
        auto const opened = co_await (*second)->open("tiny");
        EXPECT_TRUE(opened);
        auto const copied = co_await (*second)->copy("tiny", "mine");
        EXPECT_EQ(copied.error().code, Code::unavailable);
        EXPECT_FALSE(fs::exists(t.folder / "mine.gguf"));
        auto const pulled = co_await (*second)->pull(PullWish("hf.co/org/repo"));
        EXPECT_EQ(pulled.error().code, Code::unavailable);
        // The first one goes: the second takes over.
        t.library.reset();
        for (bool writes = false; !writes; co_await t.loop.sleep(5ms)) {
            auto const again = co_await (*second)->copy("tiny", "mine");
            writes = again.has_value();
        }
    }(*this));
}

std::string flipped(std::string bytes) {
    bytes[bytes.size() / 2] ^= 1;
    return bytes;
}

TEST_F(LibraryTest, AModelThatHoldsOtherBytesThanRecordedIsNotServedUntilItIsWhole) {
    auto const good = tiny_llama().build();
    place("tiny.gguf", good);
    note("tiny", good);
    create(options());
    run([](LibraryTest& t, std::string good) -> net::Task<void> {
        auto const opened = co_await t.library->open("tiny");
        EXPECT_TRUE(opened);
        t.place("tiny.gguf", flipped(good));
        co_await t.until_damaged("tiny", true);
        auto const refused = co_await t.library->open("tiny");
        if (refused) co_return t.fail_here("it was not refused");
        EXPECT_EQ(refused.error().code, Code::unavailable);
        EXPECT_EQ(refused.error().param, kDamaged);
        EXPECT_NE(refused.error().message.find("'tiny.gguf' has SHA-256"), std::string::npos)
            << refused.error().message;
        EXPECT_EQ(refused.error().message.find(t.folder.path()), std::string::npos) << "no folder is told";
        EXPECT_NE(t.metrics.render().find("hearth_models_damaged 1"), std::string::npos);

        t.place("tiny.gguf", good);
        co_await t.until_damaged("tiny", false);
        auto const again = co_await t.library->open("tiny");
        EXPECT_TRUE(again) << (again ? "" : again.error().message);
        EXPECT_NE(t.metrics.render().find("hearth_models_damaged 0"), std::string::npos);
        EXPECT_NE(t.metrics.render().find("hearth_models_whole_again_total 1"), std::string::npos);
        jobs::Filter restores;
        restores.kind = kRestoreKind;
        auto const asked = co_await t.library->jobs(restores);
        EXPECT_EQ(asked->size(), 0U) << "nobody knows where it is from";
    }(*this, good));
}

TEST_F(LibraryTest, OneThatChangedIsWaitedForUntilItWasRead) {
    auto const good = tiny_llama().build();
    place("tiny.gguf", good);
    note("tiny", good);
    create(options());
    run([](LibraryTest& t, std::string good) -> net::Task<void> {
        auto const opened = co_await t.library->open("tiny");
        EXPECT_TRUE(opened);
        t.place("tiny.gguf", flipped(good));
        auto const looked = co_await t.library->refresh();
        EXPECT_TRUE(looked);
        co_await t.loop.sleep(1ms);  // what the scan found is told
        auto const refused = co_await t.library->open("tiny");
        EXPECT_EQ(refused.error().param, kDamaged) << "it is never opened";
        EXPECT_EQ(t.specs, 1);
    }(*this, good));
}

TEST_F(LibraryTest, WhatMinusMinusModelGaveIsSuspendedAndResumed) {
    auto const good = tiny_llama().build();
    place("tiny.gguf", good);
    note("tiny", good);
    serving::ModelSpec spec;
    spec.id = "given";
    spec.path = folder / "tiny.gguf";
    spec.lazy = true;
    ASSERT_TRUE(pool->add(spec));
    create(options());
    run([](LibraryTest& t, std::string good) -> net::Task<void> {
        co_await t.library->settled();
        t.place("tiny.gguf", flipped(good));
        while (t.pool->status("given")->state != serving::ModelState::damaged) co_await t.loop.sleep(2ms);
        domain::GenerateRequest request;
        request.prompt = domain::TextPrompt{"x"};
        request.model = "given";
        EXPECT_EQ(t.pool->submit(request).error().param, kDamaged);
        auto const refused = co_await t.library->open("given");
        EXPECT_EQ(refused.error().param, kDamaged);
        t.place("tiny.gguf", good);
        while (t.pool->status("given")->state != serving::ModelState::cold) co_await t.loop.sleep(2ms);
        auto const again = co_await t.library->open("given");
        EXPECT_EQ(again.has_value() ? *again : again.error().message, "given");
    }(*this, good));
}

TEST_F(LibraryTest, BytesThatRotAreFoundWhenSomebodyAsks) {
    auto const good = tiny_llama().build();
    place("tiny.gguf", good);
    create(options());
    run([](LibraryTest& t, std::string good) -> net::Task<void> {
        auto const ended = [](LibraryTest& test, std::string id) -> net::Task<jobs::State> {
            auto const feed = co_await test.library->watch(id);
            while (!jobs::is_final((*feed)->job().state)) co_await (*feed)->changed_within(1s);
            co_return (*feed)->job().state;
        };
        auto const first = co_await t.library->verify("tiny");
        if (!first) co_return t.fail_here(first.error().message);
        EXPECT_EQ(first->kind, kVerifyKind);
        EXPECT_EQ(model_of(*first), "tiny");
        auto const whole = co_await ended(t, first->id);
        EXPECT_EQ(whole, jobs::State::done);
        auto const when = fs::last_write_time(t.folder / "tiny.gguf");
        std::fstream(t.folder / "tiny.gguf", std::ios::in | std::ios::out | std::ios::binary) << flipped(good);
        fs::last_write_time(t.folder / "tiny.gguf", when);
        auto const second = co_await t.library->verify("TINY:latest");
        auto const damaged = co_await ended(t, second->id);
        EXPECT_EQ(damaged, jobs::State::failed);
        co_await t.until_damaged("tiny", true);
        auto const none = co_await t.library->verify("none");
        EXPECT_EQ(none.error().code, Code::not_found);
    }(*this, good));
}

TEST_F(LibraryTest, WithoutARecordAnotherFileIsAnotherVersion) {
    auto const good = tiny_llama().build();
    place("tiny.gguf", good);
    create(options());
    run([](LibraryTest& t, std::string good) -> net::Task<void> {
        auto const opened = co_await t.library->open("tiny");
        EXPECT_TRUE(opened);
        t.place("tiny.gguf", flipped(good));
        while (!t.pool->models().empty()) co_await t.loop.sleep(2ms);
        auto const again = co_await t.library->open("tiny");
        EXPECT_TRUE(again);
        EXPECT_EQ(t.specs, 2) << "opened anew";
    }(*this, good));
}

TEST_F(LibraryTest, WhatIsUsedMostIsRemembered) {
    write("a.gguf");
    write("b.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        for (auto const* name : {"a", "b", "b"}) {
            auto const opened = co_await t.library->open(name);
            EXPECT_TRUE(opened);
        }
        for (int i = 0; i < 5; ++i) {
            auto const opened = co_await t.library->open("a", Use::not_counted);
            EXPECT_TRUE(opened);
        }
        auto const looked = co_await t.library->refresh();
        EXPECT_TRUE(looked);
        Result<std::vector<std::string>> most = std::vector<std::string>();
        while (most && most->size() < 2) {
            co_await t.loop.sleep(2ms);
            most = co_await t.library->most_used(5);
        }
        EXPECT_EQ(*most, (std::vector<std::string>{"b", "a"}));
        auto const one = co_await t.library->most_used(1);
        EXPECT_EQ(*one, (std::vector<std::string>{"b"}));
    }(*this));
}

SwapWish to_model(std::string name, std::string model) { return {std::move(name), std::move(model), {}}; }
SwapWish to_file(std::string name, std::string path) { return {std::move(name), {}, std::move(path)}; }

TEST_F(LibraryTest, ANameThatWasMovedHasTheOtherFileNextTime) {
    write("a.gguf");
    write("b.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        co_await t.move_name(to_model("a", "b"));
        auto const opened = co_await t.library->open("a");
        EXPECT_TRUE(opened);
        EXPECT_EQ(fs::path(t.pool->status("a")->path).filename(), "b.gguf");
        Swap late;
        late.id = "b";
        auto const gone = co_await t.library->remember_swap(std::move(late));
        EXPECT_EQ(gone.error().code, Code::not_found) << "it is not in the pool";
    }(*this));
}

TEST_F(LibraryTest, ANameNobodyAskedForYetCanBeMoved) {
    write("a.gguf");
    write("b.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        auto const swap = co_await t.library->prepare_swap(to_model("A:latest", "b"));
        if (!swap) co_return t.fail_here(swap.error().message);
        EXPECT_EQ(swap->id, "a");
        EXPECT_EQ(swap->spec.path, t.folder / "b.gguf");
        EXPECT_EQ(t.pool->status("a")->state, serving::ModelState::cold) << "it is in the pool now";
        EXPECT_EQ(t.pool->models().size(), 1U) << "and the other one is not";
        auto const around = t.folder / "../" + fs::path(t.folder.path()).filename().string() + "/b.gguf";
        auto const by_path = co_await t.library->prepare_swap(to_file("a", around));
        EXPECT_EQ(by_path->spec.path, fs::canonical(t.folder / "b.gguf")) << "links and dots are resolved";
        auto const nobody = co_await t.library->prepare_swap(to_model("none", "b"));
        EXPECT_EQ(nobody.error().code, Code::not_found);
        auto const nothing = co_await t.library->prepare_swap(to_model("a", "none"));
        EXPECT_EQ(nothing.error().code, Code::not_found);
    }(*this));
}

TEST_F(LibraryTest, BeyondThisMachineOnlyFilesOfTheFoldersTakeANameOver) {
    hearth::testing::TemporaryFolder elsewhere;
    write("a.gguf");
    write("b.gguf");
    fs::copy(folder / "b.gguf", elsewhere / "c.gguf");
    fs::create_symlink(elsewhere / "c.gguf", folder / "link.gguf");
    fs::create_symlink(elsewhere.path(), folder / "way-out");
    auto wanted = options();
    wanted.open = false;
    wanted.allowed = {"*"};
    create(wanted);
    run([](LibraryTest& t, std::string elsewhere) -> net::Task<void> {
        auto const folder = t.folder.path();
        auto const inside = co_await t.library->prepare_swap(to_file("a", folder + "/b.gguf"));
        EXPECT_TRUE(inside) << (inside ? "" : inside.error().message);
        for (auto const& path : {elsewhere + "/c.gguf", elsewhere + "/is-not-there.gguf", folder + "/link.gguf",
                                 folder + "/way-out/c.gguf", folder + "/way-out/is-not-there.gguf",
                                 folder + "/../x.gguf", folder + "/b.gguf/../../x.gguf", folder}) {
            auto const refused = co_await t.library->prepare_swap(to_file("a", path));
            if (refused) co_return t.fail_here(path);
            EXPECT_EQ(refused.error().param, kNotAllowed) << path << ": " << refused.error().message;
        }
        auto const zero = co_await t.library->prepare_swap(to_file("a", folder + std::string("/b.gguf\0/..", 11)));
        EXPECT_EQ(zero.error().param, "path");
        auto const longest = co_await t.library->prepare_swap(to_file("a", std::string(5000, 'a')));
        EXPECT_NE(longest.error().message.find("4096"), std::string::npos);
    }(*this, elsewhere.path()));
}

TEST_F(LibraryTest, PatternsHoldForBothEndsOfASwap) {
    write("tiny.gguf");
    write("tiny2.gguf");
    write("other.gguf");
    serving::ModelSpec spec;
    spec.id = "given";
    spec.path = folder / "other.gguf";
    spec.lazy = true;
    ASSERT_TRUE(pool->add(spec));
    auto wanted = options();
    wanted.allowed = {"ti*"};
    create(wanted);
    run([](LibraryTest& t) -> net::Task<void> {
        auto const allowed = co_await t.library->prepare_swap(to_model("tiny", "tiny2"));
        EXPECT_TRUE(allowed) << (allowed ? "" : allowed.error().message);
        auto const served = co_await t.library->prepare_swap(to_model("tiny", "given"));
        EXPECT_TRUE(served) << "--model gave it";
        auto const kept = co_await t.library->prepare_swap(to_model("given", "tiny"));
        EXPECT_EQ(kept.error().param, kNotAllowed) << "no pattern names it, so nobody changes it";
        auto const path = co_await t.library->prepare_swap(to_file("tiny", t.folder / "other.gguf"));
        EXPECT_EQ(path.error().param, kNotAllowed);
    }(*this));
}

TEST_F(LibraryTest, WhatIsDamagedOrHasAnotherTemplateTakesNoNameOver) {
    auto const good = tiny_llama().build();
    write("a.gguf");
    write("b.gguf", "first");
    place("rotten.gguf", good);
    note("rotten", good);
    create(options());
    run([](LibraryTest& t, std::string good) -> net::Task<void> {
        auto const opened = co_await t.library->open("b");
        EXPECT_TRUE(opened);
        auto const left = t.pool->remove("b");
        EXPECT_TRUE(left);
        t.write("b.gguf", "second, which is longer");
        t.place("rotten.gguf", flipped(good));
        co_await t.until_damaged("rotten", true);
        auto const changed = co_await t.library->prepare_swap(to_file("a", t.folder / "b.gguf"));
        if (changed) co_return t.fail_here("another template took a name over");
        EXPECT_EQ(changed.error().param, kTemplateChanged) << changed.error().message;
        for (auto const& wish : {to_model("a", "rotten"), to_file("a", t.folder / "rotten.gguf")}) {
            auto const rotten = co_await t.library->prepare_swap(wish);
            if (rotten) co_return t.fail_here("a damaged file took a name over");
            EXPECT_EQ(rotten.error().param, kDamaged) << rotten.error().message;
        }
    }(*this, good));
}

TEST_F(LibraryTest, ANameThatWasMovedWhereItMayNotBeHasItsOwnFile) {
    hearth::testing::TemporaryFolder elsewhere;
    write("a.gguf");
    fs::copy(folder / "a.gguf", elsewhere / "b.gguf");
    create(options());
    run([](LibraryTest& t, std::string there) -> net::Task<void> {
        co_await t.move_name(to_file("a", there));
        t.library.reset();
        auto closed = t.options();
        closed.open = false;  // the next server listens beyond this machine
        t.create(closed);
        auto const opened = co_await t.library->open("a");
        EXPECT_TRUE(opened);
        EXPECT_EQ(t.pool->status("a")->path, t.folder / "a.gguf");
    }(*this, elsewhere / "b.gguf"));
}

TEST_F(LibraryTest, SaysHowAModelWouldBeServedWithoutServingIt) {
    write("a.gguf");
    write("b.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        auto const spec = co_await t.library->describe("A");
        if (!spec) co_return t.fail_here(spec.error().message);
        EXPECT_EQ(spec->path, t.folder / "a.gguf");
        EXPECT_TRUE(t.pool->models().empty());
        co_await t.move_name(to_model("a", "b"));
        auto const other = co_await t.library->describe("a");
        EXPECT_EQ(fs::path(other->path).filename(), "b.gguf");
        auto const none = co_await t.library->describe("none");
        EXPECT_EQ(none.error().code, Code::not_found);
    }(*this));
}

TEST_F(LibraryTest, APullIsAJobThatCanBeWatched) {
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        // A port nobody listens on: refused at once.
        auto const job = co_await t.library->pull(PullWish("127.0.0.1:1/me/m"));
        if (!job) co_return t.fail_here(job.error().message);
        auto const feed = co_await t.library->watch(job->id);
        if (!feed) co_return t.fail_here(feed.error().message);
        while (!jobs::is_final((*feed)->job().state)) co_await (*feed)->changed_within(1s);
        EXPECT_EQ((*feed)->job().state, jobs::State::failed) << "nothing was begun, so it is not tried again";
        EXPECT_NE((*feed)->job().error.find("127.0.0.1"), std::string::npos) << (*feed)->job().error;
        auto const all = co_await t.library->jobs(jobs::Filter());
        EXPECT_EQ(all->size(), 1U);
        auto const none = co_await t.library->watch("none");
        EXPECT_EQ(none.error().code, Code::not_found);
        auto const paused = co_await t.library->act(job->id, JobAct::pause);
        EXPECT_EQ(paused.error().code, Code::invalid_argument);
    }(*this));
}

}  // namespace
}  // namespace hearth::library
