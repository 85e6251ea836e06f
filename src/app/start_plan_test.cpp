#include "app/start_plan.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "app/environment.h"
#include "base/clock.h"
#include "catalog/catalog.h"
#include "library/library.h"
#include "library/permits.h"
#include "net/loop.h"
#include "serving/launcher.h"
#include "serving/pool.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "testing/gguf_writer.h"
#include "testing/safetensors_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::app {
namespace {

serving::ModelSpec spec(std::string id) {
    serving::ModelSpec out;
    out.id = std::move(id);
    return out;
}

class StartPlanTest : public ::testing::Test {
protected:
    StartPlanTest() { flags.data_dir = data.path(); }

    std::string write(std::string const& name) {
        std::ofstream(folder / name, std::ios::binary) << models::testing::tiny_llama().build();
        return std::filesystem::canonical(folder / name).string();
    }
    std::unique_ptr<catalog::Catalog> catalog() {
        auto opened = catalog::Catalog::open(data / "catalog.db", catalog::Access::read_write);
        EXPECT_TRUE(opened) << opened.error().message;
        EXPECT_TRUE((*opened)->scan({folder.path()}));
        return *std::move(opened);
    }
    Result<StartPlan> plan_start() { return app::plan_start(given, flags); }

    hearth::testing::TemporaryFolder data, folder;
    ServeFlags flags;
    Given given{.specs = {spec("given"), spec("other")}};
    std::vector<serving::ModelSpec>& specs = given.specs;
};

TEST_F(StartPlanTest, WhatIsNotGivenIsForTheLibrary) {
    flags.lazy = true;
    flags.pins = {"other", "mine"};
    flags.preloads = {"given", "mine:latest", "most-used"};
    auto const plan = plan_start();
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(*plan, (StartPlan{{"mine"}, {"mine:latest"}, kMostUsedDefault, {}, {"given", "other"}}));
    EXPECT_FALSE(specs[0].lazy);
    EXPECT_TRUE(specs[1].lazy);
    EXPECT_TRUE(specs[1].pinned);
}

TEST_F(StartPlanTest, WhatIsGivenMayBeMeantByAnyOfItsNames) {
    specs[1].variants.push_back({.id = "pirate", .adapters = {}, .definition = nullptr});
    flags.pins = {"Given:latest", "PIRATE"};
    flags.instances = {"given:latest=2", "pirate=3"};
    auto const plan = plan_start();
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_TRUE(specs[0].pinned);
    EXPECT_TRUE(specs[1].pinned) << "the worker is one";
    EXPECT_EQ(specs[0].instances, 2U);
    EXPECT_EQ(specs[1].instances, 3U);
    EXPECT_TRUE(plan->pins.empty());
    EXPECT_TRUE(plan->instances.empty());
}

TEST_F(StartPlanTest, TheCatalogsNamesOfAGivenFileMeanIt) {
    specs[0].path = write("small.gguf");
    specs[1].path = "/made/of/it";
    given.made_of["other"] = write("large.gguf");
    write("Other.gguf");
    ASSERT_TRUE(catalog()->set_alias("smol", "small", catalog::AliasBy::pull));
    flags.pins = {"smol:latest", "Other"};
    flags.instances = {"large=2"};
    auto const plan = plan_start();
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_TRUE(specs[0].pinned);
    EXPECT_EQ(specs[1].instances, 2U) << "by what its file was made of";
    EXPECT_FALSE(specs[1].pinned);
    EXPECT_EQ(plan->pins, std::vector<std::string>{"Other"}) << "a file of exactly that name, and another one";
}

TEST_F(StartPlanTest, AModelHasOneNumberOfInstances) {
    for (auto const& twice : {std::vector<std::string>{"given=2", "GIVEN:latest=3"}, {"mine=2", "mine=3"}}) {
        flags.instances = twice;
        auto const plan = plan_start();
        ASSERT_FALSE(plan) << twice.front();
        EXPECT_EQ(plan.error().param, "--instances");
        EXPECT_NE(plan.error().message.find("twice"), std::string::npos) << plan.error().message;
    }
}

TEST_F(StartPlanTest, ANameIsMovedAgainByWhatItsFileWasMadeOf) {
    auto const one = write("one.gguf"), two = write("two.gguf");
    ASSERT_TRUE(catalog()->remember_swap("given", one, two));
    flags.engine.cache_disk = "0";
    specs[0].path = "/made/of/it";
    specs[0].aliases = {"alias"};
    given.made_of["given"] = one;
    auto const permits = library::Permits::create({"*"}, true);
    ASSERT_TRUE(permits);
    apply_swaps(given, flags, {folder.path()}, *permits);
    EXPECT_EQ(specs[0].id, "given");
    EXPECT_EQ(specs[0].path, two);
    EXPECT_EQ(specs[0].aliases, std::vector<std::string>{"alias"});
    EXPECT_TRUE(given.made_of.empty()) << "that one is served as it is";
}

TEST_F(StartPlanTest, AMovedNameGetsWhatItsFileCanUseOfTheContext) {
    auto const one = write("one.gguf"), two = write("two.gguf");
    ASSERT_TRUE(catalog()->remember_swap("given", one, two));
    flags.engine.context = 32768;
    specs[0].path = one;
    auto const permits = library::Permits::create({"*"}, true);
    ASSERT_TRUE(permits);
    apply_swaps(given, flags, {folder.path()}, *permits);
    EXPECT_EQ(specs[0].path, two);
    EXPECT_EQ(specs[0].context_request, 64U) << "what it was trained on; with more it could not be loaded";
}

TEST_F(StartPlanTest, AFolderIsMovedToWhereOneOfItsModelsNamesIsAllowed) {
    using models::testing::write_file;
    auto const one = write("one.gguf");
    std::filesystem::path const hidden = folder / "hidden";
    std::filesystem::create_directory(hidden);
    write_file(hidden / "config.json", R"({"model_type": "llama", "max_position_embeddings": 512})");
    write_file(hidden / "model.safetensors",
               models::testing::SafetensorsWriter().tensor("a", "BF16", {2, 3}, std::string(12, 'x')).build());
    {
        auto const written = catalog();
        ASSERT_TRUE(written->set_alias("shown", "hidden"));
        ASSERT_TRUE(written->remember_swap("given", one, std::filesystem::canonical(hidden).string()));
    }
    specs[0].path = one;
    flags.engine.quant_cache_dir = folder / "made";
    flags.engine.quant_cache_size = "none";  // nothing is converted in this test
    auto const said_with = [&](std::string const& pattern) {
        auto const permits = library::Permits::create({pattern}, true);
        ::testing::internal::CaptureStderr();
        if (permits) apply_swaps(given, flags, {folder.path()}, *permits);
        return ::testing::internal::GetCapturedStderr();
    };
    auto const refused = said_with("one"), allowed = said_with("shown");
    EXPECT_NE(refused.find("--allow-model"), std::string::npos) << refused;
    EXPECT_NE(allowed.find("--quant-cache-size"), std::string::npos) << allowed;
    EXPECT_EQ(specs[0].path, one) << "what cannot be served is not taken";
}

TEST_F(StartPlanTest, AModelWithAdaptersJoinsABaseOfSeveralWorkers) {
    auto const path = write("base.gguf");
    std::filesystem::create_hard_link(path, folder / "pirate.gguf");
    std::ofstream(folder / "pirate.lora-1", std::ios::binary) << models::testing::tiny_adapter().build();
    std::ofstream(folder / "pirate.hearth.json") << R"({"from": "base", "adapters": [{"file": "pirate.lora-1"}]})";
    StartPlan plan;
    plan.workers = {{"base", 2}};
    auto const made = [&](std::string const& id) {
        auto spec = make_spec({id, folder / (id + ".gguf")}, flags, plan);
        EXPECT_TRUE(spec) << spec.error().message;
        return spec ? *std::move(spec) : serving::ModelSpec();
    };
    flags.engine.cache_memory = "64MiB";
    flags.engine.memory_bytes = made("pirate").memory_bytes / 10 * 15;
    auto const base = made("base"), pirate = made("pirate");
    EXPECT_EQ(base.instances, 2U);
    EXPECT_EQ(pirate.variants.size(), 1U);
    EXPECT_NE(base.kv_cells, pirate.kv_cells) << "each of two gets less of the memory, ";
    EXPECT_NE(base.threads, pirate.threads) << "of the cores, ";
    EXPECT_NE(base.cache_memory_bytes, pirate.cache_memory_bytes) << "and of the cache";
    EXPECT_TRUE(serving::can_share_worker(base, pirate));
    plan.workers["pirate"] = 3;
    EXPECT_FALSE(serving::can_share_worker(base, made("pirate")));
}

TEST_F(StartPlanTest, InstancesAreOfWhatIsGivenOrOfTheLibrarys) {
    flags.instances = {"given=2", "mine=latest=3", "other=1"};
    specs[0].cache_memory_bytes = 1000;
    specs[1].threads = 5;
    auto const plan = plan_start();
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(specs[0].instances, 2U);
    EXPECT_GE(specs[0].threads, 1U) << "each has its part of the cores";
    EXPECT_EQ(specs[0].cache_memory_bytes, 500U);
    EXPECT_EQ(specs[1].instances, 1U);
    EXPECT_EQ(specs[1].threads, 5U);
    EXPECT_EQ(plan->instances, (std::vector<std::pair<std::string, std::uint32_t>>{{"mine=latest", 3}}));
}

TEST_F(StartPlanTest, InstancesHaveALimit) {
    for (auto const* bad : {"given", "given=", "given=0", "given=17", "given=2x", "=2"}) {
        flags.instances = {bad};
        auto const plan = plan_start();
        ASSERT_FALSE(plan) << bad;
        EXPECT_EQ(plan.error().param, "--instances");
        EXPECT_NE(plan.error().message.find("from 1 to 16"), std::string::npos) << plan.error().message;
    }
}

TEST_F(StartPlanTest, KeepAliveIsOfAllModelsButOfThoseItNames) {
    flags.keep_alives = {"OTHER:latest=0", "60", "mine=latest=1.5"};
    auto plan = plan_start();
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(specs[0].keep_alive, Duration(std::chrono::seconds(60)));
    EXPECT_EQ(specs[1].keep_alive, std::nullopt) << "never";
    ASSERT_EQ(plan->keep_alives.named.size(), 1U);
    EXPECT_EQ(plan->keep_alives.named[0].first, "mine=latest");
    EXPECT_EQ(plan->keep_alives.named[0].second, Duration(std::chrono::milliseconds(1500)));
    plan->kept["named"] = std::nullopt;
    auto const path = write("tiny.gguf");
    auto const keep_alive_of = [&](std::string const& id) {
        auto made = make_spec({id, path}, flags, *plan);
        EXPECT_TRUE(made) << made.error().message;
        return made ? made->keep_alive : std::nullopt;
    };
    EXPECT_EQ(keep_alive_of("tiny"), Duration(std::chrono::seconds(60)));
    EXPECT_EQ(keep_alive_of("named"), std::nullopt);
}

TEST_F(StartPlanTest, WithOllamaModelsStayForFiveMinutesUnlessAFlagSaysOtherwise) {
    ASSERT_TRUE(plan_start());
    EXPECT_EQ(specs[0].keep_alive, std::nullopt);
    flags.ollama = true;
    flags.keep_alives = {"other=0"};
    ASSERT_TRUE(plan_start());
    EXPECT_EQ(specs[0].keep_alive, Duration(std::chrono::minutes(5)));
    EXPECT_EQ(specs[1].keep_alive, std::nullopt);
    flags.keep_alives = {"0"};
    ASSERT_TRUE(plan_start());
    EXPECT_EQ(specs[0].keep_alive, std::nullopt);
}

TEST_F(StartPlanTest, KeepAliveIsANumberOfSecondsAndSaidOnce) {
    for (std::string const bad : {"", "x", "1x", " 1", "-1", "nan", "inf", "31536001", "given=", "given=x", "=2",
                                  "given=-1", "given=31536001"}) {
        flags.keep_alives = {bad};
        auto const plan = plan_start();
        ASSERT_FALSE(plan) << bad;
        EXPECT_EQ(plan.error().param, "--keep-alive");
        EXPECT_NE(plan.error().message.find("got '" + bad + "'"), std::string::npos) << plan.error().message;
        EXPECT_NE(plan.error().message.find("31536000"), std::string::npos) << plan.error().message;
    }
    for (auto const& twice :
         {std::vector<std::string>{"1", "2"}, {"given=1", "GIVEN:latest=1"}, {"mine=0", "mine=3"}}) {
        flags.keep_alives = twice;
        auto const plan = plan_start();
        ASSERT_FALSE(plan) << twice.front();
        EXPECT_EQ(plan.error().param, "--keep-alive");
        EXPECT_NE(plan.error().message.find("twice"), std::string::npos) << plan.error().message;
    }
}

TEST_F(StartPlanTest, MostUsedHasALimit) {
    flags.preloads = {"most-used:16", "most-used:2"};
    EXPECT_EQ(plan_start()->most_used, 16U);
    for (auto const* bad : {"most-used:", "most-used:0", "most-used:17", "most-used:x"}) {
        flags.preloads = {bad};
        auto const plan = plan_start();
        ASSERT_FALSE(plan) << bad;
        EXPECT_EQ(plan.error().param, "--preload");
        EXPECT_NE(plan.error().message.find("from 1 to 16"), std::string::npos);
    }
    flags.preloads = {"most-used-of-all"};
    EXPECT_EQ(plan_start()->preloads, flags.preloads) << "a name";
}

// Models here are lazy and nobody asks them anything.
class NoLauncher final : public serving::Launcher {
public:
    Result<std::unique_ptr<serving::WorkerHandle>> launch(serving::ModelSpec const&) override {
        return Error(Code::io, "no worker in this test");
    }
};

class Preloading : public StartPlanTest {
public:
    // How models are made as the plan has it, as `hearth serve` does.
    void open_library() {
        library::Options options;
        options.folders = {folder.path()};
        options.data_folder = data.path();
        options.pulls_at_once = 0;
        options.new_id = [] { return std::string("job"); };
        auto created =
            library::Library::create(loop, *pool, *log, std::move(options),
                                     [this](library::SpecOrder const& order) { return make_spec(order, flags, plan); });
        ASSERT_TRUE(created) << created.error().message;
        library = *std::move(created);
    }
    void run(net::Task<void> test) {
        loop.spawn(ended(std::move(test)));
        loop.spawn(watch());
        loop.run();
        EXPECT_TRUE(finished) << "the test did not end";
    }
    net::Task<Status> preload() { return app::preload(*library, *pool, *log, loop, plan); }
    net::Task<void> refuse(std::string flag, std::string part) {
        co_await library->settled();
        auto const loaded = co_await preload();
        EXPECT_FALSE(loaded);
        if (loaded) co_return;
        EXPECT_EQ(loaded.error().param, flag);
        EXPECT_NE(loaded.error().message.find(part), std::string::npos) << loaded.error().message;
    }

    net::Loop loop;
    SteadyClock clock;
    std::unique_ptr<telemetry::Log> log = telemetry::make_null_log();
    telemetry::Registry metrics;
    NoLauncher launcher;
    std::unique_ptr<serving::Pool> pool = serving::Pool::create(loop, {}, launcher, clock, *log, metrics);
    std::unique_ptr<library::Library> library;
    StartPlan plan;
    bool finished = false;

private:
    net::Task<void> ended(net::Task<void> test) {
        co_await std::move(test);
        finished = true;
        loop.stop();
    }
    net::Task<void> watch() {
        co_await loop.sleep(std::chrono::seconds(30));
        loop.stop();
    }
};

TEST_F(Preloading, InstancesOfNobodyAreRefused) {
    write("tiny.gguf");
    open_library();
    plan.instances = {{"tiny", 2}, {"tniy", 4}};
    run(refuse("--instances", "'tniy'"));
}

TEST_F(Preloading, NobodyIsKeptWhoIsNotThere) {
    write("tiny.gguf");
    open_library();
    plan.keep_alives.named = {{"tiny", std::nullopt}, {"tniy", std::nullopt}};
    run(refuse("--keep-alive", "'tniy'"));
}

TEST_F(Preloading, TwoNamesOfAModelAreNotKeptForTwoTimes) {
    write("file.gguf");
    ASSERT_TRUE(catalog()->set_alias("short", "file", catalog::AliasBy::pull));
    open_library();
    plan.keep_alives.named = {{"short", std::nullopt}, {"file", std::nullopt}};
    run(refuse("--keep-alive", "twice"));
}

TEST_F(Preloading, TwoNamesOfAModelHaveOneNumberOfInstances) {
    write("file.gguf");
    ASSERT_TRUE(catalog()->set_alias("short", "file", catalog::AliasBy::pull));
    open_library();
    plan.instances = {{"short", 2}, {"file", 4}};
    run(refuse("--instances", "twice"));
}

TEST_F(Preloading, ANameInTwoSpellingsIsOneName) {
    write("file.gguf");
    open_library();
    plan.instances = {{"file", 2}, {"FILE:latest", 4}};
    run(refuse("--instances", "twice"));
}

TEST_F(Preloading, WhatIsGivenUnderAnotherNameIsNamed) {
    auto mine = spec("mine");
    mine.path = write("file.gguf");
    mine.lazy = true;
    ASSERT_TRUE(pool->add(std::move(mine)));
    open_library();
    plan.given = {"mine"};
    plan.pins = {"file"};
    run(refuse("--pin", "'mine'"));
}

TEST_F(Preloading, WhatAModelWasPulledAsIsItsNameForEveryFlag) {
    write("file.gguf");
    ASSERT_TRUE(catalog()->set_alias("short", "file", catalog::AliasBy::pull));
    plan.pins = {"Short"};
    plan.instances = {{"short:latest", 2}};
    plan.keep_alives.named = {{"SHORT", Duration(std::chrono::seconds(60))}};
    open_library();  // nothing is asked of it before the plan is resolved
    run([](Preloading& t) -> net::Task<void> {
        co_await t.library->settled();
        auto const loaded = co_await t.preload();
        EXPECT_TRUE(loaded) << loaded.error().message;
        auto const id = co_await t.library->open("short");
        EXPECT_TRUE(id) << id.error().message;
        auto const status = t.pool->status(id ? *id : "");
        EXPECT_TRUE(status) << status.error().message;
        if (!status) co_return;
        EXPECT_TRUE(status->pinned);
        EXPECT_EQ(status->instances.size(), 2U);
        EXPECT_EQ(status->keep_alive, Duration(std::chrono::seconds(60)));
    }(*this));
}

TEST_F(Preloading, ANameMeansTheModelThatIsCalledExactlySo) {
    write("Tiny.gguf");
    write("tiny.gguf");
    plan.pins = {"Tiny"};
    plan.instances = {{"tiny", 2}};
    open_library();
    run([](Preloading& t) -> net::Task<void> {
        co_await t.library->settled();
        auto const loaded = co_await t.preload();
        EXPECT_TRUE(loaded) << loaded.error().message;
        for (std::string const name : {"Tiny", "tiny"}) {
            auto const id = co_await t.library->open(name);
            EXPECT_TRUE(id) << id.error().message;
            auto const status = t.pool->status(name);
            EXPECT_TRUE(status) << name;
            if (!status) co_return;
            EXPECT_EQ(status->pinned, name == "Tiny") << name;
            EXPECT_EQ(status->instances.size(), name == "tiny" ? 2U : 0U) << name;
        }
    }(*this));
}

}  // namespace
}  // namespace hearth::app
