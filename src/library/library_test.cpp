#include "library/library.h"

#include <atomic>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "library/permits.h"
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

// Models here are lazy and nobody asks them anything.
class NoLauncher final : public serving::Launcher {
public:
    Result<std::unique_ptr<serving::WorkerHandle>> launch(serving::ModelSpec const&) override {
        return Error(Code::io, "no worker in this test");
    }
};

class LibraryTest : public ::testing::Test {
public:
    static constexpr Duration kPatience = 30s;

    void write(std::string const& name, std::string const& chat_template = "{{ messages }}") {
        // Whole under its name, as downloads are.
        auto const path = folder / name;
        std::ofstream(path + ".new", std::ios::binary)
            << tiny_llama().text("tokenizer.chat_template", chat_template).build();
        fs::rename(path + ".new", path);
    }
    void place(std::string const& name, std::string const& bytes) {
        std::ofstream(folder / (name + ".new"), std::ios::binary) << bytes;
        fs::rename(folder / (name + ".new"), folder / name);
    }
    // As if the model had been pulled as it should be; from nowhere that can be asked again.
    void note(std::string const& model, std::string const& bytes) {
        place(model + ".hearth.json", R"({"source": "", "files": [{"name": ")" + model + R"(.gguf", "size": )" +
                                          std::to_string(bytes.size()) + R"(, "sha256": ")" +
                                          digest::sha256_hex(bytes) + R"("}]})");
    }
    net::Task<void> until_damaged(std::string name, bool damaged) {
        for (;;) {
            auto const known = library->find(name);
            if (known && known->damage().empty() != damaged && !known->model->unsettled()) co_return;
            co_await loop.sleep(2ms);
        }
    }
    Options options() {
        Options out;
        out.folders = {folder.path()};
        out.data_folder = data.path();
        out.rescan = 200ms;  // should a change not be told
        out.judged_after = 1ms;
        out.metrics = &metrics;
        out.new_id = [this] { return "job" + std::to_string(++ids); };
        return out;
    }
    void create(Options wanted) {
        auto created =
            Library::create(loop, *pool, *log, std::move(wanted),
                            [this](std::string const& id, std::string const& path) -> Result<serving::ModelSpec> {
                                ++specs;
                                serving::ModelSpec spec;
                                spec.id = id;
                                spec.path = path;
                                return spec;
                            });
        ASSERT_TRUE(created) << created.error().message;
        library = *std::move(created);
    }
    void run(net::Task<void> test) {
        loop.spawn(guarded(std::move(test)));
        loop.spawn(watch());
        loop.run();
        EXPECT_TRUE(finished) << "the test did not end";
    }
    net::Task<void> until_found(std::string name, bool there) {
        while (library->find(name).has_value() != there) co_await loop.sleep(2ms);
    }
    std::vector<std::string> listed() {
        std::vector<std::string> names;
        for (auto const& known : library->list()) names.push_back(known.name);
        return names;
    }
    static void fail_here(std::string const& why) { ADD_FAILURE() << why; }

    hearth::testing::TemporaryFolder folder, data;
    net::Loop loop;
    SteadyClock clock;
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
    telemetry::Registry metrics;
    NoLauncher launcher;
    std::unique_ptr<serving::Pool> pool = serving::Pool::create(loop, {}, launcher, clock, *log, metrics);
    std::unique_ptr<Library> library;
    int ids = 0;
    std::atomic<int> specs = 0;
    bool finished = false;

private:
    net::Task<void> guarded(net::Task<void> test) {
        co_await std::move(test);
        finished = true;
        loop.stop();
    }
    net::Task<void> watch() {
        co_await loop.sleep(kPatience);
        loop.stop();
    }
};

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
        EXPECT_TRUE(t.pool->models().empty()) << "and it is not in the pool any more";
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
        auto const again = co_await t.library->copy("tiny", "Mine");
        EXPECT_EQ(again.error().code, Code::invalid_argument);
        auto const none = co_await t.library->copy("none", "x");
        EXPECT_EQ(none.error().code, Code::not_found);

        // A name that can be no file's is an alias, and goes with its model.
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
        auto second = Library::create(t.loop, *pool, *t.log, t.options(), [](auto const& id, auto const& path) {
            serving::ModelSpec spec;
            spec.id = id;
            spec.path = path;
            return Result<serving::ModelSpec>(spec);
        });
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

TEST_F(LibraryTest, ANameThatWasMovedHasTheOtherFileNextTime) {
    write("a.gguf");
    write("b.gguf");
    create(options());
    run([](LibraryTest& t) -> net::Task<void> {
        auto const moved = co_await t.library->remember_swap("a", t.folder / "a.gguf", t.folder / "b.gguf");
        EXPECT_TRUE(moved);
        auto const opened = co_await t.library->open("a");
        EXPECT_TRUE(opened);
        EXPECT_EQ(fs::path(t.pool->status("a")->path).filename(), "b.gguf");
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
