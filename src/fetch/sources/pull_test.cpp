#include "fetch/sources/pull.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "fetch/folder_lock.h"
#include "fetch/partial_file.h"
#include "fetch/sources/claim.h"
#include "fetch/sources/leftovers.h"
#include "fetch/testing/fetch_fixture.h"

namespace hearth::fetch {
namespace {

namespace fs = std::filesystem;
using test::Asked;
using test::FileServer;

std::string const kBytes = test::some_bytes(100'000);

// Says what the test wrote down.
class ToldHoldings final : public Holdings {
public:
    std::optional<std::string> find(std::string const& sha256) override {
        auto const at = files.find(sha256);
        return at == files.end() ? std::nullopt : std::optional(at->second);
    }
    bool begin(std::string const&) override {
        ++begun;
        return begun > refused;
    }
    void end(std::string const& sha256, std::string const& path) override { ended.emplace_back(sha256, path); }

    std::map<std::string, std::string> files;
    int refused = 0, begun = 0;
    std::vector<std::pair<std::string, std::string>> ended;
};

// A file that was deleted and is still open: it can be read, and not be linked, as one of another file system.
class Unlinkable {
public:
    explicit Unlinkable(std::string const& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) { fs::remove(path); }
    ~Unlinkable() { ::close(fd_); }
    Unlinkable(Unlinkable const&) = delete;
    Unlinkable& operator=(Unlinkable const&) = delete;
    [[nodiscard]] std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }

private:
    int const fd_;
};

class PullTest : public test::FetchFixture {
protected:
    static test::Handler serving(std::string const& bytes) {
        return [bytes](Asked const& asked) { return test::serve_file(asked, bytes, "\"v1\""); };
    }
    Plan plan_of(std::string const& name, std::string const& bytes) {
        Plan plan;
        plan.model = name;
        plan.source = "test/" + name;
        PlannedFile file;
        file.name = name + ".gguf";
        file.url = *parse_url(server.url("/" + name));
        file.sha256 = sha256(bytes);
        file.size = bytes.size();
        plan.files.push_back(std::move(file));
        return plan;
    }
    Result<Pulled> run(Plan plan, PullHooks hooks = {}) {
        Result<Pulled> result = Error(Code::internal, "did not end");
        net::Loop loop;
        auto client = Client::create(loop, client_options);
        EXPECT_TRUE(client);
        Downloader downloader(loop, **client, options);
        loop.spawn(run_into(loop, downloader, std::move(plan), folder, std::move(hooks), result));
        loop.run();
        return result;
    }
    static net::Task<void> run_into(net::Loop& loop, Downloader& downloader, Plan plan, std::string folder,
                                    PullHooks hooks, Result<Pulled>& result) {
        result = co_await pull(loop, downloader, std::move(plan), std::move(folder), std::move(hooks));
    }
    static net::Task<void> plan_into(Client& client, HubOptions hub_options, std::vector<NotedFile> again,
                                     Result<Plan>& result) {
        HubReference reference{"org", "repo", "main", ""};
        result = co_await plan_hub(client, std::move(reference), std::move(hub_options), std::move(again));
    }
    [[nodiscard]] static PullHooks with(Holdings& holdings) {
        PullHooks hooks;
        hooks.holdings = &holdings;
        return hooks;
    }
    // From another repository, and without a hash that would tell its bytes apart.
    Plan plan_from(FileServer const& elsewhere, std::string const& source) {
        auto plan = plan_of("a", "");
        plan.source = source;
        plan.files[0].url = *parse_url(elsewhere.url("/a"));
        plan.files[0].sha256.clear();
        plan.files[0].size.reset();
        return plan;
    }
    void write(std::string const& name, std::string const& bytes) const {
        fs::create_directories(fs::path(path(name)).parent_path());
        std::ofstream(path(name), std::ios::binary) << bytes;
    }

    FileServer server{"127.0.0.1", serving(kBytes)};
};

TEST_F(PullTest, WithoutRoomNothingIsAskedAndNothingIsLeft) {
    auto plan = plan_of("a", kBytes);
    plan.files[0].size = std::uint64_t{1} << 60;
    auto const pulled = run(std::move(plan));
    ASSERT_FALSE(pulled);
    EXPECT_EQ(pulled.error().code, Code::exhausted) << "as any disk that is full";
    EXPECT_EQ(pulled.error().param, "disk");
    EXPECT_NE(pulled.error().message.find("1152921504606846976 more bytes are needed"), std::string::npos)
        << pulled.error().message;
    EXPECT_TRUE(server.asked().empty());
    expect_only("");
}

TEST_F(PullTest, BytesThatAreHereAreLinked) {
    write("have.gguf", kBytes);
    ToldHoldings held;
    held.files[sha256(kBytes)] = path("have.gguf");
    auto const pulled = run(plan_of("a", kBytes), with(held));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_TRUE(fs::equivalent(path("have.gguf"), path("a.gguf")));
    EXPECT_TRUE(server.asked().empty());
    EXPECT_EQ(pulled->fetched, 0U);
    EXPECT_FALSE(pulled->found) << "the pull has put it there";
    EXPECT_TRUE(exists("a.hearth.json"));
    ASSERT_EQ(held.ended.size(), 1U);
    EXPECT_EQ(held.ended[0].second, path("a.gguf"));
}

TEST_F(PullTest, ALinkLeadsToTheFileItself) {
    write("blobs/file", kBytes);
    fs::create_directories(path("deep/er"));
    fs::create_symlink("../../blobs/file", path("deep/er/link.gguf"));
    ToldHoldings held;
    held.files[sha256(kBytes)] = path("deep/er/link.gguf");
    auto const pulled = run(plan_of("a", kBytes), with(held));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_FALSE(fs::is_symlink(path("a.gguf")));
    EXPECT_EQ(content("a.gguf"), kBytes);
}

TEST_F(PullTest, AWrongAnswerCostsTimeAndNoFile) {
    auto const other = test::some_bytes(kBytes.size(), 2);
    write("lie.gguf", other);
    ToldHoldings held;
    held.files[sha256(kBytes)] = path("lie.gguf");
    auto const pulled = run(plan_of("a", kBytes), with(held));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_EQ(content("a.gguf"), kBytes);
    EXPECT_EQ(content("lie.gguf"), other) << "what was linked is not written to";
}

TEST_F(PullTest, WhatCannotBeLinkedIsCopied) {
    write("gone", kBytes);
    Unlinkable const here(path("gone"));
    ToldHoldings held;
    held.files[sha256(kBytes)] = here.path();
    auto const pulled = run(plan_of("a", kBytes), with(held));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_EQ(content("a.gguf"), kBytes);
    EXPECT_TRUE(server.asked().empty());
    EXPECT_EQ(pulled->fetched, 0U);
    EXPECT_EQ(pulled->files[0].sha256, sha256(kBytes));
    EXPECT_FALSE(exists("a.gguf.partial"));
}

TEST_F(PullTest, AWrongCopyCostsTimeAndNoFile) {
    write("gone", test::some_bytes(kBytes.size(), 2));
    Unlinkable const lie(path("gone"));
    ToldHoldings held;
    held.files[sha256(kBytes)] = lie.path();
    auto const pulled = run(plan_of("a", kBytes), with(held));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_EQ(content("a.gguf"), kBytes);
    EXPECT_EQ(pulled->fetched, kBytes.size());
}

TEST_F(PullTest, AWrongLinkIsReplacedAlsoBesideFilesThatNoPullBrought) {
    auto const other = test::some_bytes(kBytes.size(), 2);
    write("a.gguf", kBytes);
    write("lie.gguf", other);
    ToldHoldings held;
    held.files[sha256(kBytes)] = path("lie.gguf");
    auto const plan = [&](FileServer const& from) {
        auto both = plan_of("a", kBytes);
        both.files.push_back(both.files[0]);
        both.files[1].name = "b.gguf";
        both.files[1].url = *parse_url(from.url("/b"));
        return both;
    };
    {
        FileServer const nothing("127.0.0.1", [](Asked const&) { return test::Reply{.status = 404}; });
        EXPECT_EQ(run(plan(nothing), with(held)).error().code, Code::not_found);
        EXPECT_FALSE(exists("b.gguf")) << "it would be in the way of the next pull";
    }
    auto const pulled = run(plan(server), with(held));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_TRUE(pulled->found);
    EXPECT_EQ(content("b.gguf"), kBytes);
    EXPECT_EQ(content("lie.gguf"), other);
}

TEST_F(PullTest, WhoWaitsForTheSameBytesSaysSo) {
    ToldHoldings held;
    held.refused = 1;
    std::vector<Stage> stages;
    auto hooks = with(held);
    hooks.progress = [&](std::size_t, FileProgress const& progress) { stages.push_back(progress.stage); };
    auto const pulled = run(plan_of("a", kBytes), hooks);
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_EQ(held.begun, 2);
    ASSERT_FALSE(stages.empty());
    EXPECT_EQ(stages.front(), Stage::locked);
    EXPECT_EQ(content("a.gguf"), kBytes);
}

TEST_F(PullTest, WhoWaitsCanBeStopped) {
    ToldHoldings held;
    held.refused = 1'000'000;
    auto hooks = with(held);
    hooks.stopped = [] { return true; };
    auto const pulled = run(plan_of("a", kBytes), hooks);
    ASSERT_FALSE(pulled);
    EXPECT_EQ(pulled.error().code, Code::cancelled);
    EXPECT_TRUE(held.ended.empty()) << "it never had the right";
    expect_only("");
}

TEST_F(PullTest, WhatDidNotComeIsToldToThoseWhoWait) {
    ToldHoldings held;
    auto plan = plan_of("a", "other bytes than there are");
    plan.files[0].size = kBytes.size();
    auto const pulled = run(std::move(plan), with(held));
    EXPECT_EQ(pulled.error().code, Code::corrupt);
    ASSERT_EQ(held.ended.size(), 1U);
    EXPECT_EQ(held.ended[0].second, "");
}

TEST_F(PullTest, WhatLayThereBeforeIsFound) {
    write("a.gguf", kBytes);
    auto const first = run(plan_of("a", kBytes));
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_TRUE(first->found);
    auto const again = run(plan_of("a", kBytes));
    EXPECT_FALSE(again->found) << "by now a pull has noted it";
}

// --- whose a name is ---

TEST_F(PullTest, ANameWhoseFilesAreOnTheirWayIsNotTaken) {
    FileServer const elsewhere("127.0.0.1", serving("other bytes"));
    Result<Pulled> one = Error(Code::internal, "did not end"), two = one;
    net::Loop loop;
    auto client = Client::create(loop, client_options);
    ASSERT_TRUE(client);
    Downloader first(loop, **client, options), second(loop, **client, options);
    bool begun = false;
    PullHooks hooks;
    hooks.progress = [&](std::size_t, FileProgress const& progress) {
        if (progress.stage != Stage::connecting || std::exchange(begun, true)) return;
        loop.spawn(run_into(loop, second, plan_from(elsewhere, "two"), folder, {}, two));
    };
    loop.spawn(run_into(loop, first, plan_of("a", kBytes), folder, hooks, one));
    loop.run();
    ASSERT_TRUE(one) << one.error().message;
    ASSERT_FALSE(two);
    EXPECT_EQ(two.error().code, Code::invalid_argument);
    EXPECT_NE(two.error().message.find("is being fetched from test/a"), std::string::npos) << two.error().message;
    EXPECT_EQ(content("a.gguf"), kBytes);
    EXPECT_EQ(read_note(folder, "a")->source, "test/a");
    EXPECT_TRUE(elsewhere.asked().empty());
}

TEST_F(PullTest, OfTwoRepositoriesAtOnceEachGetsAName) {
    FileServer const elsewhere("127.0.0.1", serving("other bytes"));
    auto plan_one = plan_of("a", kBytes), plan_two = plan_from(elsewhere, "two/repo");
    plan_one.other_name = "one/a";
    plan_two.other_name = "two/a";
    Result<Pulled> one = Error(Code::internal, "did not end"), two = one;
    std::string planned;
    PullHooks hooks;
    hooks.planned = [&](Plan const& plan) { planned = plan.files[0].name; };
    net::Loop loop;
    auto client = Client::create(loop, client_options);
    ASSERT_TRUE(client);
    Downloader first(loop, **client, options), second(loop, **client, options);
    loop.spawn(run_into(loop, first, plan_one, folder, {}, one));
    loop.spawn(run_into(loop, second, plan_two, folder, hooks, two));
    loop.run();
    ASSERT_TRUE(one) << one.error().message;
    ASSERT_TRUE(two) << two.error().message;
    EXPECT_EQ(one->model, "a");
    EXPECT_EQ(two->model, "two/a");
    EXPECT_EQ(planned, "two%2Fa.gguf") << "what comes is told by the name it gets";
    EXPECT_EQ(content("a.gguf"), kBytes);
    EXPECT_EQ(content("two%2Fa.gguf"), "other bytes");
}

TEST_F(PullTest, ANameThatAnotherSourceGaveUpIsFree) {
    ASSERT_TRUE(write_note(folder, "a", {"one", "", {}, {}}));
    auto const pulled = run(plan_of("a", kBytes));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_FALSE(pulled->found);
    EXPECT_EQ(read_note(folder, "a")->source, "test/a");
}

TEST_F(PullTest, ACopyOnItsWayIsNotReplaced) {
    auto const other = test::some_bytes(kBytes.size(), 2);
    auto copy = PartialFile::open(path("a.gguf"));
    ASSERT_TRUE(copy);
    PullHooks hooks;
    hooks.progress = [&](std::size_t, FileProgress const& progress) {
        if (progress.stage != Stage::locked || !*copy) return;
        write("a.gguf", other);
        (*copy)->discard();
        copy->reset();
    };
    auto const pulled = run(plan_of("a", kBytes), hooks);
    ASSERT_FALSE(pulled);
    EXPECT_EQ(pulled.error().code, Code::invalid_argument) << pulled.error().message;
    EXPECT_EQ(content("a.gguf"), other);
    expect_only("a.gguf");
}

TEST_F(PullTest, WhoChangesTheFolderIsWaitedFor) {
    std::optional<Result<FolderLock>> held(FolderLock::take(folder));
    PullHooks hooks;
    hooks.stopped = [] { return true; };
    EXPECT_EQ(run(plan_of("a", kBytes), hooks).error().code, Code::cancelled);
    EXPECT_TRUE(server.asked().empty());
    expect_only("");
    hooks.stopped = [&] {
        held.reset();
        return false;
    };
    auto const pulled = run(plan_of("a", kBytes), hooks);
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_FALSE(held) << "it asked whether to go on waiting";
}

TEST_F(PullTest, ANoteThatAnotherPullNeedsStays) {
    auto const plan = plan_of("a", kBytes);
    EXPECT_FALSE(is_claimed(folder, "a"));
    auto first = Claim::take(folder, plan);
    {
        auto const second = Claim::take(folder, plan);
        ASSERT_TRUE(first && second);
        EXPECT_TRUE(is_claimed(folder, "a"));
        first->give_up(plan);
        EXPECT_TRUE(exists("a.hearth.json"));
    }
    first->give_up(plan);
    expect_only("");
}

// --- what is fetched once more ---

TEST_F(PullTest, OfARepositoryWithSeveralTheOneThatWasPulledIsPlannedAgain) {
    std::string const usual(64, 'a'), chosen(64, 'b');
    auto const entry = [](std::string const& name, std::string const& hash) {
        return fmt::format(R"({{"rfilename":"{}","size":1,"lfs":{{"sha256":"{}"}}}})", name, hash);
    };
    auto const listing = fmt::format(R"({{"sha":"{}","siblings":[{},{}]}})", std::string(40, 'c'),
                                     entry("m-Q4_K_M.gguf", usual), entry("m-Q8_0.gguf", chosen));
    FileServer const hub("127.0.0.1", [&](Asked const&) { return test::Reply{.body = listing}; });
    HubOptions hub_options;
    hub_options.endpoint = hub.url("");
    auto const plan = [&](std::vector<NotedFile> const& again) {
        Result<Plan> result = Error(Code::internal, "did not end");
        net::Loop loop;
        auto client = Client::create(loop, client_options);
        EXPECT_TRUE(client);
        loop.spawn(plan_into(**client, hub_options, again, result));
        loop.run();
        return result;
    };
    auto const first = plan({});
    ASSERT_TRUE(first) << first.error().message;
    EXPECT_EQ(first->files[0].sha256, usual);
    auto again = plan({{"renamed.gguf", 1, chosen, ""}});
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->files[0].sha256, chosen);
    EXPECT_EQ(again->source, "hf.co/org/repo");
    ASSERT_TRUE(rename(*again, "renamed"));
    EXPECT_TRUE(hold_to(*again, {"hf.co/org/repo", "", {{"renamed.gguf", 1, chosen, ""}}, {}}));
}

TEST_F(PullTest, WhatAHubRefusesIsToldAsThat) {
    for (unsigned const status : {401U, 403U}) {
        FileServer const hub("127.0.0.1", [status](Asked const&) { return test::Reply{.status = status}; });
        HubOptions hub_options;
        hub_options.endpoint = hub.url("");
        Result<Plan> plan = Error(Code::internal, "did not end");
        net::Loop loop;
        auto client = Client::create(loop, client_options);
        ASSERT_TRUE(client);
        loop.spawn(plan_into(**client, hub_options, {}, plan));
        loop.run();
        ASSERT_FALSE(plan);
        EXPECT_EQ(plan.error().code, Code::unsupported);
        EXPECT_EQ(plan.error().param, kRefused);
    }
}

// --- folders of this machine ---------------------------------------------------

TEST_F(PullTest, ANameOfAnotherSourceIsLeftToIt) {
    std::string const other = kBytes + "of another repository";
    FileServer const elsewhere("127.0.0.1", serving(other));
    auto const from = [&](std::string const& source, std::string const& bytes) {
        auto plan = plan_of("a", bytes);
        plan.source = source + "/repo";
        plan.other_name = source + "/a";
        if (bytes == other) plan.files[0].url = *parse_url(elsewhere.url("/a"));
        make_way(plan, folder);
        return plan;
    };
    ASSERT_TRUE(run(from("one", kBytes)));
    EXPECT_EQ(from("one", "a newer version").model, "a") << "its own name";
    EXPECT_EQ(from("two", kBytes).model, "a") << "the same bytes are the same model";
    auto const pulled = run(from("two", other));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_EQ(pulled->model, "two/a");
    EXPECT_EQ(content("two%2Fa.gguf"), other);
    EXPECT_EQ(content("a.gguf"), kBytes);
    auto const again = run(from("two", other));
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->fetched, 0U) << "it is found there";
}

TEST_F(PullTest, AFolderWithOneModelIsThatModel) {
    write("mine/m-00001-of-00002.gguf", "1");
    write("mine/m-00002-of-00002.gguf", "2");
    write("mine/README.md", "x");
    auto const pulled = import_local({path("mine/")}, "", path("models"));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_EQ(pulled->model, "m");
    EXPECT_TRUE(fs::equivalent(path("mine/m-00002-of-00002.gguf"), path("models/m-00002-of-00002.gguf")));
    auto const named = import_local({path("mine")}, "other", path("models"));
    ASSERT_TRUE(named) << named.error().message;
    EXPECT_TRUE(exists("models/other-00001-of-00002.gguf"));
    write("mine/n.gguf", "3");
    auto const several = import_local({path("mine")}, "", path("models"));
    ASSERT_FALSE(several);
    EXPECT_NE(several.error().message.find("holds 2 models"), std::string::npos) << several.error().message;
}

TEST_F(PullTest, AFolderOfSafetensorsStaysAFolder) {
    for (auto const* name : {"config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin"})
        write(std::string("mine/") + name, name);
    auto const pulled = import_local({path("mine")}, "", path("models"));
    ASSERT_TRUE(pulled) << pulled.error().message;
    EXPECT_EQ(pulled->model, "mine");
    EXPECT_EQ(pulled->files.size(), 3U);
    EXPECT_TRUE(fs::equivalent(path("mine/model.safetensors"), path("models/mine/model.safetensors")));
    EXPECT_FALSE(exists("models/mine/pytorch_model.bin"));
    for (auto const* name : {"config.json", "model.safetensors", "modules.json", "1_Pooling/config.json",
                             "1_Pooling/other.json", "2_Dense/deeper/config.json", ".git/config.json"})
        write(std::string("parts/") + name, name);
    auto const parts = import_local({path("parts")}, "", path("models"));
    ASSERT_TRUE(parts) << parts.error().message;
    EXPECT_EQ(parts->files.size(), 4U);
    EXPECT_EQ(content("models/parts/1_Pooling/config.json"), "1_Pooling/config.json") << "it says how to pool";
    fs::create_directory(path("empty"));
    EXPECT_EQ(import_local({path("empty")}, "", path("models")).error().code, Code::not_found);
    EXPECT_EQ(import_local({path("nothing")}, "", path("models")).error().code, Code::not_found);
}

// --- leftovers -------------------------------------------------------------------

TEST_F(PullTest, OnlyWhatNobodyGoesOnWithIsSwept) {
    for (auto const* name : {"a.gguf", "a.gguf.partial", "a.gguf.partial.state", "job.gguf.partial", "m.hearth.json",
                             "m.hearth.json.new", "repo/x.safetensors.partial", "repo/1_Pooling/config.json.partial",
                             "large/y.safetensors.partial", "notes.new"})
        write(name, "x");
    fs::create_symlink(path("a.gguf"), path("link.partial"));
    std::set<std::string> const owned{"job.gguf", "large/config.json"};
    auto const now = std::chrono::system_clock::now();
    EXPECT_EQ(sweep_leftovers(folder, owned, now), std::vector<std::string>{"m.hearth.json.new"}) << "of no use";
    EXPECT_TRUE(sweep_leftovers(folder, owned, now + kNewKept + std::chrono::minutes(1)).empty()) << "the rest is new";
    auto const later = now + kPartialKept + std::chrono::minutes(1);
    auto const gone = sweep_leftovers(folder, owned, later);
    EXPECT_EQ(std::set<std::string>(gone.begin(), gone.end()),
              (std::set<std::string>{"a.gguf.partial", "a.gguf.partial.state", "repo/x.safetensors.partial",
                                     "repo/1_Pooling/config.json.partial"}));
    for (auto const* name : {"a.gguf", "job.gguf.partial", "m.hearth.json", "notes.new", "large/y.safetensors.partial"})
        EXPECT_TRUE(exists(name)) << name;
    EXPECT_TRUE(fs::is_symlink(path("link.partial")));
    auto const rest = sweep_leftovers(folder, {}, later);
    EXPECT_EQ(std::set<std::string>(rest.begin(), rest.end()),
              (std::set<std::string>{"job.gguf.partial", "large/y.safetensors.partial"}));
    EXPECT_TRUE(sweep_leftovers(path("nothing"), {}, later).empty());
}

TEST_F(PullTest, WhatACrashedCreateWasPuttingThereIsSwept) {
    for (auto const* name : {"m.gguf", "m.gguf.new", "m-00001-of-00002.gguf.new", "m.lora-1.new", "lora-1.new",
                             "m.lora-x.new", "m.lora-.new"})
        write(name, "x");
    fs::create_hard_link(path("m.gguf"), path("link.gguf.new"));
    fs::last_write_time(path("m.gguf"), fs::file_time_type::clock::now() - 48 * std::chrono::hours(1));
    auto const now = std::chrono::system_clock::now();
    auto const later = now + kNewKept + std::chrono::minutes(1);
    {
        auto const somebody = FolderLock::take(folder);
        ASSERT_TRUE(somebody);
        EXPECT_TRUE(sweep_leftovers(folder, {}, now).empty()) << "these may be coming";
        EXPECT_TRUE(sweep_leftovers(folder, {}, later).empty()) << "these, too";
    }
    EXPECT_EQ(sweep_leftovers(folder, {}, now), std::vector<std::string>{"m.lora-1.new"})
        << "models may be another program's; a link is as old as its name, not as its bytes";
    auto const gone = sweep_leftovers(folder, {}, later);
    EXPECT_EQ(std::set<std::string>(gone.begin(), gone.end()),
              (std::set<std::string>{"m.gguf.new", "m-00001-of-00002.gguf.new", "link.gguf.new"}));
    EXPECT_TRUE(exists("m.gguf"));
}

TEST_F(PullTest, ANoteThatIsBeingWrittenIsNotSwept) {
    auto const name = path("m.hearth.json.new");
    write("m.hearth.json.new", "{");
    int const writer = ::open(name.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_EQ(::flock(writer, LOCK_EX | LOCK_NB), 0) << "as write_whole() does";
    auto const now = std::chrono::system_clock::now();
    EXPECT_TRUE(sweep_leftovers(folder, {}, now).empty());
    EXPECT_TRUE(sweep_leftovers(folder, {}, now + 48 * std::chrono::hours(1)).empty()) << "however old it is";
    ::close(writer);
    EXPECT_EQ(sweep_leftovers(folder, {}, now), std::vector<std::string>{"m.hearth.json.new"});
    write("mine", "{");
    fs::create_symlink(path("mine"), name);
    EXPECT_TRUE(sweep_leftovers(folder, {}, now).empty()) << "nobody's leftover";
    EXPECT_TRUE(fs::is_symlink(name) && exists("mine"));
}

TEST_F(PullTest, ADownloadThatCouldGoOnIsKeptForADay) {
    for (auto const* name : {"a.gguf.partial", "a.gguf.partial.state", "b.gguf.partial", "a.gguf.partial.state.new"})
        write(name, "x");
    EXPECT_EQ(sweep_leftovers(folder, {}, std::chrono::system_clock::now() + kPartialKept - std::chrono::minutes(1)),
              std::vector<std::string>{"a.gguf.partial.state.new"});
    EXPECT_TRUE(exists("a.gguf.partial") && exists("a.gguf.partial.state") && exists("b.gguf.partial"));
}

TEST_F(PullTest, WhatSomebodyHoldsIsNotSwept) {
    auto held = PartialFile::open(path("a.gguf"));
    ASSERT_TRUE(held);
    auto const later = std::chrono::system_clock::now() + kPartialKept + std::chrono::minutes(1);
    EXPECT_TRUE(sweep_leftovers(folder, {}, later).empty());
    EXPECT_TRUE(exists("a.gguf.partial"));
    held->reset();
    EXPECT_EQ(sweep_leftovers(folder, {}, later), std::vector<std::string>{"a.gguf.partial"});
}

}  // namespace
}  // namespace hearth::fetch
