#include "fetch/downloader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string_view>
#include <utility>

#include "fetch/partial_file.h"
#include "fetch/testing/fetch_fixture.h"
#include "fetch/throttle.h"

namespace hearth::fetch::test {
namespace {

class DownloaderTest : public FetchFixture {
protected:
    std::string const content_ = some_bytes(100'000);
    std::string const etag_ = "\"one\"";
    Handler const plain_ = [this](Asked const& asked) { return serve_file(asked, content_, etag_); };
};

TEST_F(DownloaderTest, FetchesByRangesAndLeavesOneFile) {
    FileServer server("127.0.0.1", plain_);
    auto const result = fetch(request(server));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->size, content_.size());
    EXPECT_EQ(result->sha256, sha256(content_));
    EXPECT_EQ(result->etag, etag_);
    EXPECT_EQ(result->fetched, content_.size());
    EXPECT_EQ(content(), content_);
    EXPECT_EQ(server.body_bytes(), content_.size());
    EXPECT_EQ(server.asked().size(), 7U);  // of 16 KiB
    EXPECT_LE(server.connections(), 4U);
    expect_only("file");
}

TEST_F(DownloaderTest, TakesOneStreamWhereThereAreNoRanges) {
    for (bool const chunked : {false, true}) {
        FileServer server("127.0.0.1", [&](Asked const&) { return Reply{.body = content_, .chunked = chunked}; });
        std::filesystem::remove(path());
        auto const result = fetch(request(server));
        ASSERT_TRUE(result) << result.error().message;
        EXPECT_EQ(content(), content_);
        EXPECT_EQ(server.asked().size(), 1U);
        expect_only("file");
    }
}

TEST_F(DownloaderTest, FetchesAnEmptyFile) {
    FileServer server("127.0.0.1", [&](Asked const& asked) { return serve_file(asked, "", etag_); });
    auto const result = fetch(request(server));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_TRUE(exists("file"));
    EXPECT_EQ(content(), "");
}

TEST_F(DownloaderTest, IsWholeWhereverAConnectionWasCut) {
    for (std::uint64_t percent = 0; percent < 100; ++percent) {
        auto const cut = content_.size() * percent / 100;
        bool was_cut = false;
        FileServer server("127.0.0.1", [&](Asked const& asked) {
            auto reply = serve_file(asked, content_, etag_);
            bool const here = !was_cut && asked.range && asked.range->first <= cut && cut <= asked.range->second;
            if (here) reply.cut_after = cut - asked.range->first;
            was_cut = was_cut || here;
            return reply;
        });
        std::filesystem::remove(path());
        auto const result = fetch(request(server));
        ASSERT_TRUE(result) << percent << ": " << result.error().message;
        ASSERT_TRUE(was_cut) << percent;
        ASSERT_EQ(content(), content_) << percent;
        ASSERT_EQ(server.body_bytes(), content_.size()) << percent << ": nothing is fetched twice";
        expect_only("file");
    }
}

TEST_F(DownloaderTest, GoesOnThoughEveryAnswerIsCut) {
    FileServer server("127.0.0.1", [&](Asked const& asked) {
        auto reply = serve_file(asked, content_, etag_);
        reply.cut_after = 1000;
        return reply;
    });
    auto const result = fetch(request(server));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(content(), content_);
}

TEST_F(DownloaderTest, GivesUpOnAStreamThatIsAlwaysCut) {
    FileServer server("127.0.0.1", [&](Asked const&) { return Reply{.body = content_, .cut_after = 5000}; });
    auto const result = fetch(request(server));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::unavailable);
    EXPECT_NE(result.error().message.find("gave up after 6 tries"), std::string::npos) << result.error().message;
    EXPECT_EQ(server.asked().size(), 6U);
    expect_only("");
}

TEST_F(DownloaderTest, RefusesAnotherRangeThanItAskedFor) {
    for (auto const* wrong : {"bytes 1-16384/100000", "bytes 0-99999/100000", "bytes 0-16383/*", "pages 0-1/2", ""}) {
        FileServer server("127.0.0.1", [&](Asked const&) {
            return Reply{.status = 206, .headers = {{"Content-Range", wrong}}, .body = content_.substr(0, 16'384)};
        });
        auto const result = fetch(request(server));
        ASSERT_FALSE(result) << wrong;
        EXPECT_NE(result.error().message.find("was asked for bytes 0 to 16383"), std::string::npos)
            << result.error().message;
        EXPECT_EQ(server.asked().size(), options.tries_max);
        expect_only("");
    }
}

TEST_F(DownloaderTest, AFileWithTheWrongHashGetsNoName) {
    FileServer server("127.0.0.1", plain_);
    auto wanted = request(server);
    wanted.sha256 = sha256("something else");
    auto const result = fetch(wanted);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::corrupt);
    EXPECT_NE(result.error().message.find(wanted.sha256), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find(sha256(content_)), std::string::npos) << result.error().message;
    EXPECT_EQ(server.body_bytes(), content_.size() * (1 + options.fresh_starts_max));
    expect_only("");
}

TEST_F(DownloaderTest, StartsAfreshAfterAWrongHash) {
    auto bad = content_;
    bad[50'000] ^= 1;
    int first = 7;
    FileServer server("127.0.0.1",
                      [&](Asked const& asked) { return serve_file(asked, first-- > 0 ? bad : content_, etag_); });
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    auto const result = fetch(wanted);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(content(), content_);
    expect_only("file");
}

TEST_F(DownloaderTest, AFileThatChangesUnderwayIsFetchedAnew) {
    auto const other = some_bytes(content_.size(), 2);
    for (bool const other_size : {false, true}) {
        int old = 3;
        FileServer server("127.0.0.1", [&](Asked const& asked) {
            if (old-- > 0) return serve_file(asked, content_, etag_);
            return serve_file(asked, other_size ? other + "x" : other, "\"two\"");
        });
        std::filesystem::remove(path());
        auto const result = fetch(request(server));
        ASSERT_TRUE(result) << result.error().message;
        EXPECT_EQ(content(), other_size ? other + "x" : other);
        EXPECT_EQ(result->etag, "\"two\"");
        expect_only("file");
    }
}

TEST_F(DownloaderTest, RefusesAnotherSizeThanExpected) {
    FileServer server("127.0.0.1", plain_);
    auto wanted = request(server);
    wanted.size = 99'999;
    auto const result = fetch(wanted);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::corrupt);
    EXPECT_NE(result.error().message.find("100000"), std::string::npos) << result.error().message;
    EXPECT_NE(result.error().message.find("99999"), std::string::npos) << result.error().message;
    expect_only("");
}

TEST_F(DownloaderTest, WaitsAsLongAsTheServerAsks) {
    for (unsigned const status : {429U, 503U}) {
        int refusals = 2;
        FileServer server("127.0.0.1", [&](Asked const& asked) {
            if (refusals-- > 0) return Reply{.status = status, .headers = {{"Retry-After", "17"}}};
            return serve_file(asked, content_, etag_);
        });
        std::filesystem::remove(path());
        pauses.clear();
        auto const result = fetch(request(server));
        ASSERT_TRUE(result) << result.error().message;
        EXPECT_EQ(pauses, (std::vector<Duration>(2, std::chrono::seconds(17))));
        EXPECT_EQ(content(), content_);
    }
}

TEST_F(DownloaderTest, DoesNotWaitForHours) {
    FileServer server("127.0.0.1",
                      [&](Asked const&) { return Reply{.status = 503, .headers = {{"Retry-After", "3600"}}}; });
    auto const result = fetch(request(server));
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().message.find("asks to wait 3600 s, the limit is 300 s"), std::string::npos)
        << result.error().message;
    EXPECT_EQ(server.asked().size(), 1U);
}

TEST_F(DownloaderTest, BacksOffFromAServerThatFails) {
    FileServer server("127.0.0.1", [&](Asked const&) { return Reply{.status = 500}; });
    auto const result = fetch(request(server));
    ASSERT_FALSE(result);
    ASSERT_EQ(pauses.size(), options.tries_max - 1);
    EXPECT_TRUE(std::ranges::is_sorted(pauses));
    EXPECT_GE(pauses.back(), 8 * pauses.front());
}

TEST_F(DownloaderTest, SaysWhatTheServerRefuses) {
    struct Case {
        unsigned status;
        Code code;
        std::string_view param;
    };
    for (auto const& [status, code, param] :
         {Case{404, Code::not_found, ""}, Case{410, Code::not_found, ""}, Case{401, Code::unsupported, kRefused},
          Case{403, Code::unsupported, kRefused}, Case{418, Code::io, ""}}) {
        FileServer server("127.0.0.1", [&](Asked const&) { return Reply{.status = status}; });
        auto const result = fetch(request(server));
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, code);
        EXPECT_EQ(result.error().param, param);
        EXPECT_NE(result.error().message.find(std::to_string(status)), std::string::npos);
        EXPECT_EQ(server.asked().size(), 1U);
        expect_only("");
    }
}

TEST_F(DownloaderTest, LeavesAServerThatStalls) {
    client_options.stall_timeout = std::chrono::milliseconds(50);
    int stalls = 2;
    FileServer server("127.0.0.1", [&](Asked const& asked) {
        auto reply = serve_file(asked, content_, etag_);
        if (stalls-- > 0) reply.stall_after = 1000;
        return reply;
    });
    auto const result = fetch(request(server));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(content(), content_);
}

TEST_F(DownloaderTest, ACancelledDownloadGoesOnWhereItWas) {
    FileServer server("127.0.0.1", plain_);
    on_progress = [&](FileProgress const& progress) {
        if (progress.done >= 40'000) running->cancel_all();
    };
    auto const cancelled = fetch(request(server));
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, Code::cancelled);
    EXPECT_FALSE(exists("file"));
    EXPECT_TRUE(exists("file.partial"));
    auto const mode = std::filesystem::status(path("file.partial")).permissions();
    EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    on_progress = nullptr;
    // A server of its own: the first one may still be reading what was asked before the cancel.
    FileServer later("127.0.0.1", plain_);
    auto const result = fetch(request(later));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(content(), content_);
    EXPECT_LE(result->fetched, 60'000U);
    for (auto& asked : later.asked()) EXPECT_EQ(asked.headers["if-range"], etag_);
    expect_only("file");
}

TEST_F(DownloaderTest, WhatIsCancelledWhileItIsCheckedGetsNoName) {
    FileServer server("127.0.0.1", plain_);
    on_progress = [&](FileProgress const& progress) {
        if (progress.stage == Stage::verifying) running->cancel_all();
    };
    auto const cancelled = fetch(request(server));
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, Code::cancelled);
    EXPECT_FALSE(exists("file"));
    on_progress = nullptr;
    FileServer later("127.0.0.1", plain_);
    auto const result = fetch(request(later));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->sha256, sha256(content_));
    EXPECT_LE(result->fetched, 1U) << "it asks whether its bytes are still the same, and for no others";
}

TEST_F(DownloaderTest, WhatChangedSinceIsNotMixedWithWhatWasFetched) {
    FileServer server("127.0.0.1", plain_);
    on_progress = [&](FileProgress const& progress) {
        if (progress.done >= 40'000) running->cancel_all();
    };
    ASSERT_FALSE(fetch(request(server)));
    on_progress = nullptr;
    auto const now = some_bytes(content_.size(), 3);
    FileServer later("127.0.0.1", [&](Asked const& asked) { return serve_file(asked, now, "\"three\""); });
    auto const result = fetch(request(later));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(content(), now);
}

TEST_F(DownloaderTest, TwoDownloadsOfOneFileAreOne) {
    FileServer server("127.0.0.1", plain_);
    auto const results = fetch_all({request(server), request(server), request(server)});
    for (auto const& result : results) {
        ASSERT_TRUE(result) << result.error().message;
        EXPECT_EQ(result->sha256, sha256(content_));
    }
    EXPECT_EQ(server.body_bytes(), content_.size());
}

TEST_F(DownloaderTest, OnePathHasOneSource) {
    FileServer server("127.0.0.1", plain_);
    auto const results = fetch_all({request(server, "/a"), request(server, "/b")});
    EXPECT_TRUE(results[0]);
    ASSERT_FALSE(results[1]);
    EXPECT_NE(results[1].error().message.find("/a"), std::string::npos) << results[1].error().message;
}

TEST_F(DownloaderTest, WhatIsThereIsNotFetched) {
    FileServer server("127.0.0.1", plain_);
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    ASSERT_TRUE(fetch(wanted));
    auto const asked = server.asked().size();
    auto const again = fetch(wanted);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_TRUE(again->present);
    EXPECT_EQ(server.asked().size(), asked);
    expect_only("file");
}

TEST_F(DownloaderTest, WhatAnotherProcessFetchedMeanwhileIsTakenOnlyIfItIsTheSame) {
    for (bool const same : {true, false}) {
        FileServer server("127.0.0.1", plain_);
        std::filesystem::remove(path());
        auto other = PartialFile::open(path());
        ASSERT_TRUE(other);
        on_progress = [&](FileProgress const& progress) {
            if (progress.stage != Stage::locked || !*other) return;
            std::ofstream(path(), std::ios::binary) << (same ? content_ : std::string(content_.size(), 'x'));
            (*other)->discard();
            other->reset();
        };
        auto wanted = request(server);
        wanted.sha256 = sha256(content_);
        auto const result = fetch(wanted);
        ASSERT_TRUE(result) << result.error().message;
        EXPECT_EQ(result->present, same);
        EXPECT_EQ(content(), content_);
        expect_only("file");
    }
}

TEST_F(DownloaderTest, AFileThatWasDamagedIsReplaced) {
    FileServer server("127.0.0.1", plain_);
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    wanted.present_etag = etag_;  // as of what it was once
    std::ofstream(path(), std::ios::binary) << std::string(content_.size(), 'x');
    auto const result = fetch(wanted);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_FALSE(result->present);
    EXPECT_EQ(content(), content_);
}

TEST_F(DownloaderTest, TheCheckOfWhatIsThereCanBeCancelled) {
    FileServer const server("127.0.0.1", plain_);
    std::ofstream(path(), std::ios::binary) << content_;
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    on_progress = [&](FileProgress const& progress) {
        if (progress.stage == Stage::verifying) running->cancel_all();
    };
    EXPECT_EQ(fetch(wanted).error().code, Code::cancelled);
    EXPECT_TRUE(server.asked().empty());
    EXPECT_EQ(content(), content_);
    expect_only("file");
}

TEST_F(DownloaderTest, ACancelledCheckKeepsWhatAnEarlierRunFetched) {
    FileServer const server("127.0.0.1", plain_);
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    on_progress = [&](FileProgress const& progress) {
        if (progress.done >= 40'000) running->cancel_all();
    };
    ASSERT_EQ(fetch(wanted).error().code, Code::cancelled);
    // It is read whole before the server is asked.
    std::ofstream(path(), std::ios::binary) << std::string(content_.size(), 'x');
    on_progress = [&](FileProgress const& progress) {
        if (progress.stage == Stage::verifying) running->cancel_all();
    };
    ASSERT_EQ(fetch(wanted).error().code, Code::cancelled);
    EXPECT_TRUE(exists("file.partial"));
    EXPECT_TRUE(exists("file.partial.state"));
    on_progress = nullptr;
    FileServer const later("127.0.0.1", plain_);
    wanted.url = *parse_url(later.url("/file"));
    auto const result = fetch(wanted);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_LE(result->fetched, 60'000U);
    EXPECT_EQ(content(), content_);
    expect_only("file");
}

TEST_F(DownloaderTest, AFileThatCannotBeReadIsFetchedAgainWhereItMayBeReplaced) {
    FileServer const server("127.0.0.1", plain_);
    // A plain file to look at; nobody, root included, can read its first byte.
    std::filesystem::create_symlink("/proc/self/mem", path());
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    wanted.existing = Existing::keep;
    EXPECT_EQ(fetch(wanted).error().code, Code::io);
    EXPECT_TRUE(std::filesystem::is_symlink(path()));
    EXPECT_TRUE(server.asked().empty());
    wanted.existing = Existing::replace;
    auto const result = fetch(wanted);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_FALSE(std::filesystem::is_symlink(path()));
    EXPECT_EQ(content(), content_);
    expect_only("file");
}

TEST_F(DownloaderTest, ClientsThatShareAThrottleShareItsRate) {
    FileServer const server("127.0.0.1", plain_);
    auto const shared = std::make_shared<Throttle>(100'000'000);  // too fast to be waited for
    client_options.throttle = shared;
    auto const before = SteadyClock().now();
    for (auto const* name : {"one", "two"}) {  // each by a client of its own
        auto wanted = request(server);
        wanted.path = path(name);
        ASSERT_TRUE(fetch(wanted));
    }
    EXPECT_GE(shared->pass(0, before), std::chrono::microseconds(1999)) << "2 ms for 200 000 bytes";
}

TEST_F(DownloaderTest, WhatThisMachineHoldsIsCopied) {
    FileServer const server("127.0.0.1", plain_);
    std::ofstream(path("held"), std::ios::binary) << content_;
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    wanted.held = path("held");
    std::vector<std::uint64_t> steps;
    on_progress = [&](FileProgress const& progress) {
        if (progress.stage == Stage::fetching) steps.push_back(progress.done);
        EXPECT_TRUE(progress.total == content_.size() || progress.total == 0);
    };
    auto const result = fetch(wanted);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->size, content_.size());
    EXPECT_EQ(result->sha256, wanted.sha256);
    EXPECT_EQ(result->fetched, 0U);
    EXPECT_EQ(steps.size(), 7U) << "of 16 KiB";
    EXPECT_TRUE(std::ranges::is_sorted(steps));
    EXPECT_EQ(content(), content_);
    EXPECT_TRUE(server.asked().empty());
    EXPECT_FALSE(exists("file.partial"));
}

TEST_F(DownloaderTest, WhatIsNotHeldAfterAllIsFetched) {
    for (auto const& lie : {std::string("short"), std::string(content_.size(), 'x')}) {
        FileServer const server("127.0.0.1", plain_);
        std::filesystem::remove(path());
        std::ofstream(path("held"), std::ios::binary) << lie;
        auto wanted = request(server);
        wanted.sha256 = sha256(content_);
        wanted.held = path("held");
        auto const result = fetch(wanted);
        ASSERT_TRUE(result) << result.error().message;
        EXPECT_EQ(result->fetched, content_.size());
        EXPECT_FALSE(result->present);
        EXPECT_EQ(content(), content_);
        EXPECT_EQ(content("held"), lie);
    }
}

TEST_F(DownloaderTest, ACopyCanBeCancelled) {
    FileServer const server("127.0.0.1", plain_);
    std::ofstream(path("held"), std::ios::binary) << content_;
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    wanted.held = path("held");
    on_progress = [&](FileProgress const& progress) {
        if (progress.stage == Stage::fetching) running->cancel_all();
    };
    EXPECT_EQ(fetch(wanted).error().code, Code::cancelled);
    EXPECT_TRUE(server.asked().empty());
    expect_only("held");
}

TEST_F(DownloaderTest, ABegunDownloadIsGoneOnWithAndNotCopied) {
    FileServer const server("127.0.0.1", plain_);
    auto wanted = request(server);
    wanted.sha256 = sha256(content_);
    on_progress = [&](FileProgress const& progress) {
        if (progress.done >= 40'000) running->cancel_all();
    };
    ASSERT_FALSE(fetch(wanted));
    on_progress = nullptr;
    std::ofstream(path("held"), std::ios::binary) << content_;
    FileServer const later("127.0.0.1", plain_);
    wanted.url = *parse_url(later.url("/file"));
    wanted.held = path("held");
    auto const result = fetch(wanted);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_FALSE(result->present);
    EXPECT_FALSE(later.asked().empty());
    EXPECT_EQ(content(), content_);
}

TEST_F(DownloaderTest, AnUnchangedTagMeansTheFileIsThere) {
    FileServer server("127.0.0.1", plain_);
    ASSERT_TRUE(fetch(request(server)));
    auto const sent = server.body_bytes();
    auto wanted = request(server);
    wanted.present_etag = etag_;
    auto const result = fetch(wanted);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_TRUE(result->present);
    EXPECT_LE(server.body_bytes() - sent, options.piece_bytes);
    expect_only("file");
}

}  // namespace
}  // namespace hearth::fetch::test
