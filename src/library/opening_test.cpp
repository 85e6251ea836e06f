// How models come into the pool: those of one file together, and those that are to be
// served in another form once that was made.
#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <mutex>

#include <gtest/gtest.h>

#include "catalog/catalog.h"
#include "library/permits.h"
#include "library/testing/library_fixture.h"
#include "testing/gguf_writer.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Names = std::vector<std::string>;

class LibraryFamily : public testing::LibraryTest {
public:
    // As `hearth create` makes them: base, and pirate and parrot with an adapter of their own.
    void write_family() {
        write("base.gguf");
        for (std::string const name : {"pirate", "parrot"}) {
            fs::create_hard_link(folder / "base.gguf", folder / (name + ".gguf"));
            with_adapters.insert(name);
        }
    }
    // "NAME" for each model of the pool, "NAME<BASE" for one that another one's worker serves.
    Names in_pool() {
        Names out;
        for (auto const& status : pool->models())
            out.push_back(status.base.empty() ? status.id : status.id + "<" + status.base);
        std::ranges::sort(out);
        return out;
    }
    net::Task<void> open(std::string name) {
        auto const id = co_await library->open(name);
        EXPECT_EQ(id.has_value() ? *id : id.error().message, name);
    }
};

TEST_F(LibraryFamily, OneWorkerServesModelsOfOneFile) {
    write_family();
    write("stranger.gguf");
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"base", "parrot<base", "pirate<base"})) << "the others come along";
        co_await t.open("stranger");
        co_await t.open("parrot");
        co_await t.open("base");
        EXPECT_EQ(t.in_pool(), (Names{"base", "parrot<base", "pirate<base", "stranger"}));
        auto listed = t.listed();
        std::ranges::sort(listed);
        EXPECT_EQ(listed, (Names{"base", "parrot", "pirate", "stranger"})) << "each once";
        auto const pirate = t.library->find("pirate");
        EXPECT_TRUE(pirate && pirate->model && pirate->status);
    }(*this));
}

TEST_F(LibraryFamily, ThePlainOneBringsTheOthersAlong) {
    write_family();
    refused.insert("parrot");
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("base");
        EXPECT_EQ(t.in_pool(), (Names{"base", "pirate<base"})) << "but not one that cannot be served";
        auto const broken = co_await t.library->open("parrot");
        EXPECT_EQ(broken.error().message, "its adapter is broken") << "who asks for it is told";
    }(*this));
}

TEST_F(LibraryFamily, AModelThatIsCreatedLaterJoinsTheOneThatIsServed) {
    write("base.gguf");
    with_adapters.insert("pirate");
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("base");
        fs::create_hard_link(t.folder / "base.gguf", t.folder / "pirate.gguf");
        static_cast<void>(co_await t.library->refresh());
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"base", "pirate<base"}));
    }(*this));
}

TEST_F(LibraryFamily, AModelThatSaysOnlyWhatRequestsBeginWithIsServedByTheWorkerOfItsBase) {
    write("base.gguf");
    for (std::string const name : {"helper", "of_helper", "odd"})
        fs::create_hard_link(folder / "base.gguf", folder / (name + ".gguf"));
    made_from = {{"helper", "base"}, {"of_helper", "helper"}, {"odd", "base"}};
    odd.insert("odd");
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("of_helper");
        EXPECT_EQ(t.in_pool(), (Names{"base", "of_helper<base"})) << "nobody else comes along";
        co_await t.open("helper");
        co_await t.open("odd");
        EXPECT_EQ(t.in_pool(), (Names{"base", "helper<base", "odd", "of_helper<base"}));
        auto const helper = t.library->find("helper");
        EXPECT_TRUE(helper && helper->model && helper->status);
        auto const removed = co_await t.library->remove("helper");
        EXPECT_TRUE(removed) << (removed ? "" : removed.error().message);
        EXPECT_EQ(t.in_pool(), (Names{"base", "odd", "of_helper<base"}));
    }(*this));
}

TEST_F(LibraryFamily, OneOfANameThatIsNoneIsServedByItself) {
    write("helper.gguf");
    made_from = {{"helper", "gone"}};
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("helper");
        EXPECT_EQ(t.in_pool(), (Names{"helper"}));
    }(*this));
}

TEST_F(LibraryFamily, WhatModelGaveIsABaseToo) {
    write_family();
    serving::ModelSpec given;
    given.id = "given";
    given.path = folder / "base.gguf";
    given.lazy = true;
    ASSERT_TRUE(pool->add(given));
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"given", "parrot<given", "pirate<given"}));
    }(*this));
}

TEST_F(LibraryFamily, OneThatNeedsAnotherWorkerHasItsOwn) {
    write_family();
    odd.insert("pirate");
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"base", "parrot<base", "pirate"}));
        EXPECT_EQ(t.pool->status("pirate")->adapters.size(), 1U);
    }(*this));
}

TEST_F(LibraryFamily, ABaseThatMayNotBeLoadedIsNone) {
    write_family();
    auto wanted = options();
    wanted.allowed = {"p*"};
    create(wanted);
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"parrot<pirate", "pirate"}));
        EXPECT_FALSE(t.library->find("base"));
    }(*this));
}

TEST_F(LibraryFamily, RemovingOneLeavesTheOthers) {
    write_family();
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("pirate");
        auto const removed = co_await t.library->remove("pirate");
        EXPECT_TRUE(removed) << (removed ? "" : removed.error().message);
        EXPECT_EQ(t.in_pool(), (Names{"base", "parrot<base"}));
        EXPECT_FALSE(t.library->find("pirate"));
        EXPECT_TRUE(fs::exists(t.folder / "base.gguf"));
    }(*this));
}

TEST_F(LibraryFamily, WithoutItsBaseAModelGoesOnByItself) {
    write_family();
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("pirate");
        auto const removed = co_await t.library->remove("base");
        EXPECT_TRUE(removed) << (removed ? "" : removed.error().message);
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"parrot<pirate", "pirate"}));
        EXPECT_FALSE(t.library->find("base"));
    }(*this));
}

TEST_F(LibraryFamily, WhatOnlyCameAlongWasNotUsedYet) {
    write_family();
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("base");
        co_await t.open("parrot");
        EXPECT_EQ(t.in_pool(), (Names{"base", "parrot<base", "pirate<base"}));
        for (std::string const name : {"parrot", "pirate"}) t.write(name + ".gguf", "{{ another }}");
        while (t.in_pool() != Names{"base"}) {
            static_cast<void>(co_await t.library->refresh());
            co_await t.loop.sleep(2ms);
        }
        co_await t.open("pirate");
        auto const used = co_await t.library->open("parrot");
        if (used) co_return t.fail_here("it has another template than at its first use");
        EXPECT_EQ(used.error().param, kTemplateChanged) << used.error().message;
    }(*this));
}

TEST_F(LibraryFamily, OneThatIsCreatedAnewIsServedAsItIsNow) {
    write_family();
    create(options());
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("pirate");
        fs::remove(t.folder / "pirate.gguf");
        t.write("pirate.gguf", "{{ another }}");
        while (t.pool->status("pirate")) {
            static_cast<void>(co_await t.library->refresh());
            co_await t.loop.sleep(2ms);
        }
        EXPECT_EQ(t.in_pool(), (Names{"base", "parrot<base"})) << "its file is another one";
    }(*this));
}

// --- another form ---------------------------------------------------------------

class Sight final : public Onlooker {
public:
    net::Task<bool> see(jobs::Progress const& progress) override {
        seen.push_back(progress);
        co_return patient;
    }
    std::vector<jobs::Progress> seen;
    bool patient = true;
};

class LibraryReshape : public LibraryFamily {
public:
    // Makes NAME.gguf of the data folder of each model, when it may.
    Options reshaping() {
        auto out = options();
        out.reshape.wanted = [](std::string const& path) -> Result<bool> { return fs::path(path).stem() != "small"; };
        out.reshape.make = [this](std::string const& path, auto const& watch) -> Result<Reshaped> {
            static_cast<void>(watch({true, 10, 100}));
            std::unique_lock lock(mutex);
            ++made;
            opened.wait(lock, [this] { return may_make; });
            if (!problem.empty()) return Error(Code::io, problem);
            return Reshaped{(data / fs::path(path).filename().string()), nullptr};
        };
        return out;
    }
    void let_make() {
        std::lock_guard const lock(mutex);
        may_make = true;
        opened.notify_all();
    }
    // The library's thread stands still from when it is asked how to serve a model.
    void hold_library() {
        may_say = false;
        on_spec = [this](SpecOrder const&) {
            std::unique_lock lock(mutex);
            opened.wait(lock, [this] { return may_say; });
        };
    }
    void let_library() {
        std::lock_guard const lock(mutex);
        may_say = true;
        opened.notify_all();
    }
    void TearDown() override {
        let_make();
        let_library();
        library.reset();  // its threads use what is below
    }
    int times_made() {
        std::lock_guard const lock(mutex);
        return made;
    }
    net::Task<void> open_quietly(std::string name, int& over) {
        auto const id = co_await library->open(name);
        EXPECT_TRUE(id) << (id ? "" : id.error().message);
        ++over;
    }
    // Behind what all who opened a model by now ask of the library's thread: where it lies, then the job.
    net::Task<void> until_asked() {
        for (int i = 0; i < 2; ++i) {
            auto const looked = co_await library->refresh();
            EXPECT_TRUE(looked);
        }
    }
    net::Task<std::vector<jobs::Job>> quantize_jobs() {
        jobs::Filter filter;
        filter.kind = kQuantizeKind;
        auto const jobs = co_await library->jobs(std::move(filter));
        co_return jobs.has_value() ? *jobs : std::vector<jobs::Job>();
    }

    std::mutex mutex;  // guards the rest
    std::condition_variable opened;
    bool may_make = true, may_say = true;
    int made = 0;
    std::string problem;
};

TEST_F(LibraryReshape, IsMadeOnceForAllWhoAskAndServedInItsPlace) {
    write("a.gguf");
    may_make = false;
    create(reshaping());
    run([](LibraryReshape& t) -> net::Task<void> {
        int over = 0;
        for (int i = 0; i < 3; ++i) t.loop.spawn(t.open_quietly("a", over));
        while (t.times_made() == 0) co_await t.loop.sleep(2ms);
        co_await t.until_asked();
        EXPECT_EQ(over, 0);
        t.let_make();
        while (over < 3) co_await t.loop.sleep(2ms);
        EXPECT_EQ(t.times_made(), 1);
        EXPECT_EQ(t.pool->status("a")->path, t.data / "a.gguf");
        auto const jobs = co_await t.quantize_jobs();
        EXPECT_EQ(jobs.size(), 1U);
        EXPECT_EQ(jobs.front().state, jobs::State::done);
        EXPECT_EQ(model_of(jobs.front()), "a");
    }(*this));
}

TEST_F(LibraryReshape, WhoWaitsIsToldAndMayLeave) {
    write("a.gguf");
    may_make = false;
    create(reshaping());
    run([](LibraryReshape& t) -> net::Task<void> {
        Sight sight;
        sight.patient = false;
        auto const left = co_await t.library->open("a", Use::counted, &sight);
        EXPECT_EQ(left.error().code, Code::cancelled);
        EXPECT_EQ(sight.seen.size(), 1U);
        int over = 0;
        t.loop.spawn(t.open_quietly("a", over));
        co_await t.until_asked();
        EXPECT_EQ(over, 0);
        t.let_make();
        while (over == 0) co_await t.loop.sleep(2ms);
        EXPECT_EQ(t.times_made(), 1) << "the first job went on";
    }(*this));
}

TEST_F(LibraryReshape, WhatNeedsNoOtherFormIsServedAsItIs) {
    write("small.gguf");
    create(reshaping());
    run([](LibraryReshape& t) -> net::Task<void> {
        co_await t.open("small");
        EXPECT_EQ(t.times_made(), 0);
        EXPECT_EQ(t.pool->status("small")->path, t.folder / "small.gguf");
    }(*this));
}

TEST_F(LibraryReshape, AFailureIsAnErrorThatSaysWhy) {
    write("a.gguf");
    problem = "no space is left";
    create(reshaping());
    run([](LibraryReshape& t) -> net::Task<void> {
        auto const none = co_await t.library->open("a");
        auto const again = co_await t.library->open("a");
        EXPECT_EQ(none.error(), again.error());
        EXPECT_EQ(t.times_made(), 1) << "not with every request";
    }(*this));
}

TEST_F(LibraryReshape, WhatCouldNotBeMadeIsTriedAgainLater) {
    write("a.gguf");
    problem = "no space is left";
    auto wanted = reshaping();
    wanted.reshape.try_again_after = Duration::zero();
    create(std::move(wanted));
    run([](LibraryReshape& t) -> net::Task<void> {
        auto const none = co_await t.library->open("a");
        EXPECT_EQ(none.error().param, kNotReshaped);
        EXPECT_NE(none.error().message.find("no space is left"), std::string::npos) << none.error().message;
        EXPECT_TRUE(t.pool->models().empty());
        {
            std::lock_guard const lock(t.mutex);
            t.problem.clear();
        }
        co_await t.open("a");
        EXPECT_EQ(t.times_made(), 2) << "asked anew";
    }(*this));
}

TEST_F(LibraryReshape, NobodyWaitsLongerThanOneRequestMay) {
    write("a.gguf");
    may_make = false;
    auto wanted = reshaping();
    wanted.reshape_patience = Duration::zero();
    create(wanted);
    run([](LibraryReshape& t) -> net::Task<void> {
        auto const late = co_await t.library->open("a");
        EXPECT_EQ(late.error().param, kNotReshaped);
        EXPECT_NE(late.error().message.find("/api/v1/jobs/job"), std::string::npos) << late.error().message;
        auto const jobs = co_await t.quantize_jobs();
        EXPECT_EQ(jobs.size(), 1U) << "it goes on";
        t.let_make();
    }(*this));
}

TEST_F(LibraryReshape, TheOriginalIsServedMeanwhileIfThatIsWanted) {
    write("a.gguf");
    may_make = false;
    auto wanted = reshaping();
    wanted.reshape.original_meanwhile = true;
    create(wanted);
    run([](LibraryReshape& t) -> net::Task<void> {
        co_await t.open("a");
        EXPECT_EQ(t.pool->status("a")->path, t.folder / "a.gguf");
        t.let_make();
        while (t.pool->status("a")) co_await t.loop.sleep(2ms);
        co_await t.open("a");
        EXPECT_EQ(t.pool->status("a")->path, t.data / "a.gguf");
        EXPECT_EQ(t.times_made(), 1);
    }(*this));
}

TEST_F(LibraryReshape, WhatIsThereBeforeTheOriginalIsServedInItsPlace) {
    write("a.gguf");
    hold_library();
    auto wanted = reshaping();
    wanted.reshape.original_meanwhile = true;
    create(wanted);
    run([](LibraryReshape& t) -> net::Task<void> {
        co_await t.library->settled();
        int over = 0;
        t.loop.spawn(t.open_quietly("a", over));
        co_await t.until_asked();
        // The job is known by now; what comes next is how to serve the original.
        auto const feed = co_await t.library->watch("job1");
        if (!feed) co_return t.fail_here(feed.error().message);
        while (!is_final((*feed)->job().state)) static_cast<void>(co_await (*feed)->changed_within(1s));
        co_await t.loop.sleep(1ms);  // behind who waited for it before
        EXPECT_EQ(over, 0);
        t.let_library();
        while (over == 0) co_await t.loop.sleep(2ms);
        EXPECT_EQ(t.pool->status("a")->path, t.data / "a.gguf");
        EXPECT_FALSE(t.pool->status("a")->removing);
        EXPECT_EQ(t.times_made(), 1);
    }(*this));
}

TEST_F(LibraryReshape, TheOriginalIsServedWhereNothingCanBeMadeIfThatIsWanted) {
    write("a.gguf");
    problem = "no space is left";
    auto wanted = reshaping();
    wanted.reshape.original_meanwhile = true;
    create(wanted);
    run([](LibraryReshape& t) -> net::Task<void> {
        co_await t.open("a");
        for (bool failed = false; !failed;) {
            auto const jobs = co_await t.quantize_jobs();
            failed = !jobs.empty() && jobs.front().state == jobs::State::failed;
            co_await t.loop.sleep(2ms);
        }
        EXPECT_EQ(t.pool->status("a")->path, t.folder / "a.gguf");
    }(*this));
}

TEST_F(LibraryReshape, AFamilySharesWhatWasMade) {
    write_family();
    create(reshaping());
    run([](LibraryReshape& t) -> net::Task<void> {
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"base", "parrot<base", "pirate<base"}));
        EXPECT_EQ(t.pool->status("base")->path, t.data / "pirate.gguf");
        EXPECT_EQ(t.times_made(), 1);
    }(*this));
}

// Models of equal bytes, as one cache of what is made has it: they share a file.
class LibraryEqualBytes : public LibraryReshape {
public:
    void SetUp() override { std::ofstream(one, std::ios::binary) << "made"; }
    Options sharing() {
        auto out = reshaping();
        out.reshape.make = [this](std::string const&, auto const&) -> Result<Reshaped> {
            return Reshaped{one, nullptr};
        };
        return out;
    }
    std::string const one = data / "one.gguf";
};

TEST_F(LibraryEqualBytes, ADamagedFileIsItsOwnModelsAlone) {
    auto const good = models::testing::tiny_llama().build();
    for (std::string const name : {"a", "b"}) {
        place(name + ".gguf", good);
        note(name, good);
    }
    create(sharing());
    run([](LibraryEqualBytes& t, std::string bad) -> net::Task<void> {
        co_await t.open("a");
        co_await t.open("b");
        bad.back() = static_cast<char>(bad.back() ^ 1);
        t.place("b.gguf", bad);
        co_await t.until_damaged("b", true);
        static_cast<void>(co_await t.library->refresh());
        auto const other = t.pool->status("a");
        EXPECT_TRUE(other && other->state == serving::ModelState::cold) << "it is as it was";
        co_await t.open("a");
    }(*this, good));
}

TEST_F(LibraryEqualBytes, WhatModelGaveIsABaseStill) {
    write_family();
    fs::copy_file(folder / "base.gguf", folder / "copy.gguf");
    serving::ModelSpec given;
    given.id = "given";
    given.path = one;
    given.lazy = true;
    ASSERT_TRUE(pool->add(given));
    auto wanted = sharing();
    wanted.made_of = {{"given", folder / "base.gguf"}};
    create(std::move(wanted));
    run([](LibraryEqualBytes& t) -> net::Task<void> {
        co_await t.open("copy");
        co_await t.open("pirate");
        EXPECT_EQ(t.in_pool(), (Names{"copy", "given", "parrot<given", "pirate<given"}));
    }(*this));
}

TEST_F(LibraryReshape, WithoutJobsItIsAnError) {
    write("a.gguf");
    auto wanted = reshaping();
    wanted.pulls_at_once = 0;
    create(wanted);
    run([](LibraryReshape& t) -> net::Task<void> {
        auto const none = co_await t.library->open("a");
        EXPECT_NE(none.error().message.find("--pulls 0"), std::string::npos) << none.error().message;
    }(*this));
}

// --- uses -----------------------------------------------------------------------

TEST_F(LibraryFamily, UsesAreWrittenDownBeforeTheEnd) {
    write("a.gguf");
    auto wanted = options();
    wanted.rescan = 1h;
    create(wanted);
    run([](LibraryFamily& t) -> net::Task<void> {
        co_await t.open("a");
        co_await t.library->write_down();
        co_await t.library->write_down();  // there is nothing more
    }(*this));
    library.reset();
    auto const catalog = catalog::Catalog::open(data / "catalog.db", catalog::Access::read_only);
    ASSERT_TRUE(catalog) << catalog.error().message;
    auto const most = (*catalog)->most_used(0, 5);
    ASSERT_TRUE(most);
    EXPECT_EQ(*most, Names{"a"});
}

}  // namespace
}  // namespace hearth::library
