#include "library/blobs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "digest/sha256.h"
#include "http/server.h"
#include "library/library.h"
#include "library/testing/library_fixture.h"
#include "testing/gguf_writer.h"
#include "testing/temporary_folder.h"

namespace hearth::library {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class BlobsTest : public ::testing::Test {
protected:
    BlobStore store(BlobStore::Options options = {}) {
        options.folder = folder / "blobs";
        options.bytes_spare = 0;
        return BlobStore(options);
    }
    static Status put(BlobStore const& blobs, std::string const& name, std::string_view what) {
        HEARTH_TRY(auto const upload, blobs.begin(name, what.size()));
        if (!upload) return Error(Code::internal, "it was there");
        for (std::size_t at = 0; at < what.size(); at += 1000) HEARTH_CHECK(upload->append(what.substr(at, 1000)));
        return upload->finish();
    }
    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> out;
        for (auto const& entry : fs::directory_iterator(folder / "blobs")) out.push_back(entry.path().filename());
        std::ranges::sort(out);
        return out;
    }
    [[nodiscard]] std::string content(std::string const& of) const {
        std::ifstream file(folder / "blobs" + "/sha256-" + of, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }

    hearth::testing::TemporaryFolder folder;
    std::string const bytes = std::string(12'345, 'x') + "end";
    std::string const hex = digest::sha256_hex(bytes);
};

TEST(Digest, IsSixtyFourDigitsAndNothingElse) {
    std::string const hex(64, 'a');
    EXPECT_EQ(*parse_digest("sha256:" + hex), hex);
    EXPECT_EQ(*parse_digest("sha256-" + hex), hex);
    for (std::string const& text :
         {hex, "sha256:" + hex.substr(1), "sha256:" + hex + "a", "sha512:" + hex, "SHA256:" + hex,
          "sha256:" + std::string(64, 'A'), "sha256:" + std::string(63, 'a') + "/",
          std::string("sha256:../../etc/passwd"), "sha256:" + hex + std::string("\0", 1), std::string()})
        EXPECT_EQ(parse_digest(text).error().code, Code::invalid_argument) << text;
}

TEST_F(BlobsTest, WhatHasItsDigestIsThereUnderIt) {
    auto const blobs = store();
    EXPECT_FALSE(blobs.has(hex));
    auto const done = put(blobs, hex, bytes);
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_TRUE(blobs.has(hex));
    EXPECT_EQ(content(hex), bytes);
    EXPECT_EQ(names(), std::vector<std::string>{"sha256-" + hex});
    struct ::stat file{};
    ASSERT_EQ(::stat((folder / "blobs" + "/sha256-" + hex).c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 0777U, 0644U) << "as all models are, and one made of it is this file";
    ASSERT_EQ(::stat((folder / "blobs").c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 0777U, 0700U) << "until then nobody else's business";
    auto const again = blobs.begin(hex, bytes.size());
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, nullptr) << "it is there";
}

TEST_F(BlobsTest, AnotherDigestGetsNoName) {
    auto const blobs = store();
    std::string const other(64, '0');
    auto const refused = put(blobs, other, bytes);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::corrupt);
    EXPECT_EQ(refused.error().message,
              "digest mismatch, expected \"sha256:" + other + "\", got \"sha256:" + hex + "\"");
    EXPECT_TRUE(names().empty());
}

TEST_F(BlobsTest, AnUploadThatIsGivenUpLeavesNothing) {
    auto const blobs = store();
    {
        auto const upload = blobs.begin(hex, std::nullopt);
        ASSERT_TRUE(upload);
        ASSERT_TRUE((*upload)->append(bytes));
        EXPECT_EQ(names().size(), 1U);
        EXPECT_TRUE(names().front().starts_with(".")) << "private until it is whole";
    }
    EXPECT_TRUE(names().empty());
}

TEST_F(BlobsTest, SizeAndNumberAreBounded) {
    auto const small = store({.folder = {}, .bytes_max = 100});
    EXPECT_EQ(small.begin(hex, 101).error().code, Code::too_large);
    auto const unknown = small.begin(hex, std::nullopt);
    ASSERT_TRUE(unknown);
    EXPECT_TRUE((*unknown)->append(std::string(100, 'x')));
    auto const more = (*unknown)->append("x");
    EXPECT_EQ(more.error().message, "a blob may have 100 bytes at most");
    auto const few = store({.folder = {}, .blobs_max = 2});
    ASSERT_TRUE(put(few, hex, bytes));
    EXPECT_EQ(few.begin(std::string(64, '1'), 1).error().code, Code::overloaded) << "one is here, one on its way";
}

TEST_F(BlobsTest, ADiskWithoutRoomIsToldBeforeTheFirstByte) {
    auto options = BlobStore::Options{.folder = folder / "blobs"};
    options.bytes_spare = std::uint64_t{1} << 62;
    auto const refused = BlobStore(options).begin(hex, 5);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::exhausted);
    EXPECT_NE(refused.error().message.find("5 bytes are needed"), std::string::npos) << refused.error().message;
    EXPECT_TRUE(names().empty());
}

TEST_F(BlobsTest, OneWhoseSizeNobodySaidStopsBeforeTheDiskIsFull) {
    std::uint64_t free = 1000;
    BlobStore const blobs({.folder = folder / "blobs", .bytes_spare = 1000, .free_bytes = [&](auto const&) {
                               return Result<std::uint64_t>(free);
                           }});
    auto const known = blobs.begin(hex, 1);
    ASSERT_FALSE(known);
    EXPECT_EQ(known.error().code, Code::exhausted);
    auto const upload = blobs.begin(hex, std::nullopt);
    ASSERT_TRUE(upload);
    std::string const piece(std::size_t{32} << 20, 'x');
    free = 999;
    ASSERT_TRUE((*upload)->append(piece)) << "it is not looked at every time";
    ASSERT_TRUE((*upload)->append(piece));
    auto const refused = (*upload)->append("x");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(), Error(Code::exhausted,
                                     "no room on the disk after 67108864 bytes: 1000 are to be left, "
                                     "999 are free"));
    free = 1000;
    EXPECT_TRUE((*upload)->append("x")) << "others have made room";
}

TEST_F(BlobsTest, ABlobGetsAFurtherName) {
    auto const blobs = store();
    ASSERT_TRUE(put(blobs, hex, bytes));
    ASSERT_TRUE(blobs.link(hex, folder / "model.gguf"));
    EXPECT_TRUE(fs::equivalent(folder / "model.gguf", folder / "blobs" + "/sha256-" + hex));
    auto const missing = blobs.link(std::string(64, '0'), folder / "other.gguf");
    EXPECT_EQ(missing.error().code, Code::not_found);
}

TEST_F(BlobsTest, WhatNobodyUsedForADayGoesAndWhatIsUsedStays) {
    auto const blobs = store();
    ASSERT_TRUE(put(blobs, hex, bytes));
    auto const now = std::chrono::system_clock::now();
    blobs.tidy(now + 23h);
    EXPECT_TRUE(blobs.has(hex));
    std::ofstream(folder / "blobs" + "/somebody elses") << "x";
    blobs.tidy(now + 25h);
    EXPECT_FALSE(blobs.has(hex));
    EXPECT_EQ(names(), std::vector<std::string>{"somebody elses"});
}

TEST_F(BlobsTest, UseBeginsItsTimeAnewAndIsNoChangeOfTheModelsMadeOfIt) {
    auto const blobs = store();
    ASSERT_TRUE(put(blobs, hex, bytes));
    auto const path = folder / "blobs" + "/sha256-" + hex;
    auto const now = std::chrono::system_clock::now();
    ::timespec const old{.tv_sec = std::chrono::system_clock::to_time_t(now - 25h), .tv_nsec = 0};
    auto const is_used_by = [&](auto const& use) {
        ::timespec const times[2] = {old, old};
        ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
        use();
        struct ::stat file{};
        ASSERT_EQ(::stat(path.c_str(), &file), 0);
        EXPECT_EQ(file.st_mtim.tv_sec, old.tv_sec);
        blobs.tidy(now);
        EXPECT_TRUE(fs::exists(path));
    };
    is_used_by([&] { EXPECT_TRUE(blobs.link(hex, folder / "model.gguf")); });
    is_used_by([&] { EXPECT_TRUE(blobs.has(hex)); });
    is_used_by([&] {
        auto const again = blobs.begin(hex, bytes.size());
        EXPECT_TRUE(again && *again == nullptr);
    });
}

TEST_F(BlobsTest, WhatBeginsWhileSomebodyTidiesIsNotTakenForLeftBehind) {
    auto const blobs = store();
    ASSERT_TRUE(put(blobs, hex, bytes));
    std::jthread const tidying([&](std::stop_token const& stop) {
        while (!stop.stop_requested()) blobs.tidy(std::chrono::system_clock::now());
    });
    for (int i = 0; i < 100; ++i) {
        auto const upload = blobs.begin(std::string(64, '1'), std::nullopt);
        ASSERT_TRUE(upload) << upload.error().message;
        auto const staging = StagingFolder::create(blobs.folder());
        ASSERT_TRUE(staging) << staging.error().message;
        ASSERT_TRUE(fs::is_directory(staging->path()));
        ASSERT_TRUE(put(blobs, digest::sha256_hex(std::to_string(i)), std::to_string(i)));
    }
}

TEST_F(BlobsTest, WhatAKilledProcessLeftGoesAndWhatIsOnItsWayStays) {
    auto const blobs = store();
    ASSERT_TRUE(put(blobs, hex, bytes));
    auto const running = blobs.begin(std::string(64, '1'), 1);
    ASSERT_TRUE(running);
    int const child = ::fork();
    if (child == 0) {
        auto const upload = blobs.begin(std::string(64, '2'), 5);
        auto const folder_of_it = StagingFolder::create(blobs.folder());
        bool const begun = upload && (*upload)->append("half") && folder_of_it;
        if (begun) ::kill(::getpid(), SIGKILL);
        ::_exit(1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    auto const staging = StagingFolder::create(blobs.folder());
    ASSERT_TRUE(staging);
    EXPECT_EQ(names().size(), 5U);
    blobs.tidy(std::chrono::system_clock::now());
    EXPECT_EQ(names().size(), 3U) << "the blob, the upload and the folder that live";
    EXPECT_TRUE(blobs.has(hex));
    EXPECT_TRUE(fs::exists(staging->path()));
    EXPECT_TRUE((*running)->append("x"));
}

TEST_F(BlobsTest, AStagingFolderGoesWithAllThatIsInIt) {
    std::string path;
    {
        auto made = StagingFolder::create(folder / "models");
        ASSERT_TRUE(made);
        auto const moved = *std::move(made);
        path = moved.path();
        std::ofstream(path + "/file") << "x";
        EXPECT_TRUE(fs::exists(path + "/file"));
    }
    EXPECT_FALSE(fs::exists(path));
}

// Its manifests say what they are told to, and it has no bytes at all.
class EmptyRegistry {
public:
    EmptyRegistry(net::Loop& loop, telemetry::Log& log, telemetry::Registry& metrics) {
        std::vector<http::Route> routes;
        routes.emplace_back(http::Method::get, "/v2/{rest...}", http::Permission::anyone, http::RouteLimits{0},
                            [this](http::Exchange& exchange) { return answer(exchange); });
        http::Options options;
        options.port = 0;
        auto const no_error = [](http::Request const&, unsigned, Error const&) { return http::Response(); };
        auto created = http::Server::create(loop, options, std::move(routes), no_error, log, metrics);
        EXPECT_TRUE(created) << (created ? "" : created.error().message);
        if (created) server_ = *std::move(created);
    }
    // Where a model is that has those bytes, as it says.
    std::string add(std::string const& model, std::string const& bytes) {
        manifests_["/v2/me/" + model + "/manifests/latest"] =
            R"({"schemaVersion": 2, "layers": [{"mediaType": "application/vnd.ollama.image.model", )"
            R"("digest": "sha256:)" +
            digest::sha256_hex(bytes) + R"(", "size": )" + std::to_string(bytes.size()) + "}]}";
        return "127.0.0.1:" + std::to_string(server_->port()) + "/me/" + model;
    }

private:
    net::Task<void> answer(http::Exchange& exchange) {
        http::Response response;
        auto const manifest = manifests_.find(exchange.request().path);
        if (manifest != manifests_.end()) response.body = manifest->second;
        else response.status = 404;
        co_await exchange.send(std::move(response));
    }

    std::map<std::string, std::string> manifests_;
    std::unique_ptr<http::Server> server_;
};

class DigestsOfModels : public testing::LibraryTest {
public:
    // Why a pull of it fails; empty: it does not.
    net::Task<std::string> pull(std::string name, std::string source) {
        PullWish wish;
        wish.model = std::move(name);
        wish.source = std::move(source);
        auto const job = co_await library->pull(std::move(wish));
        if (!job) co_return job.error().message;
        auto const feed = co_await library->watch(job->id);
        while (!jobs::is_final((*feed)->job().state)) static_cast<void>(co_await (*feed)->changed_within(1s));
        co_return (*feed)->job().error;
    }
};

TEST_F(DigestsOfModels, GetNobodyAModelByAPullThatMayNotBeLoaded) {
    auto const ours = models::testing::tiny_llama().build(), theirs = models::testing::tiny_llama(0, 64).build();
    place("team-a.gguf", ours);
    note("team-a", ours);
    place("secret.gguf", theirs);
    note("secret", theirs);
    EmptyRegistry registry(loop, *log, metrics);
    auto wanted = options();
    wanted.allowed = {"team-*"};
    create(std::move(wanted));
    run([](DigestsOfModels& t, std::string known, std::string hidden) -> net::Task<void> {
        co_await t.library->settled();
        auto const of_ours = co_await t.pull("team-b", known);
        EXPECT_EQ(of_ours, "");
        EXPECT_TRUE(fs::exists(t.folder / "team-b.gguf"));
        auto const of_theirs = co_await t.pull("team-x", hidden);
        EXPECT_NE(of_theirs.find("404"), std::string::npos) << of_theirs << ": no name is a way to another model";
        EXPECT_FALSE(fs::exists(t.folder / "team-x.gguf"));
    }(*this, registry.add("known", ours), registry.add("hidden", theirs)));
}

TEST_F(DigestsOfModels, TellNothingOfAModelThatMayNotBeLoaded) {
    auto const ours = models::testing::tiny_llama().build(), theirs = models::testing::tiny_llama(0, 64).build();
    place("team-a.gguf", ours);
    note("team-a", ours);
    place("secret.gguf", theirs);
    note("secret", theirs);
    auto wanted = options();
    wanted.allowed = {"team-*"};
    create(std::move(wanted));
    run([](DigestsOfModels& t, std::string known, std::string hidden) -> net::Task<void> {
        co_await t.library->settled();
        auto const uploads = t.library->uploads();
        if (!uploads) co_return fail_here(uploads.error().message);
        auto const has_ours = co_await (*uploads)->has(known);
        EXPECT_TRUE(has_ours && *has_ours);
        auto const has_theirs = co_await (*uploads)->has(hidden);
        EXPECT_TRUE(has_theirs && !*has_theirs) << "who asks may guess that it is here";
        CreateOrder order;
        order.name = "team-x";
        order.files = {{"m.gguf", hidden}};
        auto const creation = co_await t.library->create(std::move(order));
        if (!creation) co_return fail_here(creation.error().message);
        while ((*creation)->result() == nullptr) static_cast<void>(co_await (*creation)->changed_within(1s));
        EXPECT_FALSE(*(*creation)->result()) << "a name of its own is no way to another model";
    }(*this, "sha256:" + digest::sha256_hex(ours), "sha256:" + digest::sha256_hex(theirs)));
}

}  // namespace
}  // namespace hearth::library
