// Names that are moved where models are served in another form than they have: which file
// takes a name over, what keeps it where it is, and what the next process makes of it.
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include <gtest/gtest.h>

#include "library/permits.h"
#include "library/testing/library_fixture.h"
#include "testing/safetensors_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

SwapWish to_model(std::string name, std::string model) { return {std::move(name), std::move(model), {}}; }
SwapWish to_file(std::string name, std::string path) { return {std::move(name), {}, std::move(path)}; }

// Models are served as "NAME.made" of a cache, but for "small", which is fine as it is.
class LibrarySwapTest : public testing::LibraryTest {
public:
    void SetUp() override {
        for (auto const* name : {"a.gguf", "b.gguf", "small.gguf"}) write(name, name);
        using models::testing::write_file;
        auto const weights = models::testing::SafetensorsWriter().tensor("a", "F32", {2}, "12345678").build();
        write_file(fs::path(folder / "lm/model.safetensors"), weights);
        write_file(fs::path(folder / "lm/config.json"), R"({"model_type": "llama"})");
    }
    Options making() {
        auto out = options();
        out.reshape.wanted = [](std::string const& path) -> Result<bool> {
            return fs::is_directory(path) ? fs::exists(path + "/config.json") : fs::path(path).stem() != "small";
        };
        out.reshape.make = [this](std::string const& path, auto const&) -> Result<Reshaped> {
            auto const name = fs::path(path).stem().string();
            std::unique_lock lock(mutex);
            let_go.wait(lock, [&] { return !held_back.contains(name); });
            if (unmakeable.contains(name)) return Error(Code::io, "no space is left");
            std::ofstream(made(name)) << "made of " << name;
            auto const hold = std::make_shared<int>(0);
            holds[name] = hold;
            return Reshaped{made(name), hold};
        };
        return out;
    }
    void TearDown() override {
        make_all();
        library.reset();  // its threads use what is below
    }
    void make_all() {
        std::lock_guard const lock(mutex);
        held_back.clear();
        let_go.notify_all();
    }
    [[nodiscard]] std::string made(std::string const& name) const { return cache / (name + ".made"); }
    // Whether somebody keeps what was made of it in the cache.
    bool is_held(std::string const& name) {
        std::lock_guard const lock(mutex);
        return !holds[name].expired();
    }
    net::Task<void> until_let_go(std::string name) {
        while (is_held(name)) co_await loop.sleep(1ms);
    }
    // As the next process: it opens the name, and this is what the pool gets.
    net::Task<std::string> path_next_time(std::string name) {
        library.reset();
        create(making());
        auto const opened = co_await library->open(name);
        if (!opened) co_return opened.error().message;
        auto const status = pool->status(*opened);
        co_return status ? status->path : status.error().message;
    }

    hearth::testing::TemporaryFolder cache;
    std::mutex mutex;  // guards the rest
    std::condition_variable let_go;
    std::set<std::string> held_back, unmakeable;
    std::map<std::string, std::weak_ptr<int>> holds;
};

TEST_F(LibrarySwapTest, TheFormThatIsServedTakesANameOver) {
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto const cold = co_await t.library->prepare_swap(to_model("a", "b"));
        if (!cold) co_return t.fail_here(cold.error().message);
        EXPECT_EQ(cold->id, "a");
        EXPECT_EQ(cold->spec.path, t.made("b"));
        EXPECT_EQ(cold->origin, fs::canonical(t.folder / "b.gguf"));
        EXPECT_TRUE(cold->hold);
        EXPECT_EQ(t.orders.back().path, t.folder / "b.gguf") << "its note lies there";
        EXPECT_EQ(t.orders.back().id, "b");
        EXPECT_FALSE(t.pool->status("b")) << "the pool did not get it";

        auto const opened = co_await t.library->open("b");
        EXPECT_TRUE(opened);
        auto const warm = co_await t.library->prepare_swap(to_model("a", "b"));
        auto const by_path = co_await t.library->prepare_swap(to_file("a", t.folder / "b.gguf"));
        for (auto const* swap : {&warm, &by_path}) {
            if (!*swap) co_return t.fail_here(swap->error().message);
            EXPECT_EQ((*swap)->spec.path, t.made("b"));
            EXPECT_EQ((*swap)->origin, cold->origin);
            EXPECT_TRUE((*swap)->hold);
        }
        for (auto const& order : t.orders) EXPECT_NE(order.path, t.made("b")) << "nothing is said of it beside that";
        auto const spec = co_await t.library->describe("b");
        EXPECT_TRUE(spec);
        EXPECT_EQ(t.orders.back().path, t.folder / "b.gguf");
        EXPECT_EQ(t.orders.back().weights, t.made("b"));
    }(*this));
}

TEST_F(LibrarySwapTest, OneThatAnotherOnesWorkerServesCanBeSwappedEitherWay) {
    fs::create_hard_link(folder / "b.gguf", folder / "helper.gguf");
    made_from = {{"helper", "b"}};
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto const opened = co_await t.library->open("helper");
        EXPECT_TRUE(opened);
        EXPECT_EQ(t.pool->status("helper")->base, "b");
        auto const taken = co_await t.library->prepare_swap(to_model("a", "helper"));
        if (!taken) co_return t.fail_here(taken.error().message);
        EXPECT_EQ(taken->spec.path, t.made("helper"));
        EXPECT_EQ(t.orders.back().path, t.folder / "helper.gguf") << "its note lies there";
        auto const given = co_await t.library->prepare_swap(to_model("helper", "a"));
        if (!given) co_return t.fail_here(given.error().message);
        EXPECT_EQ(given->id, "helper");
        EXPECT_EQ(given->spec.path, t.made("a"));
    }(*this));
}

TEST_F(LibrarySwapTest, WhatANameWasMovedToStaysWhereItIs) {
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto const opened = co_await t.library->open("b");
        EXPECT_TRUE(opened);
        auto swap = co_await t.library->prepare_swap(to_model("a", "b"));
        if (!swap) co_return t.fail_here(swap.error().message);
        EXPECT_TRUE(t.is_held("a"));
        auto const kept = co_await t.library->remember_swap(*std::move(swap));
        EXPECT_TRUE(kept);
        co_await t.until_let_go("a");
        fs::remove(t.folder / "b.gguf");
        while (t.pool->status("b")) co_await t.loop.sleep(2ms);
        EXPECT_TRUE(t.is_held("b"));
        fs::remove(t.folder / "a.gguf");
        while (t.pool->status("a")) co_await t.loop.sleep(2ms);
        co_await t.until_let_go("b");
    }(*this));
}

TEST_F(LibrarySwapTest, IsRememberedByTheOriginals) {
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        co_await t.move_name(to_model("a", "b"));
        auto const other = co_await t.path_next_time("a");
        EXPECT_EQ(other, t.made("b"));
        EXPECT_EQ(t.orders.back().path, fs::canonical(t.folder / "b.gguf"));
        co_await t.move_name(to_model("a", "small"));
        auto const third = co_await t.path_next_time("a");
        EXPECT_EQ(third, fs::canonical(t.folder / "small.gguf"));
        co_await t.move_name(to_file("a", t.folder / "a.gguf"));
        auto const own = co_await t.path_next_time("a");
        EXPECT_EQ(own, t.made("a")) << "back is back";
    }(*this));
}

TEST_F(LibrarySwapTest, AMovedNameIsDescribedByTheFileItHas) {
    place("a.hearth.json", R"({"system": "I am a."})");
    place("b.hearth.json", R"({"system": "I am b."})");
    create(options());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        co_await t.move_name(to_model("a", "b"));
        EXPECT_FALSE(t.pool->status("a"));
        for (int opened = 0; opened < 2; ++opened) {
            auto const described = co_await t.library->definition("a");
            if (!described) co_return t.fail_here(described.error().message);
            EXPECT_EQ(described->definition.system, "I am b.") << opened;
            EXPECT_EQ(described->path, fs::canonical(t.folder / "b.gguf")) << opened;
            EXPECT_TRUE(described->model && described->model->name == "b") << opened;
            auto const id = co_await t.library->open("a");
            EXPECT_TRUE(id);
        }
    }(*this));
}

TEST_F(LibrarySwapTest, AModelThatLeavesThePoolIsTakenAsItsFilesAreByNow) {
    serving::PoolOptions waiting;
    waiting.backoff_min = waiting.backoff_max = 1h;  // what was asked is not answered in this test
    pool = serving::Pool::create(loop, waiting, launcher, clock, *log, metrics);
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto const opened = co_await t.library->open("b");
        EXPECT_TRUE(opened);
        domain::GenerateRequest request;
        request.model = "b";
        request.prompt = domain::TextPrompt{"hello"};
        auto const inside = t.pool->submit(std::move(request));
        if (!inside) co_return t.fail_here(inside.error().message);
        t.write("b.gguf", "b.gguf");
        while (!t.pool->status("b")->removing) static_cast<void>(co_await t.library->refresh());

        auto const swap = co_await t.library->prepare_swap(to_model("a", "b"));
        if (!swap) co_return t.fail_here(swap.error().message);
        EXPECT_EQ(swap->spec.path, t.made("b"));
        EXPECT_TRUE(swap->hold);
        EXPECT_EQ(swap->origin, fs::canonical(t.folder / "b.gguf"));
        EXPECT_EQ(t.orders.back().path, t.folder / "b.gguf");
        auto const spec = co_await t.library->describe("b");
        EXPECT_TRUE(spec);
        EXPECT_EQ(t.orders.back().path, t.folder / "b.gguf");

        t.write("b.gguf", "another template");
        while (!t.library->find("b")->model->template_changed()) static_cast<void>(co_await t.library->refresh());
        auto const changed = co_await t.library->prepare_swap(to_model("a", "b"));
        if (changed) co_return t.fail_here("another template took a name over");
        EXPECT_EQ(changed.error().param, kTemplateChanged) << changed.error().message;
        EXPECT_TRUE(t.pool->status("b")->removing) << "it has the request still";
    }(*this));
}

TEST_F(LibrarySwapTest, WhatItTakesIsWaitedForNoLongerThanIsSaid) {
    held_back = {"a", "b"};
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        for (auto wish : {to_model("a", "small"), to_model("small", "b"), to_file("small", t.folder / "b.gguf")}) {
            wish.patience = Duration::zero();
            auto const late = co_await t.library->prepare_swap(wish);
            if (late) co_return t.fail_here("nothing could be made yet");
            EXPECT_EQ(late.error().param, kNotReshaped) << late.error().message;
        }
    }(*this));
}

TEST_F(LibrarySwapTest, WhatLeftThePoolWithAnotherModelHoldsNothing) {
    fs::create_hard_link(folder / "a.gguf", folder / "pirate.gguf");
    with_adapters.insert("pirate");
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto const opened = co_await t.library->open("pirate");
        EXPECT_TRUE(opened);
        EXPECT_EQ(t.pool->status("pirate")->base, "a");
        EXPECT_TRUE(t.is_held("pirate"));
        auto const removed = co_await t.library->remove("a");
        EXPECT_TRUE(removed);
        while (t.pool->status("pirate")) co_await t.loop.sleep(1ms);
        static_cast<void>(co_await t.library->refresh());
        co_await t.until_let_go("pirate");
    }(*this));
}

TEST_F(LibrarySwapTest, AFolderGivesANameOrTakesOneOver) {
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        co_await t.move_name(to_model("a", "lm"));
        auto const converted = co_await t.path_next_time("a");
        EXPECT_EQ(converted, t.made("lm"));
        co_await t.leave_pool("a");
        co_await t.move_name(to_model("lm", "small"));
        auto const file = co_await t.path_next_time("lm");
        EXPECT_EQ(file, fs::canonical(t.folder / "small.gguf"));
        fs::create_directory(t.folder / "empty");
        auto const empty = co_await t.library->prepare_swap(to_file("lm", t.folder / "empty"));
        if (empty) co_return t.fail_here("a folder without a model took a name over");
        EXPECT_EQ(empty.error().code, Code::invalid_argument) << empty.error().message;
        EXPECT_EQ(empty.error().param, "path");
    }(*this));
}

TEST_F(LibrarySwapTest, WaitsForTheOtherFormWhereTheOriginalWouldDoMeanwhile) {
    unmakeable.insert("b");
    auto wanted = making();
    wanted.reshape.original_meanwhile = true;
    create(std::move(wanted));
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto const converted = co_await t.library->prepare_swap(to_model("small", "a"));
        if (!converted) co_return t.fail_here(converted.error().message);
        EXPECT_EQ(converted->spec.path, t.made("a"));
        auto const as_it_is = co_await t.library->prepare_swap(to_model("small", "b"));
        if (!as_it_is) co_return t.fail_here(as_it_is.error().message);
        EXPECT_EQ(as_it_is->spec.path, t.folder / "b.gguf") << "nothing can be made of it";
        EXPECT_FALSE(as_it_is->hold);
    }(*this));
}

TEST_F(LibrarySwapTest, WhatCannotBeMadeTakesNoNameOver) {
    unmakeable.insert("b");
    create(making());
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto const refused = co_await t.library->prepare_swap(to_model("small", "b"));
        if (refused) co_return t.fail_here("it took a name over");
        EXPECT_EQ(refused.error().param, kNotReshaped) << refused.error().message;
    }(*this));
}

TEST_F(LibrarySwapTest, ANameThatWasMovedIsNotMovedBackWhenItsOwnOtherFormIsThere) {
    held_back.insert("a");
    auto wanted = making();
    wanted.reshape.original_meanwhile = true;
    create(std::move(wanted));
    run([](LibrarySwapTest& t) -> net::Task<void> {
        auto swap = co_await t.library->prepare_swap(to_model("a", "small"));
        if (!swap) co_return t.fail_here(swap.error().message);
        auto const kept = co_await t.library->remember_swap(*std::move(swap));
        EXPECT_TRUE(kept);
        jobs::Filter filter;
        filter.kind = kQuantizeKind;
        auto const jobs = co_await t.library->jobs(std::move(filter));
        if (!jobs || jobs->size() != 1) co_return t.fail_here("there is no job that makes the other form");
        auto const feed = co_await t.library->watch(jobs->front().id);
        if (!feed) co_return t.fail_here(feed.error().message);
        t.make_all();
        while (!is_final((*feed)->job().state)) co_await (*feed)->changed_within(1s);
        co_await t.loop.sleep(1ms);  // behind who waited for it before
        auto const status = t.pool->status("a");
        EXPECT_TRUE(status && !status->removing);
        co_await t.until_let_go("a");
    }(*this));
}

}  // namespace
}  // namespace hearth::library
